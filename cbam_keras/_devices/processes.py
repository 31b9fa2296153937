"""Processes that train one network together under JAX."""

import atexit
import contextlib
import inspect
import os
import socket
import sys
from typing import Any

from cbam_keras import _checks

# A process that is not heard for so long is taken for dead.
SECONDS_OF_SILENCE = 30
# Within which all processes must have connected.
SECONDS_TO_CONNECT = 300
# What messages of JAX contain when another process is gone.
LOST = (
    "gloo",
    "nccl",
    "coordination",
    "heartbeat",
    "connection closed",
    "connection reset",
    "socket closed",
)


class _Connection:
    """The one connection of this process to the others."""

    distribution: Any = None
    # Whether every process has reached the end of what they began together,
    # and otherwise the exit status.
    complete = True
    status = 1


def connect_processes(distribution: Any) -> None:
    """Connects this process to the others; does nothing the second time.

    Args:
        distribution: A `Distribution`.

    Raises:
        ValueError: If this process is connected otherwise, or if the port of
            process 0 is not free.
        RuntimeError: If JAX has computed something already.
    """
    if _Connection.distribution == distribution:
        return
    if _Connection.distribution is not None:
        raise ValueError(
            "A process can be only one of a run. Received: distribute="
            f"{distribution!r} after {_Connection.distribution!r}"
        )
    jax = _checks.require("jax", extra="jax")
    if distribution.process == 0:
        _check_port(distribution.address)
    # GPUs have collectives of their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would keep SIGTERM from ending the process.
    if hasattr(jax.config, "jax_enable_preemption_service"):
        jax.config.update("jax_enable_preemption_service", False)
    atexit.register(_leave)
    _Connection.complete = False
    _initialize(jax, distribution)
    # The first computation makes the processes meet again, within two
    # minutes, which is too short where one has more to load.
    wait_for_processes()
    _Connection.distribution = distribution


def _initialize(jax, distribution):
    limits = {
        "heartbeat_timeout_seconds": SECONDS_OF_SILENCE,
        "initialization_timeout": SECONDS_TO_CONNECT,
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
        if "before any JAX" not in str(error):
            raise
        _Connection.complete = True
        raise RuntimeError(
            "Processes must be connected before the first array or model is "
            "made. Received: distribute after JAX has computed something. "
            "Give `train` functions that build the networks, and call it "
            "first"
        ) from error


def wait_for_processes() -> None:
    """Returns when every process has called this."""
    multihost = _checks.require("jax.experimental.multihost_utils", extra="jax")
    multihost.sync_global_devices("cbam_keras")


@contextlib.contextmanager
def guarded(index: int, processes: int, folder: Any):
    """Adds advice on resuming to errors caused by a lost process.

    Args:
        index: Integer, the number of this process.
        processes: Integer, how many there are.
        folder: Path of the output folder.
    """
    others = (
        f"process {1 - index}"
        if processes == 2
        else f"one of the other {processes - 1} processes"
    )
    advice = (
        f'Every file in "{folder}" is whole. Start all {processes} processes '
        "again to resume after the last finished epoch."
    )
    _Connection.complete = False
    try:
        yield
    except KeyboardInterrupt:
        # The exit status that shells give.
        _Connection.status = 130
        raise
    except Exception as error:
        text = str(error).lower()
        if not isinstance(error, (RuntimeError, ValueError)) or not any(
            mark in text for mark in LOST
        ):
            raise
        raise RuntimeError(
            f"Process {index} stopped, since {others} ended or could not be "
            f"reached. {advice}"
        ) from error
    else:
        _Connection.complete = True


def _check_port(address):
    _, port = _checks.parse_address(address)
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
    if not _Connection.complete:
        sys.stdout.flush()
        sys.stderr.flush()
        # JAX's own exit would wait for processes that may be gone.
        os._exit(_Connection.status)
