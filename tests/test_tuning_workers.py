"""The processes of a search: started, ended, never left behind."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import digits
import pytest
import tune_script
import tuning_checks

from cbam_keras import tuning
from cbam_keras.training import Recipe

# Takes the place of each process of a search, without importing a package.
# The chief listens, and ends when both workers have done what they should.
PROCESS = """
import json, os, pathlib, signal, socket, sys, time

folder, scenario = pathlib.Path(sys.argv[1]), sys.argv[2]
role = os.environ.get("KERASTUNER_TUNER_ID", "last")
started = {"pid": os.getpid(), "environment": dict(os.environ)}
new = folder / f"{role}.new"
new.write_text(json.dumps(started))
new.rename(folder / f"{role}.started")


def wait_for(*names):
    end = time.monotonic() + 60
    while not all((folder / name).exists() for name in names):
        time.sleep(0.02)
        if time.monotonic() > end:
            sys.exit("nothing happened")


def terminated(*_):
    sys.exit((folder / f"{role}.terminated").touch())


def die():
    os.kill(os.getpid(), signal.SIGKILL)


if role == "last":
    sys.exit(3 if scenario == "fails" else 0)
if role == "chief":
    if scenario == "refused":
        sys.exit(2)
    server = socket.socket()
    address = os.environ["KERASTUNER_ORACLE_IP"]
    server.bind((address, int(os.environ["KERASTUNER_ORACLE_PORT"])))
    server.listen()
    wait_for("worker-0.started", "worker-1.started", "worker-1.done")
    if scenario == "chief dies":
        die()
    if scenario == "one dies":
        # Until its starter has seen that.
        pid = json.loads((folder / "worker-0.started").read_text())["pid"]
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.02)
    if scenario not in ("workers die", "SIGINT", "SIGTERM"):
        sys.exit()
    wait_for("never")
signal.signal(signal.SIGTERM, terminated)
print(role, "says something", flush=True)
(folder / f"{role}.done").touch()
if scenario == "workers die" or (scenario, role) == ("one dies", "worker-0"):
    die()
if role == "worker-1" and scenario.startswith("SIG"):
    wait_for("worker-0.done")
    os.kill(os.getppid(), getattr(signal, scenario))
