"""Workers: processes that train the networks of an output folder.

The folder is their queue, and says what they have done. The process that runs
the study only keeps them alive while networks are missing: on this machine, or
as tasks of a `concurrent.futures.Executor`, each of which runs one worker.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import importlib.util
import os
import pathlib
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import BinaryIO

import keras

from cbam_keras import _checks, _files
from cbam_keras._terminal import say
from cbam_keras._version import __version__
from cbam_keras.study.running.checkpoints import EXCUSED
from cbam_keras.study.running.folder import PLAN, TRAINING
from cbam_keras.study.running.machine import part_of_machine
from cbam_keras.study.running.options import RunOptions
from cbam_keras.study.running.outcomes import Outcome
from cbam_keras.study.running.queue import Queue

# `python -m`, which finds this package where this process has found it, and
# nothing in the current folder.
START = """
import runpy, sys
folder = sys.argv.pop(1)
if folder not in sys.path:
    sys.path.insert(0, folder)
runpy.run_module("cbam_keras.study.running.worker", run_name="__main__")
"""
# What a worker must have in common with the process that runs the study.
VERSIONS = {
    "cbam_keras": __version__,
    "keras": keras.__version__,
    "python": "{}.{}".format(*sys.version_info),
}
# The settings of `keras.config` that workers get.
CONFIGURED = ("floatx", "epsilon", "image_data_format", "dtype_policy")
# Errors of arguments and files, which no other try would avoid, and the exit
# status of a worker that ends by one. Python itself uses 1 and 2.
REFUSED, REFUSED_STATUS = (ValueError, TypeError, ImportError), 78
# The path of a file that says what to train, and the SHA-256 of its content.
PlanFile = tuple[str, str]
# How a worker has ended: its host and number, its exit status, its last lines.
End = tuple[str, int, list[str]]
# How many workers may end one after the other, for no fault of a network.
MAX_FAILURES = 4
# The last lines that are shown of a worker that ended, and the bytes read.
MAX_LINES, MAX_BYTES = 5, 10_000
# This process looks so often at how far the workers are.
SECONDS_BETWEEN_LOOKS = 0.5


@contextlib.contextmanager
def training_by(
    options: RunOptions, queue: Queue, make: Callable[[], Queue]
) -> Iterator[Callable[[], None]]:
    """Gives a function that trains, or waits a moment for those who do.

    They are this process, or workers, which get the `queue` by `make`.
    """
    workers, executor = options.workers or 1, options.executor
    if workers == 1 and executor is None:
        yield queue.train_or_wait
        return
    with offer_plan(queue.folder.path, make) as plan:
        backend = keras.backend.backend()

        def start(number):
            if executor is not None:
                # Dask takes equal calls for one.
                call = secrets.token_hex(4)
                return executor.submit(
                    WorkerCall(run_worker, plan, backend, call)
                )
            return Worker(plan, backend, number, workers)

        started = Workers(queue, start, options)
        try:
            yield started.wait
        finally:
            started.end()


@contextlib.contextmanager
def offer_plan(
    folder: pathlib.Path, make: Callable[[], Queue]
) -> Iterator[PlanFile]:
    """Context in which workers can train the queue that `make` returns.

    Gives a file in `.training` that holds it, and its digest. A lock beside the
    file is held while this process runs the study: workers end when it is free.
    """
    path = folder.absolute() / TRAINING / f"run-{secrets.token_hex(4)}{PLAN}"
    with _files.locked(path.with_suffix(".lock")):
        try:
            content = _pickle(make)
            path.write_bytes(content)
            yield str(path), hashlib.sha256(content).hexdigest()
        finally:
            path.unlink(missing_ok=True)


def _pickle(make):
    cloudpickle = _checks.require("cloudpickle", extra="cluster")
    settings = {name: getattr(keras.config, name)() for name in CONFIGURED}
    # cloudpickle copies classes of `__main__`, and does not register them.
    registered = {
        name: value
        for name, value in keras.saving.get_custom_objects().items()
        if getattr(value, "__module__", "") == "__main__" and ">" in name
    }
    try:
        # Layers are unpickled once their classes are registered.
        made = cloudpickle.dumps(make)
        content = cloudpickle.dumps((settings, registered, made))
    except Exception as error:
        raise TypeError(
            "Workers need a study that can be given to other processes: "
            "data by name instead of loaded ones, and functions that hold no "
            f"open files or models. Received: {type(error).__name__}: {error}"
        ) from error
    # The path comes first: the user's modules are imported by it.
    return pickle.dumps((VERSIONS, list(sys.path), content))


def start_worker(
    plan: PlanFile,
    backend: str,
    environment: Mapping[str, str],
    errors: BinaryIO,
) -> subprocess.Popen:
    """Starts a worker, which writes what goes wrong to a file."""
    package = importlib.util.find_spec("cbam_keras")
    if package is None or package.origin is None:
        host = socket.gethostname()
        raise ImportError(f"cbam_keras is not installed on {host}")
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-c", START),
            *(os.path.dirname(os.path.dirname(str(package.origin))), *plan),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env={
            "TF_CPP_MIN_LOG_LEVEL": "1",
            **os.environ,
            **environment,
            "KERAS_BACKEND": backend,
        },
        # Ctrl-C reaches the process that runs the study.
        start_new_session=True,
    )


def wait_for_worker(process: subprocess.Popen, errors: BinaryIO) -> End:
    """Returns how a worker has ended."""
    status = process.wait()
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - MAX_BYTES))
    text = errors.read().decode(errors="replace")
    lines = text.strip().splitlines()[-MAX_LINES:]
    return f"{socket.gethostname()}:{process.pid}", status, lines


def run_worker(plan: PlanFile, backend: str, call: str) -> End:
    """Runs a worker to its end; `call` is another text in each call."""
    with tempfile.TemporaryFile() as errors:
        process = start_worker(plan, backend, {}, errors)
        return wait_for_worker(process, errors)


class WorkerCall(functools.partial):
    """A call of `run_worker`, pickled with its code.

    Pickled by its name it would import Keras wherever it is unpickled, which
    takes seconds and half a gigabyte. The code needs Python alone. It is of
    functions, since cloudpickle finds a class of this process by its name.
    """

    def __reduce__(self) -> tuple[Callable, tuple[bytes]]:
        cloudpickle = _checks.require("cloudpickle", extra="cluster")
        module = sys.modules[__name__]
        cloudpickle.register_pickle_by_value(module)
        try:
            call = functools.partial(self.func, *self.args)
            return pickle.loads, (cloudpickle.dumps(call),)
        finally:
            cloudpickle.unregister_pickle_by_value(module)


class Worker:
    """A worker of this machine, which is waited for as a `Future` is."""

    def __init__(self, plan: PlanFile, backend: str, number: int, workers: int):
        part, cores = part_of_machine(number, workers, os.environ)
        # A file is never full, as a pipe is, and its end can be read while
        # other processes that the worker has started hold it open.
        self.errors = tempfile.TemporaryFile()
        self.process = start_worker(plan, backend, part, self.errors)
        if cores:
            os.sched_setaffinity(self.process.pid, cores)

    def done(self) -> bool:
        """Returns whether it has ended."""
        return self.process.poll() is not None

    def result(self) -> End:
        """Returns how it has ended."""
        with self.errors:
            return wait_for_worker(self.process, self.errors)

    def cancel(self) -> None:
        """Ends it at once; what it writes is whole at any time."""
        self.process.kill()
        self.process.wait()
        self.errors.close()


def count_workers(options: RunOptions) -> int:
    """Returns how many networks are trained at a time."""
    executor = options.executor
    if executor is None:
        return options.workers or 1
    client = getattr(executor, "_client", None)
    if client is not None:
        # The executor of Dask has no public name for it.
        return max(1, sum(client.nthreads().values()))
    for name in ("num_workers", "_max_workers"):
        if count := getattr(executor, name, None):
            return int(count)
    return os.cpu_count() or 1


class Workers:
    """Keeps workers alive while networks are missing.

    `start` starts one by its number from 0, on this machine or by an executor.
    """

    def __init__(
        self,
        queue: Queue,
        start: Callable[[int], Worker | Future],
        options: RunOptions,
    ):
        self.queue, self.folder, self.start = queue, queue.folder, start
        self.options = options
        self.workers: dict[int, Worker | Future] = {}
        # How many train at a time, fewer once memory has been short.
        self.most = count_workers(options)
        # How many ended since a network has last been trained for an epoch.
        self.failures = 0
        histories = self.folder.histories()
        self.epochs = {name: len(rows) for name, rows in histories.items()}
        outcomes = self.folder.stored_outcomes
        self.ended = {(x["variant"], x["seed"]) for x in outcomes}

    def wait(self) -> None:
        """Starts the workers that are missing, and waits a moment for them."""
        count = len(self.queue.missing())
        if self.options.executor is None:
            count = min(count, self.most)
        # An executor gets a task for each network: some grow by what waits.
        for number in range(count):
            if number not in self.workers and len(self.workers) < count:
                try:
                    self.workers[number] = self.start(number)
                except RuntimeError as error:
                    raise self._lost(error) from error
        time.sleep(SECONDS_BETWEEN_LOOKS)
        self.folder.refresh()
        self._print_progress()
        for number, worker in [*self.workers.items()]:
            # A worker ends when the run has ended, or for a bad reason.
            if worker.done():
                del self.workers[number]
                self._note_end(worker)

    def end(self) -> None:
        """Ends the workers of this machine, and tasks that have not begun.

        Workers elsewhere end by themselves, since the run has ended.
        """
        for worker in self.workers.values():
            worker.cancel()

    def _note_end(self, worker):
        """Warns of a worker that has ended, or raises if others would, too."""
        try:
            process, status, lines = worker.result()
        except (
            concurrent.futures.CancelledError,
            concurrent.futures.BrokenExecutor,
        ) as error:
            raise self._lost(error) from error
        except REFUSED:
            raise
        # Dask raises errors of its own after it has tried a task again.
        except Exception as error:
            self.failures += 1
            if self.failures == MAX_FAILURES:
                raise self._lost(error) from error
            _checks.warn(f"A network is tried again: {error}")
            return
        if status == REFUSED_STATUS:
            raise ValueError(lines[-1])
        how = f"with exit status {status}"
        if status < 0:
            how = f"by {signal.Signals(-status).name}"
        message = (
            f"A worker on {process.rpartition(':')[0]} ended {how} "
            f"({' '.join(lines) or 'no message'})"
        )
        others = len(self.workers) if self.options.executor is None else 0
        if others and how == "by SIGKILL":
            # The system does so where memory is short.
            self.folder.note_death(process, EXCUSED)
            self.most = others
            _checks.warn(f"Memory is short, {others} at a time now: {message}")
            return
        # The folder counts how often a network has killed its process.
        if not self.folder.note_death(process, message):
            self.failures += 1
        if self.failures == MAX_FAILURES:
            raise RuntimeError(
                f"{message}, as {MAX_FAILURES - 1} others did before it. All "
                f'files in "{self.folder.path}" are whole, and the same call '
                "resumes"
            )
        _checks.warn(f"A network is tried again: {message}")

    def _print_progress(self):
        """Prints a line for each new epoch, and each network that has ended."""
        has_news = not self.queue.has_said_time
        for outcome, history in self.folder.histories().items():
            if len(history) > self.epochs.get(outcome, 0):
                self.epochs[outcome] = len(history)
                self.failures = 0
                row = history[-1]
                measures = ("val_accuracy", "val_miou", "accuracy", "loss")
                name = next(name for name in measures if name in row)
                say(f"{outcome}: epoch {row['epoch']}, {name} {row[name]:.4f}")
        for outcome in self.folder.stored_outcomes:
            key = outcome["variant"], outcome["seed"]
            if key not in self.ended:
                self.ended.add(key)
                self.failures = 0
                has_news = True
                say(f"{key[0]}, seed {key[1]}: {_result(Outcome(**outcome))}")
        if has_news:
            self.queue.say_time_left(self.most)

    def _lost(self, error):
        text = str(error).strip() or type(error).__name__
        return RuntimeError(
            f"The executor runs no more tasks ({text}). All files in "
            f'"{self.folder.path}" are whole, and the same call resumes'
        )


def _result(outcome):
    """Returns in a few words how a training ended."""
    if not outcome.finished:
        return f"{outcome.status} ({outcome.message})"
    # A measure may have no value.
    measured = {
        name: x
        for name, x in outcome.metrics.items()
        if x is not None and not name.startswith("iou_")
    }
    return ", ".join(f"{name} {x:.4f}" for name, x in measured.items())
