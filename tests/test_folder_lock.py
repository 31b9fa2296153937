"""Output folders are locked, and released however a process ends."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from cbam_keras import _folder_lock

HOLDER = """
import pathlib, sys, time
from cbam_keras import _folder_lock
with _folder_lock.locked(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def use(folder):
    """Locks a folder for a moment."""
    with _folder_lock.locked(folder):
        assert os.listdir(folder) == [_folder_lock.LOCK]


@pytest.fixture(scope="module")
def holder(tmp_path_factory):
    """Returns a folder and the process that has locked it."""
    folder = tmp_path_factory.mktemp("held")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"locked\n"
    yield folder, process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_until_the_first_is_killed(holder):
    folder, process = holder
    with pytest.raises(ValueError) as caught:
        use(folder)
    message = str(caught.value)
    assert f"in use by process {process.pid} on {os.uname().nodename}" in (
        message
    )
    assert "delete" not in message
    assert os.listdir(folder) == [_folder_lock.LOCK]
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The file of the lock is still there.
    assert os.listdir(folder) == [_folder_lock.LOCK]
    use(folder)
    assert _folder_lock.LOCK not in os.listdir(folder)


def test_a_second_lock_in_one_process_is_refused(tmp_path):
    with _folder_lock.locked(tmp_path):
        with pytest.raises(ValueError, match=f"process {os.getpid()} on"):
            use(tmp_path)
    use(tmp_path)


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(KeyError), _folder_lock.locked(tmp_path):
        raise KeyError
    with _folder_lock.locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def locked_by(folder, **holder):
    holder = {"since": "2026-01-01 00:00:00", **holder}
    (folder / _folder_lock.LOCK).write_text(json.dumps(holder))


@pytest.fixture(params=["unsupported", "absent"])
def without_flock(request, monkeypatch):
    """Takes the locks of the operating system away."""
    if request.param == "absent":
        monkeypatch.setattr(_folder_lock, "fcntl", None)
        return

    def flock(*_):
        raise OSError(errno.ENOSYS, "not supported")

    monkeypatch.setattr(_folder_lock.fcntl, "flock", flock)


def test_without_flock_a_running_process_holds_the_folder(
    tmp_path, without_flock
):
    locked_by(tmp_path, process=os.getppid(), host=os.uname().nodename)
    with pytest.raises(ValueError, match=f"process {os.getppid()} on"):
        use(tmp_path)


def test_without_flock_the_lock_of_a_dead_process_is_taken_over(
    tmp_path, without_flock
):
    dead = subprocess.Popen(["true"])
    dead.wait()
    for process in (dead.pid, os.getpid()):
        locked_by(tmp_path, process=process, host=os.uname().nodename)
        use(tmp_path)
    assert _folder_lock.LOCK not in os.listdir(tmp_path)


def test_without_flock_another_machine_holds_the_folder(
    tmp_path, without_flock
):
    locked_by(tmp_path, process=1, host="node17")
    with pytest.raises(ValueError) as caught:
        use(tmp_path)
    assert "in use by process 1 on node17" in str(caught.value)
    assert f'delete "{tmp_path / _folder_lock.LOCK}"' in str(caught.value)
    (tmp_path / _folder_lock.LOCK).unlink()
    use(tmp_path)
