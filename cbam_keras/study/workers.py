"""Processes that share work: on one machine, or on one folder."""

import contextlib
import functools
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import Any

import keras

from cbam_keras import _checks

# Set in a process that is one of several workers on this machine.
WORKER = "CBAM_KERAS_WORKER"
# What a process gets to end by itself.
SECONDS_TO_END = 5.0
# The last lines that are shown of a worker that failed.
MAX_LINES = 5
COMMAND = "from cbam_keras.study.workers import work; work()"


def is_worker() -> bool:
    """Returns whether this process is one of several workers."""
    return WORKER in os.environ


def work() -> None:
    """Calls the function that a worker reads from its input."""
    stream = sys.stdin.buffer
    paths, pickled = pickle.load(stream)

    def end_with_parent():
        # Returns when the other end is closed. Not by `stream`, whose lock
        # would be held when the interpreter ends.
        os.read(stream.fileno(), 1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.path[:0] = [path for path in paths if path not in sys.path]
    pickle.loads(pickled)()


class Worker:
    """A process that calls a function, and prints here."""

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
            stdin.write(payload)
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
        with contextlib.suppress(BrokenPipeError), self.process:
            self.reader.join()
        self.errors.close()


def payload_of(function: Callable[[], None]) -> bytes:
    """Returns a function without arguments as workers get it."""
    cloudpickle = _checks.require("cloudpickle", extra="plot")
    # cloudpickle copies classes of `__main__`, and does not register them.
    registered = {
        name: value
        for name, value in keras.saving.get_custom_objects().items()
        if value.__module__ == "__main__" and ">" in name
    }
    try:
        pickled = cloudpickle.dumps(
            functools.partial(_registered, registered, function)
        )
    except Exception as error:
        raise TypeError(
            "`workers` need a study that can be given to other processes: "
            "data by name instead of loaded ones, and functions that hold no "
            f"open files or models. Received: {type(error).__name__}: {error}"
        ) from error
    # The path first, by which the user's modules are imported.
    return pickle.dumps((list(sys.path), pickled))


def _registered(objects, function):
    """Calls a function with these objects registered."""
    for full_name, value in objects.items():
        package, _, name = full_name.partition(">")
        keras.saving.register_keras_serializable(package, name)(value)
    function()


def part_of_machine(
    index: int, workers: int, environment: Mapping[str, str]
) -> dict[str, str]:
    """Returns the variables that give a worker its part of the machine."""
    if devices := accelerators(environment):
        part = {}
        if workers > len(devices):
            # Else the first on a device would take all of its memory.
            part["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
            part["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        alone = {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]}
    else:
        threads = str(max(1, (os.cpu_count() or 1) // workers))
        names = "OMP_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP"
        part = {f"{name}_THREADS": threads for name in names}
        alone = {}
    return {k: v for k, v in part.items() if k not in environment} | alone


def accelerators(environment: Mapping[str, str]) -> list[str]:
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