wait_for("never")
"""


@pytest.fixture
def run(tmp_path):
    """Returns a function that runs two workers of a scenario."""
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    # A shell lets what it runs in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda scenario: tuning.run_workers(
        [sys.executable, str(script), str(tmp_path), scenario],
        2,
        tmp_path / "logs",
    )
    signal.signal(signal.SIGINT, before)


def processes(folder):
    """Returns what each process that was started has told, by its role."""
    return {
        path.stem: json.loads(path.read_text())
        for path in folder.glob("*.started")
    }


def is_alive(pid):
    with contextlib.suppress(OSError):
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
        return status.rsplit(")", 1)[1].split()[0] != "Z"
    return False


ALL = {"chief", "worker-0", "worker-1"}


@pytest.mark.parametrize(
    ("scenario", "status", "roles", "message"),
    [
        # The last process does what comes after the trials.
        ("succeeds", 0, {*ALL, "last"}, "^$"),
        ("fails", 3, {*ALL, "last"}, "^$"),
        # A user error is reported by the chief alone.
        ("refused", 2, {"chief"}, "^$"),
        (
            "one dies",
            0,
            {*ALL, "last"},
            r"^worker-0 ended by SIGKILL \(see .*worker-0.log.*\); its trial "
            "goes to another worker$",
        ),
        ("workers die", 1, ALL, "No worker is left; the same command resumes"),
        (
            "chief dies",
            1,
            ALL,
            "chief ended by SIGKILL; the same command resumes",
        ),
    ],
)
def test_processes_end_together(
    run, tmp_path, capfd, scenario, status, roles, message
):
    assert run(scenario) == status
    assert re.search(message, capfd.readouterr().err)
    started = processes(tmp_path)
    assert set(started) == roles
    assert not any(is_alive(own["pid"]) for own in started.values())
    if "worker-1" in roles:
        log = (tmp_path / "logs/worker-1.log").read_text()
        assert log == "worker-1 says something\n"


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_all_processes(run, tmp_path, sent):
    with pytest.raises(KeyboardInterrupt):
        run(sent)
    started = processes(tmp_path)
    assert set(started) == ALL
    assert not any(is_alive(own["pid"]) for own in started.values())
    # Asked to end, not killed: what a worker leaves says that it has not died.
    assert (tmp_path / "worker-0.terminated").exists()


THREADS = (
    *("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)


@pytest.mark.parametrize(
    ("environment", "devices", "shares"),
    [
        ({"CUDA_VISIBLE_DEVICES": "3,5"}, ["3", "5"], {}),
        (
            {"CUDA_VISIBLE_DEVICES": "GPU-a"},
            ["GPU-a", "GPU-a"],
            {
                "TF_FORCE_GPU_ALLOW_GROWTH": "true",
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            },
        ),
        # Of eight cores; what the user has set holds.
        (
            {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "5"},
            ["", ""],
            {**dict.fromkeys(THREADS, "4"), "OMP_NUM_THREADS": "5"},
        ),
    ],
    ids=["two_gpus", "one_gpu", "cores"],
)
def test_each_worker_gets_its_part_of_the_machine(
    run, tmp_path, monkeypatch, environment, devices, shares
):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for name in (*THREADS, "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run("succeeds")
    started = processes(tmp_path)
    for number, device in enumerate(devices):
        own = started[f"worker-{number}"]["environment"]
        assert own["CUDA_VISIBLE_DEVICES"] == device
        watched = {*THREADS, "TF_FORCE_GPU_ALLOW_GROWTH"} | shares.keys()
        assert {name: own[name] for name in watched if name in own} == shares
    # The chief computes nothing.
    assert started["chief"]["environment"]["CUDA_VISIBLE_DEVICES"] == ""
    last = started["last"]["environment"]
    assert last["CUDA_VISIBLE_DEVICES"] == environment["CUDA_VISIBLE_DEVICES"]


# Processes of a cluster.


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("node17:8765", "node17", "8765"), ("[::1]:65535", "::1", "65535")],
)
def test_a_process_joins_the_chief_at_an_address(
    monkeypatch, address, host, port
):
    monkeypatch.setattr(os, "environ", {})
    tuning.join("worker-3", address)
    assert os.environ == {
        "KERASTUNER_TUNER_ID": "worker-3",
        "KERASTUNER_ORACLE_IP": host,
        "KERASTUNER_ORACLE_PORT": port,
    }


@pytest.mark.parametrize(
    "address", ["node17", ":8765", "node17:0", "node17:65536", "a:b"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(ValueError, match="`address` must be host:port"):
        tuning.join("worker-3", address)


# A search by the command, on real processes.

TRIALS, EPOCHS = 4, 3


def search(output, **environment):
    command = [
        *(sys.executable, "-m", "cbam_keras", "tune"),
        *("--hypermodel", "tune_script:build", "--data", "mnist5k"),
        *("--max-trials", str(TRIALS), "--epochs", str(EPOCHS)),
        *("--batch-size", "35", "--learning-rate", "0.01"),
        *("--workers", "2", "--confirm", "0", "--output", str(output)),
    ]
    output.mkdir(exist_ok=True)
    with (output.parent / "reported").open("w") as reported:
        return subprocess.Popen(
            command,
            cwd=pathlib.Path(__file__).parent,
            env={**os.environ, "FEW_DIGITS": "1", **environment},
            stdout=reported,
            stderr=subprocess.STDOUT,
        )


def until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def pids(output, role=""):
    """Returns the processes of a search: all, or those of that role."""
    wanted = f"KERASTUNER_TUNER_ID={role}".encode()
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            command = path.with_name("cmdline").read_bytes()
            if str(output).encode() in command and wanted in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def kill(role, output):
    (pid,) = pids(output, role)
    os.kill(pid, signal.SIGKILL)


def printed(output):
    return (output.parent / "reported").read_text()


def saved(output):
    """Returns the trials under way that have saved an epoch, and when."""
    return {
        path: path.stat().st_mtime_ns
        for path in output.glob("trial_*/checkpoints/state.json")
        if not (path.parents[1] / "outcome.json").exists()
    }


@pytest.mark.exhaustive
@pytest.mark.slow
def test_whichever_process_is_killed_nothing_changes(tmp_path, monkeypatch):
    output = tmp_path / "search"

    # A worker, in the middle of its trial.
    go = tmp_path / "go"
    process = search(output, HOLD=str(go))
    until(lambda: len(saved(output)) == 2)
    kill("worker-0", output)
    until(lambda: "its trial goes to the next worker" in printed(output))
    assert "worker-0 ended by SIGKILL" in printed(output)

    # Then the chief, when a trial has ended.
    go.touch()
    until(lambda: list(output.glob("trial_*/outcome.json")))
    kill("chief", output)
    assert process.wait(60) == 1
    assert "chief ended by SIGKILL; the same command" in printed(output)
    assert not (output / "results.json").exists()

    # Then the process that started them, in the middle of two trials.
    before = saved(output)
    process = search(output, HOLD=str(tmp_path / "never"))
    until(lambda: len(saved(output).items() - before.items()) == 2)
    process.kill()
    process.wait()
    until(lambda: not pids(output))
    assert len(list(output.glob("trial_*/outcome.json"))) < TRIALS

    assert search(output).wait(400) == 0, printed(output)
    assert "Best trials in" in printed(output)
    logs = sorted((output / "logs").glob("*.log"))
    text = "".join(path.read_text() for path in logs)
    assert set(re.findall(r"^Trial (\d+) of", text, re.M)) == set("1234")

    # One process alone comes to the same.
    digits.replace(digits.few, monkeypatch.setattr)
    whole = tuning_checks.search(
        tmp_path / "whole",
        hypermodel=tune_script.build,
        recipe=Recipe(epochs=EPOCHS, batch_size=35, learning_rate=0.01),
        max_trials=TRIALS,
    )
    found = json.loads((output / "results.json").read_text())["trials"]
    assert len({trial["worker"] for trial in found}) == 2
    for own, other in zip(found, whole.trials, strict=True):
        assert own["values"] == other.values
        assert own["outcome"] == other.outcome == "finished"
        assert own["epochs"] == other.epochs == EPOCHS
        assert own["val_accuracy"] == pytest.approx(
            other.val_accuracy, abs=1e-6
        )
