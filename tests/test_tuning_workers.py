"""The processes of a search: started, watched, ended, never left behind."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from cbam_keras import _checks
from cbam_keras.tuning import workers

# Takes the place of one process of a search. The chief listens until there is
# a file "done"; a worker does what the file of its name says.
PROCESS = """
import os, pathlib, signal, socket, sys, time
from cbam_keras.tuning import workers
assert workers.end_with_starter()
folder = pathlib.Path(sys.argv[1])
role = os.environ.get(workers.TUNER, "last")
(folder / f"{role}.started").write_text(str(os.getpid()))
if role == "last":
    assert workers.WORKERS not in os.environ
    sys.exit(3 if (folder / "fails").exists() else 0)
if role == "chief":
    if (folder / "refuse").exists():
        sys.exit(2)
    if (folder / "chief.dies").exists():
        os.kill(os.getpid(), 9)
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((os.environ[workers.HOST], int(os.environ[workers.PORT])))
    server.listen()
    while not (folder / "done").exists():
        time.sleep(0.05)
else:
    signal.signal(
        signal.SIGTERM,
        lambda *_: sys.exit((folder / f"{role}.terminated").touch()),
    )
    print(role, "says something", flush=True)
    while not (folder / "done").exists():
        if (folder / f"{role}.dies").exists():
            os.kill(os.getpid(), 9)
        time.sleep(0.05)
