"""`results.json`: read, checked, and of any version as it is written now.

Before `"format": 2` each kind of run had a layout of its own. Such a run is
not resumed, but its results are read; those of an ablation as of a study.
"""

import json
import math
import pathlib

from cbam_keras._files import Json
from cbam_keras.study.cell import FINISHED, Outcome
from cbam_keras.study.study import check_name

# Settings, outcomes and verdict of a run; earlier versions had other formats.
RESULTS, FORMAT = "results.json", 2
# The types of what a cell holds.
NUMBER = (int, float)
CELL: dict[str, type | tuple[type, ...]] = {
    "variant": str,
    "seed": int,
    "status": str,
    "message": str,
    "parameters": int,
    "macs": int,
    "metrics": dict,
    "best_epoch": int,
    "seconds_per_epoch": NUMBER,
    "file": str,
    "history": list,
}
# Where the data are, as `data.load` takes it.
SOURCE: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "data_dir": str,
    "manual_dir": str,
    "validation_fraction": NUMBER,
}
SEARCH = "search.json"
# Where the results of a network with a seed are, by the kind of run.
PLACES = {
    "training run": ".",
    "training over seeds": "seed-{seed}",
    "ablation": "{name}/seed-{seed}",
}


def read_content(folder: pathlib.Path) -> Json:
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
    settings = content["settings"]
    for name in ("command", "measure", "measure_name", "baseline"):
        _check(name, content[name], str)
    _check("commonest", content.get("commonest"), NUMBER)
    for name in ("variants", "data"):
        _check(f"settings.{name}", settings[name], dict)
    for name in ("seeds", "cells"):
        _check(name, content[name], list)
    _check("source", content.get("source"), dict)
    for name, kind in SOURCE.items():
        _check(f"source.{name}", (content.get("source") or {}).get(name), kind)
    if not settings["data"]:
        raise ValueError("`settings.data` must describe the data of a seed")
    for seed, described in settings["data"].items():
        _check(f"settings.data.{seed}.name", described.get("name"), str)
        for split, count in described["sizes"].items():
            _check(f"settings.data.{seed}.sizes.{split}", count, int)
    cells = enumerate(content["cells"])
    content["cells"] = [_checked(f"cells[{i}]", cell) for i, cell in cells]
    for cell in content["cells"]:
        # They name files that are read, moved and deleted.
        check_name(cell["variant"])
        if (
            cell["variant"] not in settings["variants"]
            or cell["seed"] not in content["seeds"]
        ):
            raise ValueError("a cell is of no variant and seed of the run")
    return content


def _checked(field, cell):
    """Returns a cell with all fields, if they are as written."""
    for name, kind in CELL.items():
        _check(f"{field}.{name}", cell.get(name), kind)
    for name, value in (cell.get("metrics") or {}).items():
        _check(f"{field}.metrics.{name}", value, NUMBER)
    for row in cell.get("history") or ():
        _check(f"{field}.history", row, dict)
        for name, value in row.items():
            if not isinstance(value, NUMBER):
                raise ValueError(
                    f"`{field}.history.{name}` must be a number. Received: "
                    f"{str(value)[:100]}"
                )
    known = {name: value for name, value in cell.items() if value is not None}
    return vars(Outcome(**known))


def _check(field, value, kind):
    """Raises unless a value has a type and is finite, or is missing."""
    if value is None:
        return
    is_lost = isinstance(value, float) and not math.isfinite(value)
    if is_lost or isinstance(value, bool) or not isinstance(value, kind):
        name = "a finite number" if kind == NUMBER else kind.__name__
        raise ValueError(
            f"`{field}` must be {name}. Received: {str(value)[:100]}"
        )


def _read(path):
    return json.loads(path.read_bytes())


def _content(old, kind, data, networks, cells, **more):
    settings = {k: v for k, v in old["settings"].items() if k != "networks"}
    variants = {name: {} for name in networks}
    return {
        "format": 1,
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


def _cell(run, seed, metrics, place="."):
    return {
        "variant": run["network"],
        "seed": int(seed),
        "status": FINISHED,
        "parameters": run["parameters"],
        "metrics": metrics,
        "best_epoch": run.get("best_epoch"),
        "seconds_per_epoch": run["seconds_per_epoch"],
        "file": f"{place}/{run['file']}".removeprefix("./"),
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
            history = part.get("history", ())
            history = [
                {k: v for k, v in row.items() if k != "network"}
                for row in history
                if row["network"] == name
            ]
            for run in part["runs"]:
                if run["network"] == name:
                    # Accuracies were stored as float32.
                    hits = round(run["test_accuracy"] * images)
                    metrics = {
                        "val_accuracy": run["best_validation_accuracy"],
                        "test_accuracy": hits / images,
                    }
                    cell = _cell(run, seed, metrics, place)
                    cells.append({**cell, "history": history})
    kind = "study" if old["kind"] == "ablation" else "train"
    return _content(old, kind, data, names, cells)


def _detectors(old):
    settings, runs = old["settings"], old["runs"]
    cells = [_cell(run, run["seed"], run["precision"]) for run in runs]
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
        results = _read(folder / RESULTS)
    else:
        paths = sorted(folder.glob("trial_*/outcome.json"))
        trials = {int(path.parent.name[6:]): _read(path) for path in paths}
        results = {"trials": [{"number": n, **t} for n, t in trials.items()]}
    return _content(old, "tune", data, (), [], **results)
