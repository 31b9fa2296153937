"""What a worker of a search does, and how it talks to its chief."""

import json
import signal
import socket
import threading

import pytest
import tuning_checks
from tuning_checks import end, make_oracle

from cbam_keras import data, training
from cbam_keras.tuning import folder as tuning_folder

keras_tuner = pytest.importorskip("keras_tuner")
pytest.importorskip("grpc")

from cbam_keras.tuning import remote  # noqa: E402
from cbam_keras.tuning.remote import start_server  # noqa: E402


@pytest.fixture
def address(monkeypatch):
    """Makes this process a worker of a chief on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-0")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(port))
    return f"127.0.0.1:{port}"


def test_two_clients_share_the_trials_of_a_search(tmp_path, address, capfd):
    oracle, handed = make_oracle(tmp_path / "run"), []
    server = start_server(oracle, address)

    def work(tuner_id):
        client = remote.Client(oracle)
        while (trial := client.create_trial(tuner_id)).status != "STOPPED":
            if trial.status == "RUNNING":
                handed.append(trial.trial_id)
                client.update_trial(trial.trial_id, {}, step=0)
                end(oracle, trial)
                # Reported a second time, by another process.
                client.end_trial(trial)

    threads = [
        threading.Thread(target=work, args=(f"worker-{n}",)) for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop(grace=None).wait()
    assert sorted(handed) == [f"{n:04d}" for n in range(1, 10)]
    assert oracle.finished
    # KerasTuner prints a line for each condition that it sends.
    assert capfd.readouterr().out == ""


def test_a_client_waits_for_a_chief_that_is_started_again(
    tmp_path, address, monkeypatch
):
    monkeypatch.setattr(remote, "SECONDS_PER_CALL", 1.0)
    first = make_oracle(tmp_path / "run")
    server = start_server(first, address)
    client = remote.Client(first)
    trial = client.create_trial("worker-0")
    server.stop(grace=None).wait()
    second = make_oracle(tmp_path / "run")
    second.reload()
    again = []

    def restart():
        again.append(start_server(second, address))

    timer = threading.Timer(2.0, restart)
    timer.start()
    found = client.create_trial("worker-0")
    timer.join()
    again[0].stop(grace=None).wait()
    assert found.trial_id == trial.trial_id


def test_a_chief_that_never_answers_is_reported(
    tmp_path, address, monkeypatch, capsys
):
    monkeypatch.setattr(remote, "SECONDS_PER_CALL", 0.2)
    monkeypatch.setattr(remote, "SECONDS_BETWEEN_CALLS", 0.1)
    monkeypatch.setattr(remote, "SECONDS_WITHOUT_ANSWER", 0.5)
    client = remote.Client(make_oracle(tmp_path / "run"))
    with pytest.raises(RuntimeError, match="has not answered for"):
        client.create_trial("worker-0")
    reported = capsys.readouterr().out
    assert reported.count(f"The chief does not answer at {address}") == 1


def test_a_chief_that_has_not_begun_is_waited_for(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tuning_folder, "SECONDS_TO_BEGIN", 0.1)
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError, match="has not begun"):
        tuning_folder.SearchFolder(folder, {}).join()
    assert f'begin in "{folder}"' in capsys.readouterr().out


def test_an_error_of_the_chief_is_reported(tmp_path, address):
    server = start_server(make_oracle(tmp_path / "run"), address)
    client = remote.Client(make_oracle(tmp_path / "other"))
    with pytest.raises(RuntimeError, match="The chief of the search failed"):
        client.update_trial("0042", {}, step=0)
    server.stop(grace=None).wait()


@pytest.fixture
def worker(few_digits, monkeypatch, tmp_path):
    """Returns the tuner of a worker whose chief is in this process."""
    tuning_checks.without_training(monkeypatch)
    from cbam_keras.tuning.tuner import Tuner

    tuner = Tuner(
        make_oracle(tmp_path / "run", fill=lambda hp: None, max_trials=2),
        tuning_checks.mlp,
        data.load("mnist5k", batch_size=35),
        tuning_checks.TWO,
        budget={"parameters": None, "macs": None},
    )
    tuner.is_worker = True
    tuner.tuner_id = "worker-0"
    return tuner


def test_a_worker_tells_its_name(worker):
    worker.search()
    reported = [
        outcome["worker"] for outcome in worker.own_oracle.outcomes.values()
    ]
    assert reported == ["worker-0", "worker-0"]


def test_a_worker_takes_the_exact_values_from_the_folder(worker):
    trial = worker.oracle.create_trial("worker-0")
    exact = dict(trial.hyperparameters.values)
    # As after a journey as 32-bit numbers.
    trial.hyperparameters.values["learning_rate"] += 1e-9
    worker.run_trial(trial)
    path = worker.folder / "trial_0001/outcome.json"
    assert json.loads(path.read_text())["values"] == exact


def test_a_trial_that_kills_its_process_three_times_is_given_up(worker):
    trial = worker.oracle.create_trial("worker-0")
    folder = worker.folder / f"trial_{trial.trial_id}"
    alive = []
    for attempt in (1, 2, 3):
        # Kept, so that it is not left, as in a process that is killed.
        alive.append(worker._attempt(folder))
        assert alive[-1].__enter__() == attempt
    worker.run_trial(trial)
    worker.oracle.end_trial(trial)
    reported = worker.own_oracle.outcomes[trial.trial_id]
    assert reported["outcome"] == "crashed"
    assert "died 3 times in a row" in reported["message"]


def test_a_finished_epoch_begins_the_count_again(worker):
    trial = worker.oracle.create_trial("worker-0")
    folder = worker.folder / f"trial_{trial.trial_id}"
    alive = [worker._attempt(folder), worker._attempt(folder)]
    assert [attempt.__enter__() for attempt in alive] == [1, 2]
    hp = worker._hyperparameters(trial, folder)
    worker._run(trial.trial_id, hp).into({})
    alive.append(worker._attempt(folder))
    assert alive[-1].__enter__() == 1


def test_a_worker_that_gets_sigterm_has_not_died(worker):
    trial = worker.oracle.create_trial("worker-0")
    folder = worker.folder / f"trial_{trial.trial_id}"
    before = signal.getsignal(signal.SIGTERM)
    for _ in range(5):
        with pytest.raises(SystemExit), worker._attempt(folder) as count:
            assert count == 1
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_error_that_sigterm_causes_is_none_of_the_trial(worker, monkeypatch):
    def fit(*_, **__):
        try:
            signal.raise_signal(signal.SIGTERM)
        except SystemExit as ended:
            # As from C++, which passes no exception of Python on.
            raise SystemError("returned a result with an exception") from ended

    trial = worker.oracle.create_trial("worker-0")
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", fit)
        with pytest.raises(SystemExit):
            worker.run_trial(trial)
    folder = worker.folder / f"trial_{trial.trial_id}"
    assert not (folder / "outcome.json").exists()
    worker.run_trial(trial)
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome["outcome"] == "finished"


def test_a_process_that_is_asked_to_end_has_not_died(worker):
    trial = worker.oracle.create_trial("worker-0")
    folder = worker.folder / f"trial_{trial.trial_id}"
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt), worker._attempt(folder) as count:
            assert count == 1
            raise KeyboardInterrupt
