"""Networks trained by the workers of a `concurrent.futures.Executor`.

A task says to train the next network that nobody trains. Which one that is, a
worker finds in the output folder.
"""

import concurrent.futures
import contextlib
import itertools
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import keras

import _cbam_keras_worker as worker
from cbam_keras import _checks
from cbam_keras._terminal import say
from cbam_keras.study.cell import Outcome
from cbam_keras.study.cells import Cells
from cbam_keras.study.machine import part_of_machine
from cbam_keras.study.worker import offered

# How many tasks may fail one after the other, for no fault of a network.
MAX_FAILURES = 4
# This process looks so often at how far the workers are.
SECONDS_BETWEEN_LOOKS = 0.5
# Errors of arguments and files, which no other try would avoid.
REFUSED = (ValueError, TypeError, ImportError)


@contextlib.contextmanager
def executor_of(
    workers: int, executor: Executor | None
) -> Iterator[Executor | None]:
    """Gives the executor of a run; `None` if this process trains."""
    if executor is not None or workers == 1:
        yield executor
        return
    # The threads wait for the processes that train.
    children = worker.Children()
    numbers = itertools.count()
    lock = threading.Lock()

    def begin():
        with lock:
            number = next(numbers)
        part, cores = part_of_machine(number, workers, os.environ)
        if cores:
            # The processes that this thread starts have the same cores.
            os.sched_setaffinity(0, cores)
        worker.begin(part, children)

    with ThreadPoolExecutor(workers, initializer=begin) as threads:
        try:
            yield threads
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            # A thread waits for its process, which may not have started yet.
            children.end()


def count_workers(executor: Executor) -> int:
    """Returns how many tasks an executor runs at a time."""
    client = getattr(executor, "_client", None)
    if client is not None:
        # The executor of Dask has no public name for it.
        return max(1, sum(client.nthreads().values()))
    for name in ("num_workers", "_max_workers"):
        if count := getattr(executor, name, None):
            return int(count)
    return os.cpu_count() or 1


@contextlib.contextmanager
def training_by(
    executor: Executor | None, cells: Cells, make: Callable[[], Cells]
) -> Iterator[Callable[[], None]]:
    """Gives a function that trains, or waits a moment for those who do.

    They are this process, or the workers of an executor, which get the `cells`
    by `make`.
    """
    if executor is None:
        yield cells.train_or_wait
        return
    token = uuid.uuid4().hex
    with offered(cells.folder.path, token, make):
        workers = Workers(executor, cells, token)
        try:
            yield workers.wait
        finally:
            for task in workers.tasks:
                task.cancel()


class Workers:
    """Tasks of an executor, as many as networks are missing."""

    def __init__(self, executor: Executor, cells: Cells, token: str):
        self.executor, self.cells, self.token = executor, cells, token
        self.folder = cells.folder
        # Dask takes equal calls for one.
        self.calls = itertools.count(1)
        self.tasks: set[Future] = set()
        # Whether others train what is missing.
        self.is_busy = False
        self.failures = 0
        histories = self.folder.histories()
        self.epochs = {name: len(rows) for name, rows in histories.items()}
        self.known = {(c["variant"], c["seed"]) for c in self.folder.cells}

    def wait(self) -> None:
        """Lets workers train what is missing, and waits a moment for them."""
        missing = len(self.cells.missing())
        if self.is_busy:
            missing = min(missing, count_workers(self.executor))
        while len(self.tasks) < missing:
            self._submit()
        self.is_busy = False
        ended, _ = concurrent.futures.wait(
            self.tasks,
            SECONDS_BETWEEN_LOOKS,
            concurrent.futures.FIRST_COMPLETED,
        )
        self.tasks -= ended
        for task in ended:
            self._end(task)
        if self.is_busy:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if ended:
            self.folder.refresh()
        self._print_progress()

    def _submit(self):
        path = str(self.folder.path.absolute())
        backend = keras.backend.backend()
        job = path, self.token, backend, next(self.calls)
        try:
            self.tasks.add(self.executor.submit(worker.train, *job))
        except RuntimeError as error:
            raise self._lost(error) from error

    def _end(self, task):
        try:
            if task.result():
                self.failures = 0
            else:
                self.is_busy = True
        except (
            concurrent.futures.CancelledError,
            concurrent.futures.BrokenExecutor,
        ) as error:
            raise self._lost(error) from error
        except REFUSED:
            raise
        except Exception as error:
            is_dead = isinstance(error, worker.WorkerDied)
            # The folder counts how often a network has killed its process.
            if not (is_dead and self.folder.note_death(str(error))):
                self.failures += 1
            if self.failures == MAX_FAILURES:
                if isinstance(error, RuntimeError):
                    raise
                # Dask raises errors of its own after it has tried a task again.
                raise self._lost(error) from error
            _checks.warn(f"A network is tried again: {error}")

    def _print_progress(self):
        """Prints a line for each new epoch, and each network that has ended."""
        is_known = self.cells.has_said_time
        for cell, history in self.folder.histories().items():
            if len(history) > self.epochs.get(cell, 0):
                self.epochs[cell] = len(history)
                row = history[-1]
                shown = next(
                    name
                    for name in ("val_accuracy", "accuracy", "loss")
                    if name in row
                )
                value = f"{shown} {row[shown]:.4f}"
                say(f"{cell}: epoch {row['epoch']}, {value}")
        for cell in self.folder.cells:
            key = cell["variant"], cell["seed"]
            if key not in self.known:
                self.known.add(key)
                is_known = False
                say(f"{key[0]}, seed {key[1]}: {_result(Outcome(**cell))}")
        if not is_known:
            self.cells.say_time_left(count_workers(self.executor))

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
    # A detector may have no mean average precision.
    measured = {k: x for k, x in outcome.metrics.items() if x is not None}
    return ", ".join(f"{name} {x:.4f}" for name, x in measured.items())
