"""Output folders of any version, as `results.json` describes them now.

Before `"format": 2` each kind of run had a layout of its own. Such a run is
not resumed, but its results are read; those of an ablation as of a study.
"""

import json
import pathlib
from typing import Any

from cbam_keras.study.cell import FINISHED
from cbam_keras.study.folder import FORMAT, RESULTS

SEARCH = "search.json"
# Where the results of a network with a seed are, by the kind of run.
PLACES = {
    "training run": ".",
    "training over seeds": "seed-{seed}",
    "ablation": "{name}/seed-{seed}",
}


def read_content(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what `results.json` in a folder holds, or would hold now."""
    if (folder / SEARCH).exists():
        return _search(folder, _read(folder / SEARCH))
    content = _read(folder / RESULTS)
    if content.get("format") == FORMAT:
        return content
    if content["kind"] == "comparison of detectors":
        return _detectors(content)
    if content["kind"] in PLACES:
        return _classifiers(folder, content)
    raise ValueError(f"a run of another kind, {content['kind']!r}")


def _read(path):
    content = json.loads(path.read_text("utf-8"))
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
