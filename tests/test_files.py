"""Files are whole or not there; folders can be written to, and locked."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from cbam_keras import _files


@pytest.mark.parametrize("old", [None, "old"], ids=["new", "existing"])
def test_replacing_puts_the_new_file_in_place(tmp_path, old):
    path = tmp_path / "file.txt"
    if old is not None:
        path.write_text(old)
    with _files.replacing(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_takes_a_string(tmp_path):
    with _files.replacing(str(tmp_path / "file.txt")) as beside:
        beside.write_text("new")
    assert (tmp_path / "file.txt").read_text() == "new"


def test_what_is_written_to_lies_beside_and_ends_alike(tmp_path):
    with _files.replacing(tmp_path / "network.keras") as beside:
        beside.touch()
    assert beside.parent == tmp_path
    assert beside.name != "network.keras"
    assert beside.suffix == ".keras"


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with _files.replacing(path) as beside:
        beside.write_text("ne")
        assert path.read_text() == "old"


@pytest.mark.parametrize(
    "error",
    [RuntimeError, OSError, KeyboardInterrupt],
    ids=["error", "disk", "ctrl_c"],
)
def test_an_error_leaves_the_old_file_and_no_leftovers(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), _files.replacing(path) as beside:
        beside.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_no_new_file(tmp_path):
    with (
        pytest.raises(RuntimeError),
        _files.replacing(tmp_path / "file.txt") as beside,
    ):
        beside.write_text("ne")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_nothing_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), _files.replacing(path):
        pass
    assert path.read_text() == "old"


def test_write_json_keeps_the_value(tmp_path):
    path = tmp_path / "file.json"
    value = {"numbers": [1, 0.1, 1e-17], "text": "é", "nothing": None}
    _files.write_json(path, value)
    assert json.loads(path.read_text()) == value
    assert path.read_text().endswith("\n")


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    _files.write_json(path, {"old": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        _files.write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "path"])
def test_an_output_folder_is_made_with_its_parents(tmp_path, kind):
    folder = _files.output_folder(kind(tmp_path / "one" / "two"))
    assert folder == tmp_path / "one" / "two"
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "file.txt",
        "probe",
    ],
)
def test_an_output_folder_keeps_what_it_holds(tmp_path, name):
    (tmp_path / name).write_text("mine")
    _files.output_folder(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "below", ["", "one", "one/two"], ids=["itself", "below", "deep_below"]
)
def test_an_output_below_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / below
    with pytest.raises(ValueError, match="`output` must be a folder") as caught:
        _files.output_folder(path)
    assert f'output="{path}"' in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


# One process at a time in a folder, released however a process ends.

HOLDER = """
import pathlib, sys, time
from cbam_keras import _files
with _files.locked(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def use(folder):
    """Locks a folder for a moment."""
    with _files.locked(folder):
        assert os.listdir(folder) == [_files.LOCK]


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
    assert os.listdir(folder) == [_files.LOCK]
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The file of the lock is still there.
    assert os.listdir(folder) == [_files.LOCK]
    use(folder)
    assert _files.LOCK not in os.listdir(folder)


def test_a_second_lock_in_one_process_is_refused(tmp_path):
    with _files.locked(tmp_path):
        with pytest.raises(ValueError, match=f"process {os.getpid()} on"):
            use(tmp_path)
    use(tmp_path)


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(KeyError), _files.locked(tmp_path):
        raise KeyError
    with _files.locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def locked_by(folder, **holder):
    holder = {"since": "2026-01-01 00:00:00", **holder}
    (folder / _files.LOCK).write_text(json.dumps(holder))


@pytest.fixture(params=["unsupported", "absent"])
def without_flock(request, monkeypatch):
    """Takes the locks of the operating system away."""
    if request.param == "absent":
        monkeypatch.setattr(_files, "fcntl", None)
        return

    def flock(*_):
        raise OSError(errno.ENOSYS, "not supported")

    monkeypatch.setattr(_files.fcntl, "flock", flock)


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
    assert _files.LOCK not in os.listdir(tmp_path)


def test_without_flock_another_machine_holds_the_folder(
    tmp_path, without_flock
):
    locked_by(tmp_path, process=1, host="node17")
    with pytest.raises(ValueError) as caught:
        use(tmp_path)
    assert "in use by process 1 on node17" in str(caught.value)
    assert f'delete "{tmp_path / _files.LOCK}"' in str(caught.value)
    (tmp_path / _files.LOCK).unlink()
    use(tmp_path)
