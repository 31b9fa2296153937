"""Files that cannot be read any more: told of, set aside, done without."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from cbam_keras import _checks


def read_json(path, keys=()):
    """Returns the dictionary that a file holds, with at least these keys.

    Returns `None` where there is no such file, or none that can be used,
    which is then set aside.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        set_aside(path, error)
        return None
    if not isinstance(content, dict) or not set(keys) <= set(content):
        set_aside(path, "it lacks a part")
        return None
    return content


def set_aside(path, error):
    """Warns of a file that cannot be read, and renames it."""
    if isinstance(error, Exception):
        # What `Damaged` says to do is done here.
        error = str(error.__cause__ or error).strip().split("\n")[0]
    aside = path.with_name(path.name + ".damaged")
    path.replace(aside)
    _checks.warn(
        f'"{path}" cannot be read ({error}). It is set aside as '
        f'"{aside.name}", and the work goes on without it'
    )


# Begins the name of what is being written, and of what a killed process left.
UNFINISHED = ".unfinished-"


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a name to write to, which replaces `path` when all went well.

    The name ends as `path` does, since Keras and others go by the ending.
    """
    path = pathlib.Path(path)
    beside = path.with_name(UNFINISHED + path.name)
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=2) + "\n")


def folder_path(output: Any) -> pathlib.Path:
    """Returns `output` as a path, or raises if it cannot be one."""
    if not isinstance(output, (str, os.PathLike)):
        raise TypeError(
            "`output` must be the path of a folder. Received: "
            f"output={output!r}"
        )
    return pathlib.Path(output)


def contents(folder: pathlib.Path) -> list[str]:
    """Returns the names in a folder, but for what a killed process left."""
    if not folder.is_dir():
        return []
    return sorted(
        file.name
        for file in folder.iterdir()
        if not file.name.startswith(UNFINISHED)
    )


def output_folder(path: str | os.PathLike) -> pathlib.Path:
    """Returns `path` as a folder that exists and can be written to."""
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A probe of a name that nobody has.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            "`output` must be a folder that can be written to. Received: "
            f'output="{path}" ({error.strerror})'
        ) from error
    return folder
