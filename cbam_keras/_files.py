"""Files written whole, models read, locks."""

import contextlib
import csv
import errno
import json
import os
import pathlib
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks

# An object in a file, or to be written: what it holds is checked elsewhere.
Json = dict[str, Any]
# This file tells the output folder of a run from others.
STUDY = "study.json"
# What a task predicts is in a file whose name ends like this.
PREDICTIONS = ".predictions.npz"
# The name of a file begins like this until it is written as a whole.
UNFINISHED = ".unfinished-"
# This file is in a folder while a process writes to it.
LOCK = ".lock"
# A spreadsheet would compute such a cell of CSV.
FORMULA = re.compile(r"[=@].|[+-](?![\d.]+(e[-+]?\d+)?$).", re.I)
# Errors of a full disk or quota, and of a file that is too large.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary path with its suffix, which then replaces `path`."""
    path = pathlib.Path(path)
    token = secrets.token_hex(4)
    beside = path.with_name(f"{UNFINISHED}{token}-{path.name}")
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


def delete_unfinished(folder: pathlib.Path, name: str) -> None:
    """Deletes what killed processes left of files, which nobody writes now."""
    for path in folder.glob(f"{UNFINISHED}*-{name}"):
        path.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=2) + "\n")


def write_csv(
    path: str | os.PathLike, rows: Sequence[Mapping[str, object]]
) -> None:
    """Writes rows as CSV, with the columns of all, whole or not at all."""
    rows = [{as_cell(x): as_cell(y) for x, y in row.items()} for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    with (
        replacing(path) as beside,
        beside.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        writer.writerows(rows)


def as_cell(value: Any) -> Any:
    """Returns a cell of CSV, with an apostrophe before text like a formula."""
    is_formula = isinstance(value, str) and FORMULA.match(value)
    return f"'{value}" if is_formula else value


def write_arrays(path: str | os.PathLike, arrays: Json) -> None:
    """Writes arrays as a compressed `.npz` file, whole or not at all."""
    with replacing(path) as beside:
        np.savez_compressed(beside, **arrays)


def write_figure(
    path: pathlib.Path, figure: Any, *, as_pdf: bool = False
) -> None:
    """Writes a matplotlib figure as PNG, whole or not at all, also as PDF."""
    for suffix in (".png", ".pdf") if as_pdf else (".png",):
        with replacing(path.with_suffix(suffix)) as beside:
            figure.savefig(beside, dpi=150)


def load_model(path: str | os.PathLike) -> keras.Model:
    """Returns the model in a file, not compiled."""
    # Its optimizer would be that of layers that were frozen inside another.
    return keras.saving.load_model(path, compile=False)


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
            f"({error.strerror or error}). Files written so far are intact. "
            "Free some space (or restore access) and rerun to resume"
        ) from error


def folder_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a folder that exists, or may exist one day."""
    folder = pathlib.Path(path)
    with _as_output(folder):
        folder.exists()
    return folder


def output_folder(
    path: str | os.PathLike, name: str = "output"
) -> pathlib.Path:
    """Returns `path` as a folder that exists and can be written to."""
    folder = pathlib.Path(path)
    with _as_output(folder, name):
        folder.mkdir(parents=True, exist_ok=True)
        # Its name is unique, so nothing can be overwritten.
        tempfile.TemporaryFile(dir=folder).close()
    return folder


@contextlib.contextmanager
def _as_output(folder, name="output"):
    """Context in which an error is that of a wrong `output`, or of `name`."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"`{name}` must be a folder that can be written to. Received: "
            f'{name}="{folder}" ({error.strerror})'
        ) from error


class InUse(ValueError):
    """Another process holds a lock."""

    def __init__(self, path: pathlib.Path):
        super().__init__(f'"{path}" is in use by another process')


@contextlib.contextmanager
def locked(path: pathlib.Path, seconds: float = 0) -> Iterator[None]:
    """Holds a lock that other processes respect, or raises `InUse`."""
    lock = _acquire(path, seconds)
    held = path.stat()
    try:
        yield
    finally:
        # It is deleted before nobody holds it; on Windows by the release. Where
        # the folder was renamed, another lock may have this path.
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), held):
                path.unlink()
        lock.release()


def folder_locked(folder: pathlib.Path) -> AbstractContextManager[None]:
    """Context in which no other process writes to an output folder."""
    return locked(folder / LOCK, seconds=60)


def is_locked(path: pathlib.Path) -> bool:
    """Returns whether a process that has not ended holds a lock."""
    if not path.exists():
        return False
    try:
        with locked(path):
            return False
    except InUse:
        return True


def _acquire(path, seconds):
    """Returns the lock at a path, which this process holds now."""
    filelock = _checks.require("filelock", extra="plot")

    checked = []

    def check(descriptor):
        checked.append(descriptor)
        # The process before may have deleted the file after it was opened.
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError

    while True:
        path.parent.mkdir(exist_ok=True)
        # Another process may delete the folder, if it is empty.
        with contextlib.suppress(FileNotFoundError):
            lock = filelock.FileLock(
                path, on_acquired=check, thread_local=False
            )
            try:
                lock.acquire(timeout=seconds, poll_interval=0.02)
            except filelock.Timeout:
                raise InUse(path) from None
            if not checked:
                # Versions before 3.32 take the function and do not call it.
                lock.release()
                raise ImportError(
                    "Locks of output folders need filelock 3.32 or newer. "
                    f"Received: filelock {filelock.__version__}. Install it "
                    'with: pip install "filelock>=3.32"'
                )
            return lock
