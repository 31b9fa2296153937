"""Workers: processes that train the networks of an output folder.

The folder is their queue, and says what they have done. The process that runs
the study only keeps them alive while networks are missing: on this machine, or
as tasks of a `concurrent.futures.Executor`, each of which runs one worker.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import os
import pickle
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError
from typing import TYPE_CHECKING

import keras

from cbam_keras import _checks, _files
from cbam_keras._terminal import say
from cbam_keras.study.running.checkpoints import save_state
from cbam_keras.study.running.machine import part_of_machine
from cbam_keras.study.running.outcomes import ERROR

if TYPE_CHECKING:
    from cbam_keras.study.running.run import Queue

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
# How many workers may die one after the other for no fault of a network, and
# how many by one network without an epoch between them.
MOST_DEATHS = 4
# The last lines that are shown of a worker that ended, and the bytes read.
MAX_LINES, MAX_BYTES = 5, 10_000
SECONDS_BETWEEN_LOOKS = 0.5


def train(
    queue: "Queue", count: int, executor: concurrent.futures.Executor | None
) -> None:
    """Keeps so many workers alive until no network is missing."""
    folder = queue.folder
    # Workers end when this process does not hold it any more.
    running = folder.path / f"{_files.LOCK}-{folder.call}"
    with _files.locked(running), contextlib.ExitStack() as stack:
        workers = _Workers(queue, count, executor, _pickle(queue, running))
        stack.callback(workers.end)
        while queue.missing():
            workers.wait()


def _pickle(queue, running):
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
        queue.tensorboard,
        queue.callbacks,
    )
    try:
        # Layers are unpickled once their classes are registered.
        made = cloudpickle.dumps((make, queue.folder.call, running.absolute()))
        return cloudpickle.dumps((settings, registered, made))
    except Exception as error:
        raise TypeError(
            "Workers need a study that can be given to other processes: "
            "data by name instead of loaded ones, and functions that hold no "
            f"open files or models. Received: {type(error).__name__}: {error}"
        ) from error


def main(content: bytes) -> None:
    """Trains, as a worker, one network after the other until none is left."""
    print(f"\nworker {socket.gethostname()}:{os.getpid()}", file=sys.stderr)
    try:
        make, call, running = _read(content)
        if not running.exists():
            raise ValueError(
                "`output` must be one folder that all workers share. Received: "
                f'output="{running.parent}", where a worker on '
                f"{socket.gethostname()} cannot see what is written"
            )
        threading.Thread(target=_end_with, args=[running], daemon=True).start()
        queue = make()
        queue.folder.call = call
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


def _end_with(running):
    """Ends this process when the run has ended; its files are whole."""
    while _files.is_locked(running):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(0)


class _LocalWorker:
    """A worker of this machine, which is waited for as a `Future` is."""

    def __init__(
        self, command: list[str], plan: bytes, number: int, count: int
    ):
        part, cores = part_of_machine(number, count, os.environ)
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
        if cores:
            os.sched_setaffinity(self.process.pid, cores)

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
        queue: "Queue",
        count: int,
        executor: concurrent.futures.Executor | None,
        plan: bytes,
    ):
        self.queue, self.folder, self.plan = queue, queue.folder, plan
        self.executor, self.count, self.most = executor, count, count
        self.workers: dict[int, _LocalWorker | concurrent.futures.Future] = {}
        self.deaths: collections.Counter = collections.Counter()
        self.known = {name: state.epochs for name, state in self._states()}

    def _states(self):
        for variant, seed in self.queue.study.cells:
            if state := self.folder.state(variant.name, seed):
                yield f"{variant.name}-seed{seed}", state

    def wait(self) -> None:
        """Starts the workers that are missing, and waits a moment for them."""
        most = len(self.queue.missing())
        if self.executor is None:
            most = min(most, self.most)
        # An executor gets a task for each network: some grow by what waits.
        for number in range(most):
            if number not in self.workers and len(self.workers) < most:
                self.workers[number] = self._start(number)
        time.sleep(SECONDS_BETWEEN_LOOKS)
        self._print_progress()
        for number, worker in [*self.workers.items()]:
            if worker.done():
                del self.workers[number]
                self._note_end(worker)

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
        """Ends workers of this machine, and tasks that have not begun."""
        for worker in self.workers.values():
            worker.cancel()

    def _note_end(self, worker):
        """Warns of a worker that has died, or raises if others would, too."""
        try:
            ended = worker.result()
        except Exception as error:
            lost = self._lost(error)
            if isinstance(error, (CancelledError, BrokenExecutor)):
                raise lost from error
            self._count("executor", lost)
            return
        text = ended.stderr[-MAX_BYTES:].decode(errors="replace")
        lines = text.strip().splitlines()[-MAX_LINES:]
        if ended.returncode == 0:
            return
        if ended.returncode == REFUSED_STATUS:
            raise ValueError(lines[-1])
        how = f"with exit status {ended.returncode}"
        if ended.returncode < 0:
            how = f"by {signal.Signals(-ended.returncode).name}"
        message = f"A worker ended {how} ({' '.join(lines) or 'no message'})"
        if how == "by SIGKILL" and self.workers and self.executor is None:
            # The system does so where memory is short.
            self.most = len(self.workers)
            _checks.warn(
                f"{self.most} at a time now, in less memory: {message}"
            )
            return
        process = re.search(r"^worker (\S+)$", text, re.MULTILINE)
        self._blame(process and process[1], message)

    def _blame(self, process, message):
        """Counts a death, as that of the network that the process trained."""
        for variant, seed in self.queue.missing():
            place = self.folder.place(variant.name, seed)
            with contextlib.suppress(OSError, ValueError):
                lock = json.loads((place / _files.LOCK).read_text())
                if "{host}:{process}".format(**lock) == process:
                    self._give_up(variant, seed, message)
                    return
        error = f"{message}. All files are whole, and the same call resumes"
        self._count("none", RuntimeError(error))

    def _count(self, what, error):
        """Raises an error that was seen so often, and else warns."""
        self.deaths[what] += 1
        if self.deaths[what] == MOST_DEATHS:
            raise error
        _checks.warn(f"A network is tried again: {error}")

    def _give_up(self, variant, seed, message):
        """Records a network that has killed so many processes as an error."""
        name, folder = variant.name, self.folder
        state = folder.new_state(variant, seed, self.queue.load(seed))
        try:
            self._count((name, seed, state.epochs), RuntimeError(message))
        except RuntimeError:
            message = f"WorkerDied: {MOST_DEATHS} times, last {message}"
            state.ended = {"status": ERROR, "message": message, "file": None}
            with folder.claim(name, seed):
                save_state(folder.place(name, seed), state)

    def _print_progress(self):
        """Prints a line for each new epoch, and each network that has ended."""
        for name, state in self._states():
            row = state.history[-1] if state.history else {}
            if state.epochs > self.known.get(name, 0):
                self.known[name] = state.epochs
                key = next((x for x in row if x.startswith("val_a")), "loss")
                say(f"{name}: epoch {row['epoch']}, {key} {row[key]:.4f}")
            outcome = state.outcome
            if outcome and state.call == self.folder.call:
                if (name, "ended") not in self.known:
                    self.known[name, "ended"] = 0
                    say(f"{name}: {outcome.message or outcome.metrics}")

    def _lost(self, error):
        text = str(error).strip() or type(error).__name__
        return RuntimeError(
            f"The executor runs no more tasks ({text}). All files in "
            f'"{self.folder.path}" are whole, and the same call resumes'
        )