"""


@pytest.fixture
def command(tmp_path):
    script = tmp_path / "process.py"
    # Importing the package takes seconds, so a copy of one room takes its
    # place.
    room = pathlib.Path(workers.__file__)
    copies = tmp_path / "cbam_keras" / "tuning"
    copies.mkdir(parents=True)
    for folder in (copies, copies.parent):
        (folder / "__init__.py").touch()
    shutil.copy(room, copies)
    (copies.parent / "_checks.py").write_text("parse_address = None")
    script.write_text(PROCESS)
    return [sys.executable, str(script), str(tmp_path)]


def _pid(folder, role):
    path = folder / f"{role}.started"
    return int(path.read_text() or 0) if path.exists() else 0


def _alive(pid):
    with contextlib.suppress(OSError):
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
        return status.rsplit(")", 1)[1].split()[0] != "Z"
    return False


def _until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def _start(command, folder):
    """Starts a process that runs two workers, so that it can be killed."""
    code = (
        "import signal, sys\n"
        "from cbam_keras.tuning.workers import run_workers\n"
        # A shell lets what it runs in the background ignore Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.exit(run_workers({command!r}, 2, {str(folder / 'logs')!r}))"
    )
    with (folder / "errors").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )


ROLES = ("chief", "worker-0", "worker-1")


def _start_all(command, folder):
    process = _start(command, folder)
    _until(lambda: all(_pid(folder, role) for role in ROLES))
    return process


def _none_left(folder):
    return not any(_alive(_pid(folder, role)) for role in ROLES)


def test_all_end_when_the_chief_is_done(command, tmp_path):
    process = _start_all(command, tmp_path)
    (tmp_path / "done").touch()
    assert process.wait(30) == 0
    assert (tmp_path / "errors").read_text() == ""
    assert _none_left(tmp_path)
    assert _pid(tmp_path, "last")


def test_the_exit_status_is_that_of_what_comes_after_the_trials(
    command, tmp_path
):
    (tmp_path / "fails").touch()
    process = _start_all(command, tmp_path)
    (tmp_path / "done").touch()
    assert process.wait(30) == 3


def test_what_workers_print_is_kept(command, tmp_path):
    process = _start(command, tmp_path)
    log = tmp_path / "logs" / "worker-1.log"
    _until(lambda: log.exists() and log.read_text())
    (tmp_path / "done").touch()
    process.wait(30)
    assert log.read_text() == "worker-1 says something\n"


def test_a_user_error_is_reported_by_the_chief_alone(command, tmp_path):
    (tmp_path / "refuse").touch()
    process = _start(command, tmp_path)
    assert process.wait(30) == 2
    assert not _pid(tmp_path, "worker-0")
    assert not _pid(tmp_path, "last")


def test_a_search_continues_without_a_worker_that_is_killed(command, tmp_path):
    process = _start_all(command, tmp_path)
    os.kill(_pid(tmp_path, "worker-0"), signal.SIGKILL)
    errors = tmp_path / "errors"
    _until(lambda: "goes to another worker" in errors.read_text())
    assert _alive(_pid(tmp_path, "worker-1"))
    (tmp_path / "done").touch()
    assert process.wait(30) == 0
    assert "worker-0 ended by SIGKILL" in errors.read_text()
    assert "worker-0.log" in errors.read_text()


def test_a_search_stops_when_no_worker_is_left(command, tmp_path):
    for name in ("worker-0", "worker-1"):
        (tmp_path / f"{name}.dies").touch()
    process = _start(command, tmp_path)
    assert process.wait(30) == 1
    assert "same command resumes" in (tmp_path / "errors").read_text()
    assert _none_left(tmp_path)


@pytest.mark.parametrize("early", [True, False])
def test_a_search_stops_when_the_chief_is_killed(command, tmp_path, early):
    if early:
        (tmp_path / "chief.dies").touch()
        process = _start(command, tmp_path)
    else:
        process = _start_all(command, tmp_path)
        os.kill(_pid(tmp_path, "chief"), signal.SIGKILL)
    assert process.wait(30) == 1
    errors = (tmp_path / "errors").read_text()
    assert "chief ended by SIGKILL; the same command resumes" in errors
    assert _none_left(tmp_path)


@pytest.mark.parametrize("sent", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_no_process_outlives_the_one_that_starts_them(command, tmp_path, sent):
    process = _start_all(command, tmp_path)
    process.send_signal(getattr(signal, sent))
    assert process.wait(30) != 0
    _until(lambda: _none_left(tmp_path))
    # Asked to end, not killed: what a worker leaves says that it has not died.
    assert (tmp_path / "worker-0.terminated").exists()


def test_a_process_started_otherwise_stays(monkeypatch):
    monkeypatch.delenv(workers.STARTER, raising=False)
    assert not workers.end_with_starter()


# What each worker gets of the machine.


@pytest.mark.parametrize(
    ("visible", "count", "given"),
    [
        ("0,1", 2, ["0", "1"]),
        ("3,5", 3, ["3", "5", "3"]),
        ("GPU-a,GPU-b,GPU-c", 2, ["GPU-a", "GPU-b"]),
        ("7", 2, ["7", "7"]),
    ],
)
def test_accelerators_are_shared_out(visible, count, given):
    environment = {"CUDA_VISIBLE_DEVICES": visible}
    shares = [
        workers._part_of_machine(index, count, environment)
        for index in range(count)
    ]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == given
    crowded = count > len(visible.split(","))
    assert ["TF_FORCE_GPU_ALLOW_GROWTH" in share for share in shares] == [
        crowded
    ] * count


def test_cores_are_shared_out_where_there_is_no_accelerator(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    environment = {"CUDA_VISIBLE_DEVICES": ""}
    share = workers._part_of_machine(0, 3, environment)
    assert share == {
        "OMP_NUM_THREADS": "2",
        "TF_NUM_INTRAOP_THREADS": "2",
        "TF_NUM_INTEROP_THREADS": "2",
    }


def test_what_the_user_has_set_holds():
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "5"}
    assert "OMP_NUM_THREADS" not in workers._part_of_machine(0, 2, environment)


# The chief's server.


def test_a_port_has_one_chief(monkeypatch):
    pytest.importorskip("keras_tuner", reason="needs the extra tune")
    from cbam_keras.tuning import chief

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        _, port = taken.getsockname()
        monkeypatch.setenv(workers.HOST, "127.0.0.1")
        monkeypatch.setenv(workers.PORT, str(port))
        with pytest.raises(ValueError, match="cannot be bound"):
            chief.serve(oracle=None)


# Addresses.


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("node17:8765", ("node17", 8765)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_addresses_are_host_and_port(address, parsed):
    assert _checks.parse_address(address) == parsed


@pytest.mark.parametrize(
    "address", ["node17", "node17:", ":8765", "node17:0", "node17:65536", "a:b"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(ValueError, match="`address` must be host:port"):
        _checks.parse_address(address)


# Searches by the command, on real processes.

TRIALS, EPOCHS = 4, 3


def _search(output, confirm="0", **environment):
    command = [
        *(sys.executable, "-m", "cbam_keras", "tune"),
        *("--hypermodel", "tune_script:build", "--data", "mnist5k"),
        *("--max-trials", str(TRIALS), "--epochs", str(EPOCHS)),
        *("--batch-size", "35", "--learning-rate", "0.01"),
        *("--workers", "2", "--confirm", confirm, "--output", str(output)),
    ]
    output.mkdir(exist_ok=True)
    with (output.parent / "reported").open("w") as reported:
        return subprocess.Popen(
            command,
            cwd=pathlib.Path(__file__).parent,
            env={**os.environ, **environment},
            stdout=reported,
            stderr=subprocess.STDOUT,
        )


def _pids(output, role=""):
    """Returns the processes of a search: all, or those of that role."""
    wanted = f"{workers.TUNER}={role}".encode()
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            command = path.with_name("cmdline").read_bytes()
            if str(output).encode() in command and wanted in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def _kill(role, output):
    """Kills the process of that role, as nobody can prevent."""
    (pid,) = _pids(output, role)
    os.kill(pid, signal.SIGKILL)


def _printed(output):
    return (output.parent / "reported").read_text()


def _answers(output):
    content = json.loads((output / "results.json").read_text())
    return [
        (
            trial["number"],
            trial["values"],
            trial["outcome"],
            pytest.approx(trial["val_accuracy"], abs=1e-6),
        )
        for trial in content["trials"]
    ]


def _started(output):
    """Returns the trials that workers began, by what they printed."""
    logs = sorted((output / "logs").glob("*.log"))
    text = "".join(path.read_text() for path in logs)
    return sorted(re.findall(r"^Trial (\d+) of", text, re.M))


def _saved(output):
    """Returns the trials under way that have saved an epoch, and when."""
    return {
        path: path.stat().st_mtime_ns
        for path in output.glob("trial_*/checkpoints/state.json")
        if not (path.parents[1] / "outcome.json").exists()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "search"
    process = _search(output, confirm="1")
    assert process.wait(400) == 0, _printed(output)
    return output


@pytest.mark.slow
def test_two_workers_run_each_trial_once(undisturbed):
    assert _started(undisturbed) == [str(n + 1) for n in range(TRIALS)]
    outcomes = [
        json.loads(path.read_text())
        for path in sorted(undisturbed.glob("trial_*/outcome.json"))
    ]
    assert [len(outcome["history"]) for outcome in outcomes] == (
        [EPOCHS] * TRIALS
    )
    assert {outcome["worker"] for outcome in outcomes} == {
        "worker-0",
        "worker-1",
    }


@pytest.mark.slow
def test_the_chief_tells_what_happens(undisturbed):
    reported = _printed(undisturbed)
    for number in range(1, TRIALS + 1):
        assert re.search(rf"Trial {number} of {TRIALS}: units=", reported)
        assert re.search(rf"Trial {number}: finished", reported)
    assert "Confirmation 2 of 2" in reported
    assert "Best trials in" in reported


@pytest.mark.slow
def test_whichever_process_is_killed_nothing_changes(undisturbed, tmp_path):
    output = tmp_path / "search"

    # A worker, in the middle of its trial.
    go = tmp_path / "go"
    process = _search(output, HOLD=str(go))
    _until(lambda: len(_saved(output)) == 2, 300)
    _kill("worker-0", output)
    _until(lambda: "its trial goes to the next worker" in _printed(output))
    assert "worker-0 ended by SIGKILL" in _printed(output)

    # Then the chief, when a trial has ended.
    go.touch()
    _until(lambda: list(output.glob("trial_*/outcome.json")), 300)
    _kill("chief", output)
    assert process.wait(60) == 1
    assert "chief ended by SIGKILL; the same command" in _printed(output)
    assert not (output / "results.json").exists()

    # Then all of them, in the middle of two trials.
    before = _saved(output)
    process = _search(output, HOLD=str(tmp_path / "never"))
    _until(lambda: len(_saved(output).items() - before.items()) == 2, 300)
    process.kill()
    process.wait()
    _until(lambda: not _pids(output))
    assert len(list(output.glob("trial_*/outcome.json"))) < TRIALS

    assert _search(output).wait(400) == 0, _printed(output)
    assert _answers(output) == _answers(undisturbed)
    for path in output.glob("trial_*/outcome.json"):
        history = json.loads(path.read_text())["history"]
        # Trials that were cut short resumed after their last epoch.
        assert [row["epoch"] for row in history] == [1, 2, 3]
