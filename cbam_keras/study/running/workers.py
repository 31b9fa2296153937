"""Workers: processes that train the networks of an output folder.

The folder is their queue. The process that runs the study keeps them alive, on
this machine or as tasks of a `concurrent.futures.Executor`.
"""

import collections
import dataclasses
import functools
import os
import pickle
import re
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import keras

from cbam_keras import _checks, _files
from cbam_keras._terminal import duration, say
from cbam_keras.study.files.folder import versions
from cbam_keras.study.files.machines import list_gpus
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.plans.numerics import read_numerics, set_numerics

# The program of a worker, which gets a pickle on its standard input.
SCRIPT = """
import os, pickle, sys
backend, paths, content = pickle.load(sys.stdin.buffer)
os.environ["KERAS_BACKEND"], sys.path[:] = backend, paths
from cbam_keras.study.running import workers
workers.main(content)
"""
# Errors that no other try would avoid, and the exit status of a worker then.
REFUSED, REFUSED_STATUS = (ValueError, TypeError, ImportError), 78
MOST_DEATHS = 2
# The last lines that are shown of a worker that ended, at most so long.
MAX_LINES, MAX_LENGTH = 5, 10_000
# What a worker writes before the name of the network that it trains next.
TRAINS = "cbam_keras trains "
# What TensorFlow writes when it starts, which no worker dies of.
START_UP = re.compile(
    "WARNING: All log messages|To enable the following instructions|"
    r"I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I |.* failed call to cuInit"
)
SECONDS_BETWEEN_LOOKS = 0.5


def delegate(queue: Any, count: int, executor: Executor | None) -> None:
    """Keeps so many workers alive until no network is missing."""
    workers = _Workers(queue, count, executor, _pickle(queue))
    try:
        while queue.missing():
            workers.wait()
        workers._print_progress()
    finally:
        workers.end()


def _pickle(queue):
    """Returns what workers need, in a form that no module has to read."""
    cloudpickle = _checks.require("cloudpickle", extra="cluster")
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
        return cloudpickle.dumps((read_numerics(), registered, made))
    except Exception as error:
        raise TypeError(
            "Workers need a study that can be pickled: data by name, functions "
            f"without open files or models. Received: {error!r}"
        ) from error


def main(content: bytes) -> None:
    """Trains, as a worker, one network after the other until none is left."""
    try:
        make, call, running, used = _read(content)
        if not running.exists():
            raise ValueError(
                "`output` must be one folder that all workers share. Received: "
                f'output="{running.parent}", missing on {socket.gethostname()}'
            )
        if used != (here := versions()):
            raise ValueError(
                "Workers must have the same versions as the process that runs "
                f"the study, {used}. Received: {here} on {socket.gethostname()}"
            )
        queue = make()
        queue.folder.call, queue.is_worker = call, True
        threading.Thread(target=_end_with, args=[queue], daemon=True).start()
        with _files.writing_to(queue.folder.path):
            while queue.missing():
                if not queue.train_next():
                    # What has killed two workers is recorded before it looks.
                    time.sleep(4 * SECONDS_BETWEEN_LOOKS)
    except REFUSED as error:
        message = " ".join(str(error).split())
        print(f"{type(error).__name__}: {message}", file=sys.stderr)
        sys.exit(REFUSED_STATUS)


def _read(content):
    """Returns what was pickled last, with settings as they were there."""
    numerics, registered, made = pickle.loads(content)
    set_numerics(numerics)
    for full_name, value in registered.items():
        package, _, name = full_name.partition(">")
        keras.saving.register_keras_serializable(package, name)(value)
    return pickle.loads(made)


def _end_with(queue):
    """Ends this process when the run, or what has started it, has ended."""
    parent = os.getppid()
    while _files.is_locked(queue.folder.running) and os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(0)


class _LocalWorker(subprocess.Popen):
    """A worker of this machine, which is waited for as a `Future` is."""

    def __init__(self, command: list[str], plan: bytes, part: dict[str, str]):
        # A file is never full, as a pipe is.
        self.written = tempfile.TemporaryFile()
        with tempfile.TemporaryFile() as given:
            given.write(plan)
            given.seek(0)
            super().__init__(
                command,
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=self.written,
                env={"TF_CPP_MIN_LOG_LEVEL": "1", **os.environ, **part},
                # Ctrl-C reaches the process that runs the study.
                start_new_session=True,
            )

    def done(self) -> bool:
        return self.poll() is not None

    def result(self) -> subprocess.CompletedProcess:
        with self.written as file:
            file.seek(0)
            text = file.read()
        return subprocess.CompletedProcess([], self.returncode, stderr=text)

    def cancel(self) -> None:
        """Ends it at once; what it writes is whole at any time."""
        with self.written:
            self.kill()
            self.wait()


