"""What a run was started with: written down, and compared on resuming."""

import json
import pathlib
import sys

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras._version import __version__


def as_written(settings):
    """Returns settings as they will read from a file, tuples as lists."""
    return json.loads(json.dumps(settings, default=_plain))


def _plain(value):
    """Returns a NumPy number as JSON can hold it."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        "Settings and options of a run must be plain values (numbers, "
        f"strings, lists), to be written down. Received: {value!r}"
    )


def differences(old, new, prefix=""):
    """Returns a line for each value that differs between two mappings."""
    lines = []
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key} was {before!r}, is {after!r}")
    return lines


def versions():
    backend = keras.backend.backend()
    return {
        "cbam_keras": __version__,
        "keras": keras.__version__,
        backend: _checks.require(backend, extra=backend).__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }


def default_output(images, model, prefix=""):
    """Returns the folder below `runs` for a data set and a network."""
    # Configurations of a data set are written "name/configuration".
    name = f"{prefix}{images.name}-{model}".replace("/", "-")
    return pathlib.Path("runs") / name
