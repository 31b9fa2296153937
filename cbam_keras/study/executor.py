"""Networks trained by the workers of a `concurrent.futures.Executor`."""

import collections
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
from cbam_keras.study.cell import ERROR, Outcome
from cbam_keras.study.checkpoints import load_state
from cbam_keras.study.folder import CELLS, StudyFolder
from cbam_keras.study.machine import part_of_machine
from cbam_keras.study.worker import Trainer, offered

# How often a network is tried again whose worker has died.
RETRIES = 3
# Between two looks at how far the workers are.
SECONDS_BETWEEN_LOOKS = 0.5
# Errors of arguments and files, which no other try would avoid.
REFUSED = (ValueError, TypeError, ImportError)
# Of Dask, after it has tried a task again itself.
KILLED = "KilledWorker"


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
            # Those of this thread, and of the processes that it starts.
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
        # Dask's has no public name for it.
        return max(1, sum(client.nthreads().values()))
    for name in ("num_workers", "_max_workers"):
        if count := getattr(executor, name, None):
            return int(count)
    return os.cpu_count() or 1


@contextlib.contextmanager
def pool_of(
    executor: Executor, folder: StudyFolder, make: Callable[[], Trainer]
) -> Iterator["Pool"]:
    """Context of a `Pool`, whose workers train by what `make` returns."""
    token = uuid.uuid4().hex
    with offered(folder.path, token, make):
        pool = Pool(executor, folder, token)
        try:
            yield pool
        finally:
            pool.cancel()


class Pool:
    """Networks under training by workers, and how far they are."""

    def __init__(self, executor: Executor, folder: StudyFolder, token: str):
        self.executor, self.folder, self.token = executor, folder, token
        # What a trainer takes besides, and how many of its workers have died.
        self.arguments: dict[tuple[str, int], tuple] = {}
        self.deaths: collections.Counter = collections.Counter()
        # Dask takes equal calls for one.
        self.calls = itertools.count(1)
        self.futures: dict[Future, tuple[str, int]] = {}
        # Networks that other processes train, to be tried again.
        self.busy: list[tuple[str, int]] = []
        self.epochs = {name: len(rows) for name, rows in self._histories()}

    def submit(self, variant: str, seed: int, *arguments: object) -> None:
        """Lets a worker train a network, by what its trainer takes."""
        self.arguments[variant, seed] = arguments
        self._send((variant, seed))

    def outcome(self, variant: str, seed: int) -> Outcome:
        """Returns the outcome of a network, once it is trained."""
        while (variant, seed) in self.arguments:
            self._wait()
        found = self.folder.outcome(variant, seed)
        if found is None:
            raise RuntimeError(
                f'"{self.folder.path}" holds no outcome of "{variant}" with '
                f"seed {seed}, which a worker has trained. Do all workers "
                "see this folder?"
            )
        return found

    def cancel(self) -> None:
        """Cancels what has not begun."""
        for future in self.futures:
            future.cancel()

    def _send(self, key):
        path = str(self.folder.path.absolute())
        backend = keras.backend.backend()
        arguments = *key, *self.arguments[key]
        job = path, self.token, backend, arguments, next(self.calls)
        try:
            future = self.executor.submit(worker.train, *job)
        except RuntimeError as error:
            raise self._lost(error) from error
        self.futures[future] = key

    def _wait(self):
        """Waits a moment, and handles what has ended."""
        ended, _ = concurrent.futures.wait(
            self.futures,
            SECONDS_BETWEEN_LOOKS,
            concurrent.futures.FIRST_COMPLETED,
        )
        for future in ended:
            self._end(self.futures.pop(future), future)
        if not self.futures:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        self._print_progress()
        while self.busy and len(self.futures) < count_workers(self.executor):
            self._send(self.busy.pop(0))

    def _end(self, key, future):
        name = f"{key[0]}, seed {key[1]}"
        try:
            is_trained = future.result()
        except (
            concurrent.futures.CancelledError,
            concurrent.futures.BrokenExecutor,
        ) as error:
            raise self._lost(error) from error
        except REFUSED:
            raise
        except Exception as error:
            is_killed = type(error).__name__ == KILLED
            self.deaths[key] += 1
            if self.deaths[key] <= RETRIES and not is_killed:
                _checks.warn(f"{name} is tried again: {error}")
                self._send(key)
                return
            if not is_killed and not isinstance(error, worker.WorkerDied):
                raise
            message = f"{type(error).__name__}: {error}"
            failed = Outcome(*key, ERROR, message)
            self.folder.record(failed, self.folder.cell(*key))
            is_trained = True
        if not is_trained:
            self.busy.append(key)
            return
        del self.arguments[key]
        self.folder.refresh()
        if outcome := self.folder.outcome(*key):
            print(f"{name}: {_result(outcome)}", flush=True)

    def _histories(self):
        """Yields name and history of each network under training."""
        for path in self.folder.path.glob(f"{CELLS}/*/"):
            # It may have been trained meanwhile.
            with contextlib.suppress(OSError):
                if state := load_state(path):
                    yield path.name, state.history

    def _print_progress(self):
        """Prints a line for each network that has trained another epoch."""
        for cell, history in self._histories():
            if len(history) > self.epochs.get(cell, 0):
                self.epochs[cell] = len(history)
                row = history[-1]
                shown = next(
                    name
                    for name in ("val_accuracy", "accuracy", "loss")
                    if name in row
                )
                print(
                    f"{cell}: epoch {row['epoch']}, {shown} {row[shown]:.4f}",
                    flush=True,
                )

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
    # Of detection there may be no number.
    measured = {k: x for k, x in outcome.metrics.items() if x is not None}
    return ", ".join(f"{name} {x:.4f}" for name, x in measured.items())
