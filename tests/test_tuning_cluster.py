"""The processes of a search: started, watched, ended, never left behind."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from cbam_keras import _checks
from cbam_keras.tuning import chief, cluster, supervisor

# Stands in for one process of a search. The chief listens until the file
# "done" is there; a worker does what the file of its name says.
PROCESS = """
import os, pathlib, socket, sys, time
from cbam_keras import _workers
_workers.end_with_supervisor()
folder = pathlib.Path(sys.argv[1])
worker = "--worker" in sys.argv
role = sys.argv[sys.argv.index("--id") + 1] if worker else "chief"
started = folder / f"{role}.started"
with started.open("a") as file:
    file.write(f"{os.getpid()}\\n")
count = len(started.read_text().splitlines())
host, port = sys.argv[sys.argv.index("--address") + 1].rsplit(":", 1)
if role == "chief":
    if (folder / "refuse").exists():
        sys.exit(2)
    if (folder / "chief.dies").exists() and count < 2:
        os.kill(os.getpid(), 9)
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((host, int(port)))
    server.listen()
    while not (folder / "done").exists():
        time.sleep(0.05)
else:
    print(role, "says something", flush=True)
    while not (folder / "done").exists():
        if (folder / f"{role}.dies").exists() and (
            count < 2 or (folder / f"{role}.dies").read_text() == "always"
        ):
            os.kill(os.getpid(), 9)
        time.sleep(0.05)
"""


@pytest.fixture
def command(tmp_path):
    script = tmp_path / "process.py"
    # Its imports are those of the package's root, which take seconds, so a
    # module with what is needed stands in.
    source = pathlib.Path(chief.__file__).read_text()
    (tmp_path / "cbam_keras").mkdir()
    (tmp_path / "cbam_keras" / "__init__.py").touch()
    (tmp_path / "cbam_keras" / "_checks.py").touch()
    (tmp_path / "cbam_keras" / "_report.py").touch()
    (tmp_path / "cbam_keras" / "_workers.py").write_text(source)
    script.write_text(PROCESS)
    return [sys.executable, str(script), str(tmp_path)]


def _pids(folder, role):
    path = folder / f"{role}.started"
    if not path.exists():
        return []
    return [int(line) for line in path.read_text().splitlines()]


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


def _supervisor(command, folder, workers=2):
    """Starts a process that supervises, so that it can be killed."""
    code = (
        "import sys; from cbam_keras import _workers; "
        f"sys.exit(_workers.supervise({command!r}, {workers}, "
        f"{str(folder / 'logs')!r}))"
    )
    with (folder / "told").open("w") as told:
        return subprocess.Popen(
            [sys.executable, "-c", code], cwd=folder, stderr=told
        )


ROLES = ("chief", "worker-0", "worker-1")


def _all_started(folder):
    return all(_pids(folder, role) for role in ROLES)


def test_all_end_when_the_chief_is_done(command, tmp_path):
    process = _supervisor(command, tmp_path)
    _until(lambda: _all_started(tmp_path))
    (tmp_path / "done").touch()
    assert process.wait(30) == 0
    assert [len(_pids(tmp_path, role)) for role in ROLES] == [1, 1, 1]
    assert (tmp_path / "told").read_text() == ""
    assert not any(_alive(_pids(tmp_path, role)[0]) for role in ROLES)


def test_what_workers_print_is_kept(command, tmp_path):
    process = _supervisor(command, tmp_path)
    log = tmp_path / "logs" / "worker-1.log"
    _until(lambda: log.exists() and log.read_text())
    (tmp_path / "done").touch()
    process.wait(30)
    assert log.read_text() == "worker-1 says something\n"


def test_a_mistake_is_the_chiefs_alone(command, tmp_path):
    (tmp_path / "refuse").touch()
    process = _supervisor(command, tmp_path)
    assert process.wait(30) == 2
    assert not _pids(tmp_path, "worker-0")


@pytest.mark.parametrize("role", ["chief", "worker-0"])
def test_who_is_killed_is_started_again(command, tmp_path, role):
    process = _supervisor(command, tmp_path)
    _until(lambda: _all_started(tmp_path))
    os.kill(_pids(tmp_path, role)[0], signal.SIGKILL)
    _until(lambda: len(_pids(tmp_path, role)) == 2)
    (tmp_path / "done").touch()
    assert process.wait(30) == 0
    told = (tmp_path / "told").read_text()
    assert f"{role} ended by SIGKILL" in told
    assert "it is started again" in told


def test_a_chief_killed_before_it_listens_is_started_again(command, tmp_path):
    (tmp_path / "chief.dies").touch()
    process = _supervisor(command, tmp_path)
    _until(lambda: _all_started(tmp_path))
    (tmp_path / "done").touch()
    assert process.wait(30) == 0
    assert len(_pids(tmp_path, "chief")) == 2
    assert "chief ended by SIGKILL" in (tmp_path / "told").read_text()


def test_who_dies_again_and_again_ends_the_search(command, tmp_path):
    (tmp_path / "worker-1.dies").write_text("always")
    process = _supervisor(command, tmp_path)
    assert process.wait(30) == 1
    assert len(_pids(tmp_path, "worker-1")) == supervisor.OFTEN
    told = (tmp_path / "told").read_text()
    assert f"worker-1 ended {supervisor.OFTEN} times" in told
    assert "worker-1.log" in told
    assert not any(
        _alive(pid) for role in ROLES for pid in _pids(tmp_path, role)
    )


@pytest.mark.parametrize("sent", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_no_process_outlives_the_supervisor(command, tmp_path, sent):
    process = _supervisor(command, tmp_path)
    _until(lambda: _all_started(tmp_path))
    pids = [pid for role in ROLES for pid in _pids(tmp_path, role)]
    assert all(map(_alive, pids))
    process.send_signal(getattr(signal, sent))
    assert process.wait(30) != 0
    _until(lambda: not any(map(_alive, pids)))


# What each worker gets of the machine.


@pytest.mark.parametrize(
    ("visible", "workers", "given"),
    [
        ("0,1", 2, ["0", "1"]),
        ("3,5", 3, ["3", "5", "3"]),
        ("GPU-a,GPU-b,GPU-c", 2, ["GPU-a", "GPU-b"]),
        ("7", 2, ["7", "7"]),
    ],
)
def test_accelerators_are_shared_out(visible, workers, given):
    environment = {"CUDA_VISIBLE_DEVICES": visible}
    shares = [
        supervisor._share(index, workers, environment)
        for index in range(workers)
    ]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == given
    crowded = workers > len(visible.split(","))
    assert ["TF_FORCE_GPU_ALLOW_GROWTH" in share for share in shares] == [
        crowded
    ] * workers


def test_cores_are_shared_out_where_there_is_no_accelerator(monkeypatch):
    monkeypatch.setattr(chief.os, "cpu_count", lambda: 8)
    environment = {"CUDA_VISIBLE_DEVICES": ""}
    share = supervisor._share(0, 3, environment)
    assert share == {
        "OMP_NUM_THREADS": "2",
        "TF_NUM_INTRAOP_THREADS": "2",
        "TF_NUM_INTEROP_THREADS": "2",
    }


def test_what_the_user_has_set_holds():
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "5"}
    assert "OMP_NUM_THREADS" not in supervisor._share(0, 2, environment)


# The chief's server.


def test_a_port_has_one_chief(monkeypatch):
    pytest.importorskip("keras_tuner", reason="needs the extra tune")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        _, port = taken.getsockname()
        monkeypatch.setenv(cluster.HOST, "127.0.0.1")
        monkeypatch.setenv(cluster.PORT, str(port))
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
