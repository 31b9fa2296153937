"""The processes of a search: started, ended, never left behind."""

import json
import os
import re
import signal
import sys
import time

import pytest
from test_random_kills import Command, content

from cbam_keras import tuning

# Takes the place of each process of a search, without importing a package.
# The chief ends when both workers have done what they should.
PROCESS = """
import json, os, pathlib, signal, socket, sys, time

folder, scenario = pathlib.Path(sys.argv[1]), sys.argv[2]
role = os.environ.get("KERASTUNER_TUNER_ID", "last")
signal.alarm(60)
new = folder / f"{role}.new"
new.write_text(json.dumps({"pid": os.getpid(), **os.environ}))
new.rename(folder / f"{role}.started")


def wait_for(*names):
    while not all((folder / name).exists() for name in names):
        time.sleep(0.02)


def terminated(*_):
    sys.exit((folder / f"{role}.terminated").touch())


if role == "last":
    sys.exit(3)
if role == "chief":
    if scenario == "refused":
        sys.exit(2)
    server = socket.socket()
    address = os.environ["KERASTUNER_ORACLE_IP"]
    server.bind((address, int(os.environ["KERASTUNER_ORACLE_PORT"])))
    server.listen()
    wait_for("worker-0.started", "worker-1.done")
    if scenario == "chief dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if scenario == "one dies":
        # Until its starter has seen that.
        pid = json.loads((folder / "worker-0.started").read_text())["pid"]
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.02)
    if scenario not in ("workers die", "SIGINT", "SIGTERM"):
        sys.exit()
    signal.pause()
signal.signal(signal.SIGTERM, terminated)
print(role, "says something", flush=True)
(folder / f"{role}.done").touch()
if scenario == "workers die" or (scenario, role) == ("one dies", "worker-0"):
    os.kill(os.getpid(), signal.SIGKILL)
if role == "worker-1" and scenario.startswith("SIG"):
    wait_for("worker-0.done")
    os.kill(os.getppid(), getattr(signal, scenario))
signal.pause()
"""


@pytest.fixture
def run(tmp_path):
    """Returns a function that runs two workers of a scenario.

    It returns the status, and the environment of each process by its role.
    """

    def run(scenario):
        command = [sys.executable, str(script), str(tmp_path), scenario]
        try:
            status = tuning.run_workers(command, 2, tmp_path / "logs")
        except KeyboardInterrupt:
            status = "interrupted"
        started = {
            path.stem: json.loads(path.read_text())
            for path in tmp_path.glob("*.started")
        }
        for own in started.values():
            assert not os.path.exists(f"/proc/{own['pid']}")
        return status, started

    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    # A shell lets what it runs in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield run
    signal.signal(signal.SIGINT, before)


WORKING = {"chief", "worker-0", "worker-1"}
# The last process does what comes after the trials.
ALL = {*WORKING, "last"}
RESUMES = "; the same command resumes"


@pytest.mark.parametrize(
    ("scenario", "status", "roles", "message"),
    [
        ("succeeds", 3, ALL, "^$"),
        # A user error is reported by the chief alone.
        ("refused", 2, {"chief"}, "^$"),
        (
            *("one dies", 3, ALL),
            r"^worker-0 ended by SIGKILL \(see .*worker-0.log.*\); its trial "
            "goes to another worker$",
        ),
        ("workers die", 1, WORKING, f"No worker is left{RESUMES}"),
        ("chief dies", 1, WORKING, f"chief ended by SIGKILL{RESUMES}"),
        ("SIGINT", "interrupted", WORKING, ""),
        ("SIGTERM", "interrupted", WORKING, ""),
    ],
)
def test_processes_end_together(
    run, tmp_path, capfd, scenario, status, roles, message
):
    found, started = run(scenario)
    assert (found, set(started)) == (status, roles)
    assert re.search(message, capfd.readouterr().err)
    if "worker-1" in roles:
        log = (tmp_path / "logs/worker-1.log").read_text()
        assert log == "worker-1 says something\n"
    if status == "interrupted":
        # Asked to end, not killed: what it leaves says that it has not died.
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
)
def test_each_worker_gets_its_part_of_the_machine(
    run, tmp_path, monkeypatch, environment, devices, shares
):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for name in (*THREADS, "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    _, started = run("succeeds")
    for number, device in enumerate(devices):
        own = started[f"worker-{number}"]
        assert own["CUDA_VISIBLE_DEVICES"] == device
        watched = {*THREADS, "TF_FORCE_GPU_ALLOW_GROWTH"} | shares.keys()
        assert {name: own[name] for name in watched if name in own} == shares
    # The chief computes nothing.
    assert started["chief"]["CUDA_VISIBLE_DEVICES"] == ""
    last = started["last"]["CUDA_VISIBLE_DEVICES"]
    assert last == environment["CUDA_VISIBLE_DEVICES"]


# Processes of a cluster.


def test_a_process_joins_the_chief_at_an_address(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    for address, host, port in (
        ("node17:8765", "node17", "8765"),
        ("[::1]:65535", "::1", "65535"),
    ):
        tuning.join("worker-3", address)
        assert os.environ == {
            "KERASTUNER_TUNER_ID": "worker-3",
            "KERASTUNER_ORACLE_IP": host,
            "KERASTUNER_ORACLE_PORT": port,
        }
    for address in ("node17", ":8765", "node17:0", "node17:65536", "a:b"):
        with pytest.raises(ValueError, match="`address` must be host:port"):
            tuning.join("worker-3", address)


# A search by the command, on real processes.


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_killed_search_of_workers_ends_as_that_of_one_process(tmp_path):
    killed = Command("workers", tmp_path / "workers")
    killed.wait_for_steps(12)
    assert killed.processes().keys() >= {"chief", "worker-0", "worker-1"}
    killed.process.kill()
    killed.process.wait()
    # Nothing is left behind.
    while killed.processes().keys() - {"command"}:
        time.sleep(0.05)
    assert not (killed.output / "results.json").exists()
    workers, alone = (
        Command(name, tmp_path / name) for name in ("workers", "tune")
    )
    for command in (workers, alone):
        assert command.process.wait(900) == 0, command.log.read_text()
    assert content(workers.output) == content(alone.output)
