"""`results.json`: what a run has come to, read and checked."""

import dataclasses
import json
import math
import numbers
import pathlib

from cbam_keras._files import RESULTS, Json
from cbam_keras.data import check_folds
from cbam_keras.study.cell import Outcome
from cbam_keras.study.study import Comparison, Measure, check_name

# Settings, outcomes and verdict of a run. Version 0.2.0 wrote format 2.
FORMAT, FORMER = 3, 2
# The subfolder in which a search trains the best again, a study of its own.
CONFIRMATION = "confirmation"
NUMBER, WORDS = (int, float), (str, None)
# The types that code relies on; `...` stands for any key.
SHAPE = {
    "kind": str,
    "command": WORDS,
    "settings": {
        "variants": {...: dict},
        "data": {...: {"name": str, "sizes": {...: int}}},
    },
    "measures": [{"key": str, "heading": str, "digits": int, "is_error": bool}],
    "comparisons": [
        {
            "baseline": WORDS,
            "variants": [str],
            "title": str,
            "number": int,
            "every_seed": bool,
        }
    ],
    "labels": {...: str},
    # A fraction of the test images.
    "commonest": (*NUMBER, None),
    # Where the data are, as `data.load` takes it.
    "source": (dict, None),
    "seeds": [int],
    "cells": [
        {
            "variant": str,
            "seed": int,
            "status": str,
            "message": WORDS,
            "parameters": (int, None),
            "macs": (int, None),
            "metrics": {...: (*NUMBER, None)},
            "best_epoch": (int, None),
            "seconds_per_epoch": (*NUMBER, None),
            "seconds": NUMBER,
            "file": WORDS,
            # A loss may not be finite.
            "history": [{...: numbers.Real}],
        }
    ],
}
# What a search has found.
FOUND = {
    # The number of a trial.
    "best": int,
    "best_network": {"test_accuracy": NUMBER},
    "best_options": dict,
    "code": str,
    "confirmation": [{"trial": int, "options": dict, "seeds": [int]}],
    "verdict": str,
}
SOURCE = {
    "name": WORDS,
    "data_dir": WORDS,
    "manual_dir": WORDS,
    "validation_fraction": (*NUMBER, None),
    "group_by_folder": (bool, None),
    "image_column": WORDS,
    "label_column": WORDS,
}


def read_content(folder: pathlib.Path) -> Json:
    """Returns what `results.json` in a folder holds, or would hold now.

    Raises one of `DAMAGE`, which names the field that is damaged.
    """
    content = json.loads((folder / RESULTS).read_bytes())
    if content.get("format") == FORMER:
        content |= _tables_of(content)
    if content.get("format") != FORMAT:
        raise ValueError(
            f"`format` must be {FORMAT}. Received: {content.get('format')}, "
            "of another version of cbam_keras"
        )
    for name, shape in SHAPE.items():
        _check(name, content.get(name), shape)
    if content.get("source") is not None:
        _check("source", content["source"], SOURCE)
    if "best" in content:
        for name, shape in FOUND.items():
            _check(name, content.get(name), shape)
    for name in ("settings.data", "seeds", "measures", "comparisons"):
        held = content
        for key in name.split("."):
            held = held[key]
        if not held:
            raise ValueError(f"`{name}` must hold something. Received: {held}")
    check_folds(content["settings"].get("folds"))
    for cell in content["cells"]:
        # They name files that are read, moved and deleted.
        check_name(cell["variant"])
        Outcome(**cell)
        if (
            cell["variant"] not in content["settings"]["variants"]
            or cell["seed"] not in content["seeds"]
        ):
            raise ValueError("a cell is of no variant and seed of the run")
    return content


def _tables_of(content):
    """Returns what format 2 lacks: one table, by the measure of its task."""
    digits = 1 if content["kind"] == "detect" else 2
    measure = Measure(content["measure"], content["measure_name"], digits)
    comparison = Comparison(
        content["baseline"], [*content["settings"]["variants"]]
    )
    return {
        "format": FORMAT,
        "measures": [dataclasses.asdict(measure)],
        "comparisons": [dataclasses.asdict(comparison)],
        "labels": {},
    }


def _check(field, value, shape):
    """Raises unless a value has a shape, and its numbers are finite."""
    if isinstance(shape, dict):
        _check(field, value, dict)
        for key in value if ... in shape else shape:
            inner = shape[...] if ... in shape else shape[key]
            _check(f"{field}.{key}", value.get(key), inner)
        return
    if isinstance(shape, list):
        _check(field, value, list)
        for number, one in enumerate(value):
            _check(f"{field}.{number}", one, shape[0])
        return
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if value is None and None in kinds:
        return
    types = tuple(kind for kind in kinds if kind is not None)
    is_lost = float in types and isinstance(value, float)
    is_lost = is_lost and not math.isfinite(value)
    # A boolean is an integer to Python.
    is_other = isinstance(value, bool) and bool not in types
    if is_lost or is_other or not isinstance(value, types):
        name = "a finite number" if float in types else types[0].__name__
        raise ValueError(
            f"`{field}` must be {name}. Received: {str(value)[:100]}"
        )