class _Workers:
    """Workers that are running, and what is known of those that ended."""

    def __init__(
        self, queue: Any, count: int, executor: Executor | None, plan: bytes
    ):
        self.queue, self.folder, self.plan = queue, queue.folder, plan
        self.executor, self.count = executor, count
        self.workers: dict[int, _LocalWorker | Future] = {}
        self.known = queue.progress()
        # How many processes were killed by network, or before any (""), and
        # what is said of networks that are given up.
        self.deaths: collections.Counter[str] = collections.Counter()
        self.given_up: dict[str, str] = {}
        # When networks began that are trained now, and how long others took.
        self.began: dict[str, float] = {}
        self.seconds: dict[str, list[float]] = {}

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
        self._give_up()

    def _give_up(self):
        for name, message in self.given_up.items():
            # It does nothing while another worker tries.
            self.queue.give_up(name, message)

    def _start(self, number):
        backend = keras.backend.backend()
        # Dask takes equal calls for one, and this makes them differ.
        command = [sys.executable, "-P", "-c", SCRIPT, secrets.token_hex(4)]
        paths = [os.getcwd() if x == "" else x for x in sys.path]
        plan = pickle.dumps((backend, paths, self.plan))
        if self.executor is None:
            part = part_of_machine(number, self.count, os.environ)
            return _LocalWorker(command, plan, part)
        try:
            return self.executor.submit(
                subprocess.run, command, input=plan, capture_output=True
            )
        except RuntimeError as error:
            raise self._lost(error) from error

    def end(self) -> None:
        """Ends workers of this machine; others see that the run has ended."""
        for worker in self.workers.values():
            worker.cancel()

    def _check_end(self, worker):
        """Raises if a worker ended by an error, which no other would avoid."""
        try:
            ended = worker.result()
        except Exception as error:
            raise self._lost(error) from error
        if ended.returncode == 0:
            return
        network, words = _last_words(ended.stderr.decode(errors="replace"))
        if ended.returncode == REFUSED_STATUS:
            raise ValueError(words[-1])
        how = f"with exit status {ended.returncode}"
        if ended.returncode < 0:
            how = f"by {signal.Signals(-ended.returncode).name}"
        how += f" ({' '.join(words) or 'no message'})"
        # Windows has no signals, but large numbers.
        is_killed = ended.returncode < 0 or ended.returncode > 128
        if not is_killed or not self._goes_on(network, how):
            raise RuntimeError(
                f"A worker stopped {how}. No files were damaged; repeat the "
                "call to resume. Fewer workers need less memory"
            )

    def _goes_on(self, network, how):
        """Counts a killed worker, and returns whether another follows it."""
        self.deaths[network] += 1
        is_last = self.deaths[network] >= MOST_DEATHS
        if not network:
            say(f"A worker stopped {how} before it trained a network")
            return not is_last
        self.began.pop(network, None)
        # Its file is deleted, as nobody holds it.
        _files.is_locked(self.folder.path / network / _files.LOCK)
        if not is_last:
            say(f"{network}: its worker stopped {how} and was replaced")
            return True
        self.given_up[network] = (
            f"{self.deaths[network]} processes that trained it were killed, "
            f"the last one {how}. SIGKILL often means too little memory: use "
            "fewer workers or smaller batches"
        )
        return True

    def _print_progress(self):
        """Prints a line for each network that has ended."""
        known, self.known, now = self.known, self.queue.progress(), time.time()
        trained, ended = 0, []
        for name, begun in self.known.items():
            if isinstance(begun, Outcome):
                if not isinstance(known.get(name), Outcome):
                    ended.append((name, begun))
            elif (self.folder.path / name / _files.LOCK).exists():
                trained += 1
                if begun is None or not begun.history:
                    self.began.setdefault(name, now)
        for name, outcome in ended:
            began = self.began.pop(name, None)
            if began is not None and outcome.finished:
                self.seconds.setdefault(outcome.variant, []).append(now - began)
        missing = [variant.name for variant, _ in self.queue.missing()]
        left = time_left(self.seconds, missing, max(1, trained + len(ended)))
        before = sum(isinstance(begun, Outcome) for begun in known.values())
        for number, (name, outcome) in enumerate(ended, before + 1):
            self.deaths[""] = 0
            of = f"({number} of {len(self.known)}{left})"
            say(f"{name}: {_result(outcome)} {of}")

    def _lost(self, error):
        text = str(error).strip() or type(error).__name__
        return RuntimeError(
            f"The executor runs no more tasks ({text}). All files in "
            f'"{self.folder.path}" are intact, and the same call resumes'
        )


def time_left(
    measured: Mapping[str, Sequence[float]],
    missing: Sequence[str],
    processes: int = 1,
) -> str:
    """Returns ", about 12 min left", by the seconds of networks that ended."""
    if not measured or not missing:
        return ""
    means = {name: statistics.fmean(each) for name, each in measured.items()}
    # Variants of which none has ended may take as long as the others.
    usual = statistics.fmean(means.values())
    left = [means.get(name, usual) for name in missing]
    # The last network keeps one process busy, however many there are.
    seconds = max(max(left), sum(left) / processes)
    return f", {duration(seconds)} left"


def _last_words(text):
    """Returns which network a worker trained, or "", and its last errors."""
    *before, last = re.split(f"{TRAINS}(.*)\n", text)
    lines = [
        line
        for line in last[-MAX_LENGTH:].splitlines()
        if line.strip() and not START_UP.match(line)
    ]
    return before[-1] if before else "", lines[-MAX_LINES:]


def _result(outcome):
    """Returns in a few words how a training ended."""
    if not outcome.finished:
        return f"{outcome.status} ({outcome.message})"
    return ", ".join(
        f"{name} {x:.4f}"
        for name, x in outcome.metrics.items()
        # A measure may have no value.
        if x is not None and not name.startswith("iou_")
    )


def part_of_machine(
    index: int, workers: int, environment: Mapping[str, str]
) -> dict[str, str]:
    """Returns the variables by which a worker gets its part of the machine."""
    if devices := accelerators(environment):
        part = {}
        if workers > len(devices):
            # The first process on a device would take all of its memory.
            part["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
            part["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        alone = {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]}
    else:
        # All have as many threads: the last digits depend on it.
        cores = _checks.require("joblib", extra="plot").cpu_count()
        threads = str(max(1, cores // workers))
        names = "OMP_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP"
        part = {f"{name}_THREADS": threads for name in names}
        alone = {}
    part = {k: v for k, v in part.items() if k not in environment}
    return part | alone


def accelerators(environment: Mapping[str, str]) -> list[str]:
    """Returns the GPUs that may be used, as CUDA names them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    return [str(index) for index in range(len(list_gpus()))]
