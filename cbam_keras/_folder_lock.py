"""One process at a time in an output folder."""

import contextlib
import datetime
import json
import os
import pathlib
import socket
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Lies in a folder while a process works there.
LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes out of a folder.

    The operating system takes the lock from a process that ends, in whatever
    way, also on network file systems that support `flock`. Where there is no
    `flock`, the file counts unless it names a process of this machine that
    has ended.

    Raises:
        ValueError: If another process has locked the folder.
    """
    path = folder / LOCK
    while True:
        file = path.open("a+")
        if not _acquired(file, path):
            file.close()
            raise _in_use(folder, _holder(path))
        # The process before deletes the file, perhaps after it was opened.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    try:
        file.truncate(0)
        json.dump(
            {
                "process": os.getpid(),
                "host": socket.gethostname(),
                "since": f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}",
            },
            file,
        )
        file.flush()
        yield
    finally:
        if fcntl is None:
            # Windows deletes no open file.
            file.close()
        path.unlink(missing_ok=True)
        file.close()


def _acquired(file, path):
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError:
        # The file system has no such locks.
        pass
    holder = _holder(path)
    return holder is None or (
        holder["host"] == socket.gethostname()
        and not _is_running(holder["process"])
    )


def _holder(path):
    """Returns what the process wrote that locked the folder, if it did."""
    try:
        holder = json.loads(path.read_text())
        holder["process"] = int(holder["process"])
        return {key: holder[key] for key in ("process", "host", "since")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_running(process):
    if os.name == "nt":
        # There signal 0 is not a question but Ctrl-C.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # Numbers are used again; this process has not locked anything yet.
    return process != os.getpid()


def _in_use(folder, holder):
    who = "another process"
    advice = "Wait until it has ended, or choose another folder"
    if holder is not None:
        who = (
            f"process {holder['process']} on {holder['host']} since "
            f"{holder['since']}"
        )
    if holder is None or holder["host"] != socket.gethostname():
        advice += (
            ". If it runs no more and the file system has not noticed, delete "
            f'"{folder / LOCK}"'
        )
    return ValueError(
        "`output` must be a folder in which no other process works. "
        f'Received: output="{folder}", in use by {who}. {advice}'
    )
