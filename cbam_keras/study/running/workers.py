"""Workers: processes that train the networks of an output folder.

The folder is their queue, and says what they have done. The process that runs
the study only starts them while networks are missing: on this machine, or as
tasks of a `concurrent.futures.Executor`, each of which runs one worker.
"""

import concurrent.futures
import dataclasses
import functools
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Protocol

import keras

from cbam_keras import _checks, _files
from cbam_keras._terminal import say
from cbam_keras.study.files.checkpoints import State
from cbam_keras.study.files.folder import StudyFolder, versions
from cbam_keras.study.files.options import CallbackMakers
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.plans.study import Run, Study, Variant
from cbam_keras.study.running.machine import part_of_machine


class Queue(Protocol):
    """What workers ask of the networks of a folder."""

    study: Study
    folder: StudyFolder
    callbacks: CallbackMakers

    def missing(self) -> list[tuple[Variant, Run]]: ...
    def progress(self) -> dict[str, Outcome | State | None]: ...


# The program of a worker, which gets a pickle on its standard input.
START = """
import os, pickle, sys
backend, paths, content = pickle.load(sys.stdin.buffer)
os.environ["KERAS_BACKEND"], sys.path[:] = backend, paths
from cbam_keras.study.running import workers
workers.main(content)
"""
# The settings of `keras.config` that workers get.
CONFIGURED = ("floatx", "epsilon", "image_data_format", "dtype_policy")
# Errors of arguments and files, which no other try would avoid, and the exit
# status of a worker that ends by one. Python itself uses 1 and 2.
REFUSED, REFUSED_STATUS = (ValueError, TypeError, ImportError), 78
# The last lines that are shown of a worker that ended, and the bytes read.
MAX_LINES, MAX_BYTES = 5, 10_000
SECONDS_BETWEEN_LOOKS = 0.5


def train(
    queue: Queue, count: int, executor: concurrent.futures.Executor | None
) -> None:
    """Starts so many workers until no network is missing."""
    workers = _Workers(queue, count, executor, _pickle(queue))
    try:
        while queue.missing():
            workers.wait()
    finally:
        workers.end()


def _pickle(queue):
    """Returns what workers need, in a form that no module has to read."""
    cloudpickle = _checks.require("cloudpickle", extra="cluster")
    settings = {name: getattr(keras.config, name)() for name in CONFIGURED}
    # cloudpickle copies classes of `__main__`, and does not register them.
    registered = {
        name: value
        for name, value in keras.saving.get_custom_objects().items()
        if getattr(value, "__module__", "") == "__main__" and ">" in name
    }
    # What is done at the end is for this process.
    make = functools.partial(
        type(queue).of,
        dataclasses.replace(queue.study, finish=None),
        queue.folder.path.absolute(),
        queue.callbacks,
    )
    try:
        # Layers are unpickled once their classes are registered.
        folder = queue.folder
        here = folder.call, folder.running, folder.content["versions"]
        made = cloudpickle.dumps((make, *here))
        return cloudpickle.dumps((settings, registered, made))
    except Exception as error:
        raise TypeError(
            "Workers need a study that can be given to other processes: "
            "data by name instead of loaded ones, and functions that hold no "
            f"open files or models. Received: {type(error).__name__}: {error}"
        ) from error


def main(content: bytes) -> None:
    """Trains, as a worker, one network after the other until none is left."""
    try:
        make, call, running, used = _read(content)
        if not running.exists():
            raise ValueError(
                "`output` must be one folder that all workers share. Received: "
                f'output="{running.parent}", where a worker on '
                f"{socket.gethostname()} cannot see what is written"
            )
        if used != (here := versions()):
            raise ValueError(
                "Workers must have the versions of the process that runs the "
                f"study, {used}. Received: {here} on {socket.gethostname()}"
            )
        queue = make()
        queue.folder.call, queue.is_worker = call, True
        threading.Thread(target=_end_with, args=[queue], daemon=True).start()
        with _files.writing_to(queue.folder.path):
            while queue.missing():
                if not queue.train_next(backwards=True):
                    # Another worker may die.
                    time.sleep(SECONDS_BETWEEN_LOOKS)
    except REFUSED as error:
        message = " ".join(str(error).split())
        print(f"{type(error).__name__}: {message}", file=sys.stderr)
        sys.exit(REFUSED_STATUS)


