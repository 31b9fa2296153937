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
import threading
import weakref
from collections.abc import Mapping
from typing import Any

# The folder of this module comes first if Python would not look there, and the
# current folder, with files of the user, never.
CHILD = """
import sys
if sys.argv[1] not in sys.path:
    sys.path.insert(0, sys.argv[1])
from cbam_keras.study.worker import serve
serve()
"""
# The last lines that are shown of a child that died, and the bytes kept of it.
MAX_LINES, MAX_BYTES = 5, 10_000
# What a child gets to end by itself, and its last lines to arrive, in seconds.
SECONDS_TO_END, SECONDS_TO_ARRIVE = 5.0, 1.0
# The child of each thread, how its children are started, and who ends them.
_of_thread = threading.local()


class WorkerDied(RuntimeError):
    """The process that trained a network has ended."""


class Children:
    """The children of a run, which end with it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.processes: set[subprocess.Popen] = set()
        self.have_ended = False

    def start(self, *arguments: Any, **options: Any) -> subprocess.Popen:
        """Starts a child, or raises `WorkerDied` when all have been ended."""
        with self.lock:
            if self.have_ended:
                raise WorkerDied("The run has ended")
            process = subprocess.Popen(*arguments, **options)
            self.processes.add(process)
            return process

    def end(self) -> None:
        """Ends all children at once; what they write is whole at any time."""
        with self.lock:
            self.have_ended = True
            for process in self.processes:
                process.kill()
            for process in self.processes:
                process.wait()


def begin(environment: Mapping[str, str], children: Children) -> None:
    """Says with which variables this thread starts children, and for whom."""
    _of_thread.environment, _of_thread.children = environment, children


def train(folder: str, token: str, backend: str, call: int) -> bool:
    """Trains the next network that nobody trains, if there is one, by a child.

    `folder` is the output folder, and `token` names the file in it that says
    what is trained; `call` is another number in each call.
    """
    child = getattr(_of_thread, "child", None)
    if child is None or child.backend != backend or child.has_ended:
        child = _of_thread.child = _Child(backend)
    status, value = child.call((folder, token))
    if status == "error":
        raise value
    return value


class _Child:
    """A process that trains what it is sent."""

    def __init__(self, backend: str):
        self.backend = backend
        start = subprocess.Popen
        if hasattr(_of_thread, "children"):
            start = _of_thread.children.start
        folder = os.path.dirname(os.path.abspath(__file__))
        self.process: Any = start(
            [sys.executable, "-P", "-c", CHILD, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "TF_CPP_MIN_LOG_LEVEL": "1",
                **os.environ,
                **getattr(_of_thread, "environment", {}),
                "KERAS_BACKEND": backend,
            },
            # Ctrl-C reaches the process that has started the run.
            start_new_session=True,
        )
        self.last = bytearray()
        self.reader = threading.Thread(
            target=_keep_last,
            args=(self.process.stderr, self.last),
            daemon=True,
        )
        self.reader.start()
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
        # Processes that the child has started may still write.
        self.reader.join(SECONDS_TO_ARRIVE)
        text = self.last.decode(errors="replace")
        lines = text.strip().splitlines()[-MAX_LINES:]
        return (
            f"A worker on {socket.gethostname()} ended {how} "
            f"({' '.join(lines) or 'no message'})"
        )


def _keep_last(stream, last):
    """Keeps the last bytes of a stream, however much is written to it."""
    with stream:
        while chunk := os.read(stream.fileno(), MAX_BYTES):
            last += chunk
            del last[:-MAX_BYTES]


def _end(process):
    """Ends a child, which ends by itself when its input is closed."""
    try:
        process.stdin.close()
    except OSError:
        # The child did not read the rest any more.
        pass
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
