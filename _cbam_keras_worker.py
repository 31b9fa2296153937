"""What the workers of an executor do: each trains in a process of its own.

A worker of Dask draws from the generators that Keras takes seeds from, and a
crash of a backend or of the machine's memory would end it. So it hands each
task on to a child process, which trains one network after the other, and is
replaced when it dies. A module outside the package: the worker itself does
without Keras, whose import takes seconds and half a gigabyte.
"""

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from typing import Any

CHILD = "from cbam_keras.study.worker import serve; serve()"
# The last lines that are shown of a child that died.
MAX_LINES = 5
# What a child gets to end by itself.
SECONDS_TO_END = 5.0
# The child of each thread, and the variables of its environment.
_of_thread = threading.local()


class WorkerDied(RuntimeError):
    """The process that trained a network has ended."""


def set_environment(variables: Mapping[str, str]) -> None:
    """Sets variables for the children that this thread starts."""
    _of_thread.environment = variables


def train(
    folder: str, token: str, backend: str, arguments: tuple, attempt: int
) -> bool:
    """Trains a network by a child, and returns whether it is trained.

    It is not where another process is training it. `folder` is the output
    folder, and `token` names the file in it that says what is trained; the
    `arguments` say which network, and `attempt` counts the tries.
    """
    child = getattr(_of_thread, "child", None)
    if child is None or child.backend != backend or child.has_ended:
        child = _of_thread.child = _Child(backend)
    status, value = child.call((folder, token, arguments))
    if status == "error":
        raise value
    return value


class _Child:
    """A process that trains what it is sent."""

    def __init__(self, backend: str):
        self.backend = backend
        self.errors = tempfile.TemporaryFile("w+", errors="replace")
        self.process: Any = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={
                "TF_CPP_MIN_LOG_LEVEL": "1",
                **os.environ,
                **getattr(_of_thread, "environment", {}),
                "KERAS_BACKEND": backend,
            },
            # Ctrl-C reaches the process that has started the run.
            start_new_session=True,
        )
        weakref.finalize(self, self.errors.close)
        weakref.finalize(self, _end, self.process)

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def call(self, job: tuple) -> tuple[str, Any]:
        """Returns the child's answer, or raises `WorkerDied`."""
        try:
            pickle.dump(job, self.process.stdin)
            self.process.stdin.flush()
            return pickle.load(self.process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise WorkerDied(self._how_it_ended()) from None

    def _how_it_ended(self):
        _end(self.process)
        code = self.process.returncode
        how = f"with exit status {code}"
        if code < 0:
            how = f"by {signal.Signals(-code).name}"
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()[-MAX_LINES:]
        return (
            f"A worker on {socket.gethostname()} ended {how} "
            f"({' '.join(lines) or 'no message'})"
        )


def _end(process):
    """Ends a child, which ends by itself when its input is closed."""
    try:
        process.stdin.close()
    except OSError:
        # What it did not read any more.
        pass
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
