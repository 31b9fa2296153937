"""Files written whole, damaged files renamed, locks between processes."""

import contextlib
import csv
import datetime
import errno
import json
import os
import pathlib
import socket
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cbam_keras import _checks

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# An object in a file, or to be written: what it holds is checked elsewhere.
Json = dict[str, Any]
# Begins the name of a file that is being written, or was when the process
# was killed.
UNFINISHED = ".unfinished-"
# Ends the name of a damaged file that was set aside.
DAMAGED = ".damaged"
# Lies in a folder while a process writes to it.
LOCK = ".lock"
# Errors of a full disk or quota, and of a file that is too large.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary path, which replaces `path` if no error is raised.

    Both have the same suffix, which Keras and others choose the format by.
    After a power cut `path` holds the old content or the new one, and what was
    replaced before it is new.
    """
    path = pathlib.Path(path)
    beside = path.with_name(UNFINISHED + path.name)
    if beside.is_symlink():
        # It would be written to what it points to.
        beside.unlink()
    try:
        yield beside
        with open(beside, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
        _write_names(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _write_names(folder):
    """Returns when the names in a folder are on the disk."""
    # Windows opens no folders, and some network file systems do not sync them.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=2) + "\n")


def write_csv(
    path: str | os.PathLike, rows: Sequence[Mapping[str, object]]
) -> None:
    """Writes rows as CSV, with the columns of all, whole or not at all."""
    names = dict.fromkeys(name for row in rows for name in row)
    with (
        replacing(path) as beside,
        beside.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        writer.writerows(rows)


def write_figure(path: str | os.PathLike, figure: Any) -> None:
    """Writes a matplotlib figure, whole or not at all."""
    with replacing(path) as beside:
        figure.savefig(beside, dpi=150)


def quarantine(path: pathlib.Path, error: Exception) -> None:
    """Renames a file that cannot be read, with a warning."""
    aside = path.with_name(path.name + DAMAGED)
    path.replace(aside)
    reason = str(error).strip().split("\n")[0]
    _checks.warn(
        f'"{path}" cannot be read ({reason}). It is renamed to '
        f'"{aside.name}" and treated as missing'
    )


def is_torn(path: pathlib.Path) -> bool:
    """Returns whether a file is what a power cut has left of an archive."""
    return path.exists() and not zipfile.is_zipfile(path)


def is_unwritable(folder: pathlib.Path, error: Exception) -> bool:
    """Returns whether an error means that the disk is full or read-only."""
    return isinstance(error, OSError) and (
        error.errno in FULL or not os.access(folder, os.W_OK)
    )


@contextlib.contextmanager
def writing_to(folder: pathlib.Path) -> Iterator[None]:
    """Says what is safe, and how to resume, where nothing can be written."""
    try:
        yield
    except OSError as error:
        if not is_unwritable(folder, error):
            raise
        raise RuntimeError(
            f'"{folder}" can no longer be written to '
            f"({error.strerror or error}). What is in it is whole. Make room "
            "or restore access, and the same call resumes after the last "
            "finished epoch"
        ) from error


def output_folder(path: str | os.PathLike) -> pathlib.Path:
    """Returns `path` as a folder that exists and can be written to."""
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Its name is unique, so nothing can be overwritten.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            "`output` must be a folder that can be written to. Received: "
            f'output="{path}" ({error.strerror})'
        ) from error
    return folder


class InUse(ValueError):
    """Another process holds a lock."""

    def __init__(self, path: pathlib.Path, is_certain: bool = True):
        holder = "another process"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            lock = json.loads(path.read_text())
            holder = "process {process} on {host} since {since}".format(**lock)
            is_certain = is_certain and lock["host"] == socket.gethostname()
        if not is_certain:
            holder += (
                " (if that runs no more and the file system has not noticed, "
                f'delete "{path}")'
            )
        super().__init__(f'"{path}" is in use by {holder}')


@contextlib.contextmanager
def locked(path: pathlib.Path, seconds: float = 0) -> Iterator[None]:
    """Holds a lock that other processes respect, or raises `InUse`.

    One that they hold for moments only is waited for, so many seconds.

    The operating system takes the lock from a process that ends, in whatever
    way, also on network file systems that support `flock`. Where there is no
    `flock`, the file itself counts, and a killed process leaves it behind.
    """
    file = _acquired(path, time.monotonic() + seconds)
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


def is_locked(path: pathlib.Path) -> bool:
    """Returns whether a process that has not ended holds a lock."""
    if not path.exists():
        return False
    try:
        with locked(path):
            return False
    except InUse:
        return True


def _acquired(path, end):
    """Returns the file of a lock, which this process holds now."""
    while True:
        path.parent.mkdir(exist_ok=True)
        if path.is_symlink():
            path.unlink()
        with contextlib.ExitStack() as stack:
            # The process before deletes it, perhaps after it was opened.
            stack.enter_context(contextlib.suppress(FileNotFoundError))
            file = stack.enter_context(open(path, "a+", opener=_open_no_link))
            try:
                _acquire(file, path)
            except InUse:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.02)
                continue
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                stack.pop_all()
                return file


def _open_no_link(path, flags):
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _acquire(file, path):
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
    except BlockingIOError:
        raise InUse(path) from None
    except OSError:
        # The file system has no such locks.
        pass
    if path.stat().st_size:
        raise InUse(path, is_certain=False)
