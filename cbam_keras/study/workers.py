"""Processes on this machine that share the cells of a study."""

import contextlib
import functools
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cbam_keras import _checks
from cbam_keras.study.checkpoints import WORKER
from cbam_keras.study.folder import StudyFolder
from cbam_keras.study.study import Study

# What a process gets to end by itself.
SECONDS_TO_END = 5.0
# The last lines that are shown of a worker that failed.
MAX_LINES = 5
COMMAND = "from cbam_keras.study.workers import work; work()"


def run_workers(
    study: Study, folder: StudyFolder, workers: int, tensorboard: bool
) -> None:
    """Trains what a study lacks by several processes, and waits for them.

    What they print is printed here. A worker that dies is not started again:
    its network goes to another one. All end with this process, in whatever
    way that ends.

    Args:
        study: A `Study`, picklable by cloudpickle.
        folder: Its `StudyFolder`, opened.
        workers: Positive integer.
        tensorboard: Boolean, see `run`.

    Raises:
        TypeError: If the study cannot be given to another process.
        RuntimeError: If something is missing when all workers have ended.
    """
    payload = payload_of(
        functools.partial(_train, study, folder.path.absolute(), tensorboard)
    )
    processes: list[Worker] = []
    try:
        for index in range(workers):
            processes.append(Worker(index, workers, payload))
        failures = [text for worker in processes if (text := worker.wait())]
    finally:
        for worker in processes:
            worker.end()
    folder.refresh()
    if any(folder.outcome(v.name, seed) is None for v, seed in study.cells):
        raise RuntimeError(
            f'{"; ".join(failures)}. All files in "{folder.path}" are '
            "whole, and the same call resumes"
        )
    for text in failures:
        _checks.warn(f"{text}. The other workers took over")


def work() -> None:
    """What a worker does: calls the function that it was given."""
    stream = sys.stdin.buffer
    (size,) = struct.unpack("!Q", stream.read(8))
    content = stream.read(size)

    def end_with_parent():
        # Returns when the other end is closed. Not by `stream`, whose lock
        # would be held when the interpreter ends.
        os.read(stream.fileno(), 1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    cloudpickle = _checks.require("cloudpickle", extra="plot")
    paths, pickled = cloudpickle.loads(content)
    sys.path[:0] = [path for path in paths if path not in sys.path]
    cloudpickle.loads(pickled)()


def _train(study, output, tensorboard):
    """Trains the cells of a study until nothing is left."""
    from cbam_keras.study.run import run_as_worker

    run_as_worker(study, output, tensorboard)


class Worker:
    """A process that calls a function, and what it prints.

    Args:
        index: Integer from 0.
        workers: Integer, how many there are.
        payload: Bytes, the function, see `payload_of`.
        environment: Mapping of further variables. Defaults to none.
    """

    def __init__(
        self,
        index: int,
        workers: int,
        payload: bytes,
        environment: Mapping[str, str] | None = None,
    ):
        self.name = f"Worker {index + 1}"
        self.errors = tempfile.TemporaryFile("w+")
        self.process: Any = subprocess.Popen(
            [sys.executable, "-c", COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={
                "TF_CPP_MIN_LOG_LEVEL": "1",
                **os.environ,
                **part_of_machine(index, workers, os.environ),
                WORKER: str(index + 1),
                **(environment or {}),
            },
            # Ctrl-C reaches the process that has started this one.
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._print, daemon=True)
        self.reader.start()
        stdin: Any = self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            stdin.write(struct.pack("!Q", len(payload)) + payload)
            stdin.flush()

    def _print(self):
        for line in self.process.stdout:
            print(line.decode(errors="replace"), end="", flush=True)

    def wait(self) -> str:
        """Returns how it failed, or an empty string."""
        code = self.process.wait()
        self.reader.join()
        if not code:
            return ""
        how = f"with exit status {code}"
        if code < 0:
            how = f"by {signal.Signals(-code).name}"
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()[-MAX_LINES:]
        return f"{self.name} ended {how} ({' '.join(lines) or 'no message'})"

    def end(self) -> None:
        """Ends the process, if it has not ended."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(SECONDS_TO_END)
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.errors.close()


def payload_of(function: Callable[[], None]) -> bytes:
    """Returns a function without arguments as workers get it."""
    cloudpickle = _checks.require("cloudpickle", extra="plot")
    try:
        pickled = cloudpickle.dumps(function)
    except Exception as error:
        raise TypeError(
            "`workers` need a study that can be given to other processes: "
            "data by name instead of loaded ones, and functions that hold no "
            f"open files or models. Received: {type(error).__name__}: {error}"
        ) from error
    # The path first: modules of the user's are imported by it.
    return cloudpickle.dumps((list(sys.path), pickled))


def part_of_machine(
    index: int, workers: int, environment: Mapping[str, str]
) -> dict[str, str]:
    """Returns the variables that give a worker its part of the machine."""
    devices = _accelerators(environment)
    if devices:
        part = {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]}
        if workers > len(devices):
            # Else the first on a device would take all of its memory.
            part["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
            part["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    else:
        threads = str(max(1, (os.cpu_count() or 1) // workers))
        part = {
            "OMP_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": threads,
        }
    # What the user has set holds, but for the devices, which are shared out.
    return {
        key: value
        for key, value in part.items()
        if key == "CUDA_VISIBLE_DEVICES" or key not in environment
    }


def _accelerators(environment: Mapping[str, str]) -> list[str]:
    """Returns the GPUs that may be used, as CUDA names them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    try:
        listed: Any = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listed.stdout.splitlines() if line[:4] == "GPU "]
    return [str(index) for index in range(len(lines))]
