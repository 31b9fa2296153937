"""`serve`: the process in which a worker of an executor trains networks."""

import contextlib
import functools
import os
import pathlib
import pickle
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import keras

from cbam_keras import _checks, _files
from cbam_keras._version import __version__
from cbam_keras.study.cells import Cells
from cbam_keras.study.folder import CELLS

# A worker looks so often whether the process that runs the study still does.
SECONDS_BETWEEN_LOOKS = 1.0
# How long a process without work waits for that of another study.
SECONDS_IDLE = 60.0
# What a worker must have in common with the process that runs the study.
VERSIONS = {
    "cbam_keras": __version__,
    "keras": keras.__version__,
    "python": "{}.{}".format(*sys.version_info),
}


@contextlib.contextmanager
def offered(
    folder: pathlib.Path, token: str, make: Callable[[], Cells]
) -> Iterator[None]:
    """Context in which workers can train the cells that `make` returns.

    A file in `.cells` holds it, and a lock beside the file is held while this
    process runs the study: workers stop when the lock is free.
    """
    path = folder / CELLS / f"{token}.study"
    with _files.locked(path.with_suffix(".lock")):
        try:
            with _files.replacing(path) as beside:
                beside.write_bytes(_pickled(make))
            yield
        finally:
            path.unlink(missing_ok=True)


def serve() -> None:
    """Trains what the worker writes to the input of this process."""
    # What a network prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    jobs: queue.Queue = queue.Queue()
    known: dict[str, Cells] = {}
    start = functools.partial(threading.Thread, daemon=True)
    start(target=_receive, args=(jobs, known)).start()
    watch = _Watch(known)
    start(target=watch.run).start()
    while True:
        folder, token = jobs.get()
        with watch.training(pathlib.Path(folder, CELLS, f"{token}.lock")):
            answer = _answer(known, pathlib.Path(folder), token)
        pickle.dump(answer, answers)
        answers.flush()


def _receive(jobs, known):
    """Passes jobs on, and ends this process with the worker."""
    try:
        while True:
            jobs.put(pickle.load(sys.stdin.buffer))
    except EOFError:
        _leave(known)


def _leave(known):
    """Ends this process, for no fault of the network that it trains."""
    for cells in [*known.values()]:
        cells.give_back()
    os._exit(1)


class _Watch:
    """Ends this process after the one that runs the study has ended."""

    def __init__(self, known: dict[str, Cells]):
        self.known = known
        self.lock: pathlib.Path | None = None
        self.is_training = False
        self.last_held = time.monotonic()

    @contextlib.contextmanager
    def training(self, lock: pathlib.Path) -> Iterator[None]:
        self.lock, self.last_held = lock, time.monotonic()
        self.is_training = True
        yield
        self.is_training = False

    def run(self) -> None:
        while True:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            lock = self.lock
            if lock is None or _files.is_locked(lock):
                self.last_held = time.monotonic()
                continue
            idle = time.monotonic() - self.last_held
            # Another study may have begun in the meantime.
            is_its_work = self.is_training and lock == self.lock
            if is_its_work or idle > SECONDS_IDLE:
                _leave(self.known)


def _answer(known, folder, token):
    """Returns how a job ended, and whether it has trained a network."""
    try:
        with _files.writing_to(folder):
            if token not in known:
                # The data of another study are freed first.
                known.clear()
                cells = _unpickled(folder, token)()
                cells.folder.join()
                known[token] = cells
            return "result", known[token].train_next()
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return "error", error


def _pickled(make):
    cloudpickle = _checks.require("cloudpickle", extra="cluster")
    # cloudpickle copies classes of `__main__`, and does not register them.
    registered = {
        name: value
        for name, value in keras.saving.get_custom_objects().items()
        if value.__module__ == "__main__" and ">" in name
    }
    try:
        content = cloudpickle.dumps((registered, make))
    except Exception as error:
        raise TypeError(
            "Workers need a study that can be given to other processes: "
            "data by name instead of loaded ones, and functions that hold no "
            f"open files or models. Received: {type(error).__name__}: {error}"
        ) from error
    # The path comes first: the user's modules are imported by it.
    return pickle.dumps((VERSIONS, list(sys.path), content))


def _unpickled(folder, token):
    path, host = folder / CELLS / f"{token}.study", socket.gethostname()
    try:
        versions, paths, content = pickle.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(
            "`output` must be one folder that all workers share. Received: "
            f'output="{folder}", where a worker on {host} cannot see what the '
            "process that runs the study has written"
        ) from None
    if versions != VERSIONS:
        raise ValueError(
            "Workers must have the versions of the process that runs the "
            f"study, {_listed(versions)}. Received: a worker on {host} with "
            f"{_listed(VERSIONS)}"
        )
    sys.path[:0] = [entry for entry in paths if entry not in sys.path]
    registered, make = pickle.loads(content)
    for full_name, value in registered.items():
        package, _, name = full_name.partition(">")
        keras.saving.register_keras_serializable(package, name)(value)
    return make


def _listed(versions):
    return ", ".join(f"{name} {value}" for name, value in versions.items())
