"""What output folders have in common: names of files, paths, settings."""

import contextlib
import contextvars
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras._version import __version__

# Settings, outcomes and verdict of a run; earlier versions had other formats.
RESULTS, FORMAT = "results.json", 2
# The page about a run, and the subfolder with the explanations that it shows.
REPORT, EXPLANATIONS = "report.html", "explain"
# What reading a damaged file raises.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError)

_NOBODY = None, None
_caller = contextvars.ContextVar[tuple]("caller", default=_NOBODY)


@contextlib.contextmanager
def started_by(
    command: str | None, on_end: Callable[[pathlib.Path], Any] | None
) -> Iterator[None]:
    """Context of runs that a command starts.

    Args:
        command: String, the command, which is noted in the results.
        on_end: Function that gets the folder of each run when it ends, is
            interrupted or fails; or `None`.
    """
    token = _caller.set((command, on_end))
    try:
        yield
    finally:
        _caller.reset(token)


def starter() -> tuple[str | None, Callable[[pathlib.Path], Any] | None]:
    """Returns what `started_by` was given."""
    return _caller.get()


def folder_path(output: Any) -> pathlib.Path:
    """Returns `output` as a path, or raises if it cannot be one."""
    if not isinstance(output, (str, os.PathLike)):
        raise TypeError(
            "`output` must be the path of a folder. Received: "
            f"output={output!r}"
        )
    return pathlib.Path(output)


def default_output(command: str, data: str, model: str) -> pathlib.Path:
    """Returns the default folder of a run, as `runs/train-mnist5k-small`.

    Args:
        command: String, the subcommand that does the same.
        data: String, the name of the dataset.
        model: String, the name of the network.
    """
    # Configurations of a dataset are written "name/configuration".
    parts = (re.sub(r"[^\w.+-]+", "-", p) for p in (command, data, model))
    return pathlib.Path("runs") / "-".join(part.strip("-.") for part in parts)


def as_written(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings as they will read from a file, tuples as lists."""
    return json.loads(json.dumps(settings, default=_plain))


def _plain(value):
    """Returns a NumPy number as JSON can hold it."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        "Settings and options of a run must be plain values (numbers, "
        f"strings, lists), to be written to a file. Received: {value!r}"
    )


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """Returns a line for each value that differs between two mappings."""
    lines = []
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key} was {before!r}, is {after!r}")
    return lines


def versions() -> dict[str, str]:
    """Returns the versions of what a run depends on, by name."""
    backend = keras.backend.backend()
    return {
        "cbam_keras": __version__,
        "keras": keras.__version__,
        backend: _checks.require(backend, extra=backend).__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }
