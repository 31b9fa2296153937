"""Files are whole or not there; a lock is held by one process."""

import contextlib
import errno
import fcntl
import os
import pathlib
import subprocess
import sys
import threading

import filelock
import pytest

from cbam_keras import _files


def test_replacing_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "network.keras"
    path.write_text("old")
    with _files.replacing(str(path)) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    # Keras chooses the format by the suffix.
    assert beside.suffix == ".keras"


def test_two_processes_that_write_one_file_both_write_it_whole(tmp_path):
    path = tmp_path / "page.html"
    with _files.replacing(path) as first:
        first.write_text("one")
        _files.write_json(path, "other")
        assert path.read_text() == '"other"\n'
    assert path.read_text() == "one"


def test_what_a_killed_process_left_is_deleted(tmp_path):
    with _files.replacing(tmp_path / "a-b.json") as beside:
        beside.touch()
    beside.touch()
    _files.delete_unfinished(tmp_path, "a-b.json")
    assert os.listdir(tmp_path) == ["a-b.json"]


def test_no_cell_of_csv_is_a_formula(tmp_path):
    rows = [{"+CBAM": "=HYPERLINK(1)", "seed": "-1"}, {"+CBAM": -1.5}]
    _files.write_csv(tmp_path / "a.csv", rows)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines == ["'+CBAM,seed", "'=HYPERLINK(1),-1", "-1.5,"]


def test_an_error_leaves_all_as_it_was(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), _files.replacing(path) as file:
        file.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.json"]


# One process at a time, released however a process ends.

# The process does without Keras, whose import takes seconds.
HOLDER = """
import pathlib, sys, time, types

sys.modules["keras"] = types.SimpleNamespace(Model=None)
package = sys.modules["cbam_keras"] = types.ModuleType("cbam_keras")
package.__path__ = [sys.argv[1]]
from cbam_keras import _files
with _files.locked(pathlib.Path(sys.argv[2])):
    print("locked", flush=True)
    time.sleep(600)
"""


def use(folder):
    """Holds a lock in a folder for a moment."""
    with _files.locked(folder / "lock"):
        assert os.listdir(folder) == ["lock"]
    assert os.listdir(folder) == []


@contextlib.contextmanager
def held(lock):
    """Gives a process that holds a lock, and is then killed."""
    package = pathlib.Path(_files.__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, package, lock],
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            assert process.stdout.readline() == b"locked\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    with held(tmp_path / "lock"):
        with pytest.raises(_files.InUse) as caught:
            use(tmp_path)
    assert str(tmp_path / "lock") in str(caught.value)
    # The file of the lock is still there.
    assert os.listdir(tmp_path) == ["lock"]
    use(tmp_path)


def test_a_lock_that_is_held_for_a_moment_is_waited_for(tmp_path):
    stack = contextlib.ExitStack()
    stack.enter_context(_files.locked(tmp_path / "lock"))
    with pytest.raises(ValueError, match="in use by another process"):
        use(tmp_path)
    release = threading.Timer(0.1, stack.close)
    release.start()
    with _files.locked(tmp_path / "lock", seconds=60):
        pass
    release.join()
    use(tmp_path)


def test_without_flock_nothing_is_locked(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="not supported"):
        use(tmp_path)


@pytest.mark.parametrize("text", ["=1+1", "=1+cmd|x", "-1+1", "+a", "@x"])
def test_formulas_are_no_cells(text):
    assert _files.as_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1.5", "+3e-5", "-", "a=1", ""])
def test_numbers_and_words_stay_as_cells(text):
    assert _files.as_cell(text) == text


def test_a_lock_is_checked_after_it_is_acquired(tmp_path):
    # Older versions of filelock take the function, but do not call it.
    called = []
    lock = filelock.FileLock(tmp_path / "lock", on_acquired=called.append)
    with lock:
        assert len(called) == 1


def test_a_filelock_that_checks_nothing_is_refused(tmp_path, monkeypatch):
    class Old(filelock.FileLock):
        def __init__(self, path, on_acquired, **options):
            super().__init__(path, **options)

    monkeypatch.setattr(filelock, "FileLock", Old)
    path = tmp_path / "lock"
    with pytest.raises(ImportError, match="filelock 3.32 or newer.*Received"):
        _files.locked(path).__enter__()
    monkeypatch.undo()
    assert not _files.is_locked(path)