def _read(content):
    """Returns what was pickled last, with Keras set as it was there."""
    settings, registered, made = pickle.loads(content)
    for name, value in settings.items():
        getattr(keras.config, f"set_{name}")(value)
    for full_name, value in registered.items():
        package, _, name = full_name.partition(">")
        keras.saving.register_keras_serializable(package, name)(value)
    return pickle.loads(made)


def _end_with(queue):
    """Ends this process when the run has ended; its files are whole.

    Also if what has started it has died, as the process of an executor.
    """
    parent = os.getppid()
    while _files.is_locked(queue.folder.running) and os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(0)


class _LocalWorker:
    """A worker of this machine, which is waited for as a `Future` is."""

    def __init__(
        self, command: list[str], plan: bytes, number: int, count: int
    ):
        part = part_of_machine(number, count, os.environ)
        # A file is never full, as a pipe is.
        self.errors = tempfile.TemporaryFile()
        with tempfile.TemporaryFile() as given:
            given.write(plan)
            given.seek(0)
            self.process = subprocess.Popen(
                command,
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                env={"TF_CPP_MIN_LOG_LEVEL": "1", **os.environ, **part},
                # Ctrl-C reaches the process that runs the study.
                start_new_session=True,
            )

    def done(self) -> bool:
        return self.process.poll() is not None

    def result(self) -> subprocess.CompletedProcess:
        with self.errors as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_BYTES))
            status = self.process.returncode
            return subprocess.CompletedProcess([], status, stderr=file.read())

    def cancel(self) -> None:
        """Ends it at once; what it writes is whole at any time."""
        with self.errors:
            self.process.kill()
            self.process.wait()


class _Workers:
    """Workers that are running, and what is known of those that ended."""

    def __init__(
        self,
        queue: Queue,
        count: int,
        executor: concurrent.futures.Executor | None,
        plan: bytes,
    ):
        self.queue, self.folder, self.plan = queue, queue.folder, plan
        self.executor, self.count = executor, count
        self.workers: dict[int, _LocalWorker | concurrent.futures.Future] = {}
        self.known = queue.progress()

    def wait(self) -> None:
        """Starts the workers that are missing, and waits a moment for them."""
        most = len(self.queue.missing())
        if self.executor is None:
            most = min(most, self.count)
        # An executor gets a task for each network: some grow by what waits.
        for number in range(most):
            if number not in self.workers and len(self.workers) < most:
                self.workers[number] = self._start(number)
        time.sleep(SECONDS_BETWEEN_LOOKS)
        self._print_progress()
        for number, worker in [*self.workers.items()]:
            if worker.done():
                del self.workers[number]
                self._check_end(worker)

    def _start(self, number):
        backend = keras.backend.backend()
        # Dask takes equal calls for one, and this makes them differ.
        command = [sys.executable, "-P", "-c", START, secrets.token_hex(4)]
        paths = [os.getcwd() if x == "" else x for x in sys.path]
        plan = pickle.dumps((backend, paths, self.plan))
        if self.executor is None:
            return _LocalWorker(command, plan, number, self.count)
        try:
            return self.executor.submit(
                subprocess.run, command, input=plan, capture_output=True
            )
        except RuntimeError as error:
            raise self._lost(error) from error

    def end(self) -> None:
        """Ends workers of this machine, and tasks that have not begun.

        Workers elsewhere end by themselves, since the run has ended.
        """
        for worker in self.workers.values():
            worker.cancel()

    def _check_end(self, worker):
        """Raises if a worker has died."""
        try:
            ended = worker.result()
        except Exception as error:
            raise self._lost(error) from error
        text = ended.stderr.decode(errors="replace")
        lines = [x for x in text.splitlines() if x.strip()][-MAX_LINES:]
        if ended.returncode == 0:
            return
        if ended.returncode == REFUSED_STATUS:
            raise ValueError(lines[-1])
        how = f"with exit status {ended.returncode}"
        if ended.returncode < 0:
            how = f"by {signal.Signals(-ended.returncode).name}"
        raise RuntimeError(
            f"A worker ended {how} ({' '.join(lines) or 'no message'}). All "
            "files are whole, and the same call resumes, with fewer workers in "
            "less memory"
        )

    def _print_progress(self):
        """Prints a line for each network that has ended."""
        known, self.known = self.known, self.queue.progress()
        for name, begun in self.known.items():
            before = known.get(name)
            is_end = isinstance(begun, Outcome)
            if is_end and not isinstance(before, Outcome):
                say(f"{name}: {_result(begun)}")

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
