"""Processes that train together under JAX: they meet, and end, together."""

import atexit
import contextlib
import inspect
import os
import socket
import subprocess
import sys
from typing import Any

from cbam_keras import _checks

# After which a process that says nothing is taken for dead, in seconds.
HEARTBEAT = 30
# In which all processes must come, in seconds.
START = 300
# What JAX's errors hold when another process is gone.
LOST = (
    "gloo",
    "nccl",
    "coordination",
    "heartbeat",
    "connection closed",
    "connection reset",
    "socket closed",
)


class _State:
    """What this process knows of the others; there is one such connection."""

    distribution: Any = None
    herald: Any = None
    # Whether what began together has ended together, and the exit status if
    # it has not.
    whole = True
    status = 1


def connect_processes(distribution: Any) -> None:
    """Connects this process to the others; does nothing the second time."""
    if _State.distribution == distribution:
        return
    if _State.distribution is not None:
        raise ValueError(
            "A process can be only one of a run. Received: distribute="
            f"{distribution!r} after {_State.distribution!r}"
        )
    jax = _checks.require("jax", extra="jax")
    if distribution.process == 0:
        _check_port(distribution.address)
    # GPUs have collectives of their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would keep SIGTERM from ending the process.
    if hasattr(jax.config, "jax_enable_preemption_service"):
        jax.config.update("jax_enable_preemption_service", False)
    _herald().will_say(
        f"Not all {distribution.processes} processes of the run came "
        f"together at {distribution.address} in {START} s. Start every one, "
        "each with its own number, and see that process 0 can be reached "
        "there."
    )
    _State.whole = False
    limits = {
        "heartbeat_timeout_seconds": HEARTBEAT,
        "initialization_timeout": START,
    }
    known = inspect.signature(jax.distributed.initialize).parameters
    try:
        jax.distributed.initialize(
            distribution.address,
            distribution.processes,
            distribution.process,
            **{name: limits[name] for name in limits if name in known},
        )
    except RuntimeError as error:
        _herald().will_say("")
        if "before any JAX" not in str(error):
            raise
        _State.whole = True
        raise RuntimeError(
            "Processes must be connected before the first array or model is "
            "made. Received: distribute after JAX has computed something. "
            "Give `train` functions that build the networks, and call it "
            "first"
        ) from error
    # What is first computed makes the processes meet again, within two
    # minutes, which is too short where one has more to load.
    wait_for_processes()
    _State.distribution = distribution
    _herald().will_say(
        f"Process {distribution.process} ended before its time: it was "
        "killed, or another one ended or could not be reached. What they "
        "printed tells more."
    )


def wait_for_processes() -> None:
    """Returns when every process has come here."""
    multihost = _checks.require("jax.experimental.multihost_utils", extra="jax")
    multihost.sync_global_devices("cbam_keras")


@contextlib.contextmanager
def guarded(index: int, processes: int, folder: Any):
    """Tells what to do when another process ends before its time."""
    others = (
        f"process {1 - index}"
        if processes == 2
        else f"one of the other {processes - 1} processes"
    )
    advice = (
        f'Every file in "{folder}" is whole. Start all {processes} processes '
        "again with resume=True (--resume on the command line) to go on "
        "after the last finished epoch."
    )
    _herald().will_say(
        f"Process {index} ended before its time: it was killed, or {others} "
        f"ended or could not be reached. {advice}"
    )
    _State.whole = False
    try:
        yield
    except KeyboardInterrupt:
        # As shells have it.
        _State.status = 130
        raise
    except Exception as error:
        if not _tells_of_loss(error):
            raise
        raise RuntimeError(
            f"Process {index} stopped, since {others} ended or could not be "
            f"reached. {advice}"
        ) from error
    else:
        _State.whole = True
    finally:
        _herald().will_say("")


def _herald():
    if _State.herald is None:
        _State.herald = _Herald()
        # JAX's own exit would wait for processes that may be gone.
        atexit.register(_leave)
    return _State.herald


def _tells_of_loss(error):
    text = str(error).lower()
    return isinstance(error, (RuntimeError, ValueError)) and any(
        mark in text for mark in LOST
    )


def _check_port(address):
    port = int(address.rpartition(":")[2])
    with socket.socket() as probe:
        # As a server does, which may follow right after another.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ValueError(
                "`address` must have a port that is free on the machine of "
                f"process 0. Received: address={address!r} "
                f"({error.strerror})"
            ) from error


def _leave():
    _State.herald.dismiss()
    if not _State.whole:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_State.status)


class _Herald:
    """A process that says the last words of this one.

    JAX's runtime aborts a process at once when it has lost process 0, and
    nothing can be said from within.
    """

    CODE = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "words = ''\n"
        "for line in sys.stdin:\n"
        "    words = line.strip()\n"
        "if words:\n"
        "    print(words, file=sys.stderr)\n"
    )

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-X", "utf8", "-c", self.CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )

    def will_say(self, words):
        """Sets what is said if this process ends now; "" for nothing."""
        # It may have been killed with this process' group, a moment earlier.
        with contextlib.suppress(OSError):
            self.process.stdin.write(" ".join(words.split()) + "\n")
            self.process.stdin.flush()

    def dismiss(self):
        """Ends it without a word."""
        self.will_say("")
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
