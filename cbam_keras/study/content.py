"""`results.json`: read, checked, and of any version as it is written now.

Before `"format": 2` each kind of run had a layout of its own. Such a run is
not resumed, but its results are read; those of an ablation as of a study.
"""

import json
import math
import pathlib
from typing import Any

from cbam_keras import _checks
from cbam_keras.study.cell import FINISHED, Outcome
from cbam_keras.study.study import check_name

# Settings, outcomes and verdict of a run; earlier versions had other formats.
RESULTS, FORMAT = "results.json", 2
# What reading a damaged file raises.
DAMAGE = (
    *(OSError, ValueError, TypeError, AttributeError, LookupError),
    RecursionError,
)
# The fields of a cell: their types, and whether they may be missing.
NUMBER = (int, float)
CELL: dict[str, tuple[Any, bool]] = {
    "variant": (str, False),
    "seed": (int, False),
    "status": (str, False),
    "message": (str, True),
    "parameters": (int, True),
    "macs": (int, True),
    "metrics": (dict, True),
    "best_epoch": (int, True),
    "seconds_per_epoch": (NUMBER, True),
    "file": (str, True),
    "history": (list, True),
}
SEARCH = "search.json"
# Where the results of a network with a seed are, by the kind of run.
PLACES = {
    "training run": ".",
    "training over seeds": "seed-{seed}",
    "ablation": "{name}/seed-{seed}",
}


def read_content(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what `results.json` in a folder holds, or would hold now.

    Raises one of `DAMAGE`, which names the field that is damaged.
    """
    if (folder / SEARCH).exists():
        return _search(folder, _read(folder / SEARCH))
    content = _read(folder / RESULTS)
    if content["kind"] == "comparison of detectors":
        content = _detectors(content)
    elif content["kind"] in PLACES:
        content = _classifiers(folder, content)
    elif content.get("format") != FORMAT:
        raise ValueError(f"a run of another kind, {content['kind']!r}")
    check_content(content)
    return content


def check_content(content: dict[str, Any]) -> None:
    """Raises a `ValueError` that names a field which is not as written."""
    settings = content["settings"]
    for name in ("command", "measure", "measure_name", "baseline"):
        _check(name, content[name], str, optional=True)
    for name in ("variants", "data"):
        _check(f"settings.{name}", settings[name], dict)
    for name in ("seeds", "cells"):
        _check(name, content[name], list)
    for seed, described in settings["data"].items():
        for split, count in described["sizes"].items():
            _check(f"settings.data.{seed}.sizes.{split}", count, int)
    for number, cell in enumerate(content["cells"]):
        field = f"cells[{number}]"
        _check(field, cell, dict)
        for name, (kind, optional) in CELL.items():
            _check(f"{field}.{name}", cell.get(name), kind, optional)
        for name, value in (cell.get("metrics") or {}).items():
            _check(f"{field}.metrics.{name}", value, NUMBER, True)
        for row in cell.get("history") or ():
            _check(f"{field}.history", row, dict)
        # They name files that are read, moved and deleted.
        check_name(Outcome(**cell).variant)
        _checks.seed(f"{field}.seed", cell["seed"])
        if (
            cell["variant"] not in settings["variants"]
            or cell["seed"] not in content["seeds"]
        ):
            raise ValueError(f"`{field}` is of no variant and seed of the run")


def _check(field, value, kind, optional=False):
    if value is None and optional:
        return
    if (
        not isinstance(value, kind)
        or isinstance(value, bool)
        or not (isinstance(value, str | list | dict) or math.isfinite(value))
    ):
        name = "a finite number" if kind == NUMBER else kind.__name__
        raise ValueError(
            f"`{field}` must be {name}. Received: {str(value)[:100]}"
        )


def _read(path):
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("it holds no run")
    return content


def _content(old, kind, data, networks, cells, **more):
    settings = {k: v for k, v in old["settings"].items() if k != "networks"}
    variants = {name: {} for name in networks}
    return {
        "format": FORMAT,
        "kind": kind,
        "command": old.get("command"),
        "settings": {**settings, "variants": variants, "data": data},
        "versions": old.get("versions", {}),
        "measure": "test_accuracy",
        "measure_name": "test accuracy",
        "baseline": "none" if "none" in variants else None,
        "class_names": old.get("class_names", []),
        "seeds": [int(seed) for seed in data],
        "cells": cells,
        **more,
    }


def _cell(old, run, seed, name, metrics, place="."):
    return {
        "variant": run["network"],
        "seed": int(seed),
        "status": FINISHED,
        "parameters": run["parameters"],
        "metrics": metrics,
        "best_epoch": run.get("best_epoch"),
        "seconds_per_epoch": run["seconds_per_epoch"],
        "file": f"{place}/{run['file']}".removeprefix("./"),
        "history": [
            {key: value for key, value in row.items() if key != "network"}
            for row in old.get("history", ())
            if row["network"] == name
        ],
    }


def _classifiers(folder, old):
    settings, data = old["settings"], old["settings"]["data"]
    if "name" in data:
        data = {str(settings["recipe"]["seed"]): data}
    names, cells = list(settings["networks"]), []
    for seed, description in data.items():
        images = description["sizes"]["test"]
        for name in names:
            place = PLACES[old["kind"]].format(seed=seed, name=name)
            path = folder / place / RESULTS
            part = _read(path) if path.exists() else {"runs": ()}
            for run in part["runs"]:
                if run["network"] == name:
                    # Accuracies were stored as float32.
                    hits = round(run["test_accuracy"] * images)
                    metrics = {
                        "val_accuracy": run["best_validation_accuracy"],
                        "test_accuracy": hits / images,
                    }
                    cells.append(_cell(part, run, seed, name, metrics, place))
    kind = "study" if old["kind"] == "ablation" else "train"
    return _content(old, kind, data, names, cells)


def _detectors(old):
    settings, runs = old["settings"], old["runs"]
    cells = [
        _cell(
            *(old, run, run["seed"], f"{run['network']}-seed{run['seed']}"),
            run["precision"],
        )
        for run in runs
    ]
    seeds = [run["seed"] for run in runs] or [settings["data"].get("seed", 0)]
    return _content(
        *(old, "detect", {str(seed): settings["data"] for seed in seeds}),
        *(settings.get("networks") or [run["network"] for run in runs], cells),
        measure="map",
        measure_name="mAP@[.5,.95]",
    )


def _search(folder, old):
    settings = old["settings"]
    data = {str(settings["recipe"]["seed"]): settings["data"]}
    if (folder / RESULTS).exists():
        found = _read(folder / RESULTS)
    else:
        paths = sorted(folder.glob("trial_*/outcome.json"))
        trials = {int(path.parent.name[6:]): _read(path) for path in paths}
        found = {"trials": [{"number": n, **t} for n, t in trials.items()]}
    return _content(old, "tune", data, (), [], **found)
