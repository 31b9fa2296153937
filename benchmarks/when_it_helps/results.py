"""What was measured, `results.jsonl`: a line for each study."""

import dataclasses
import json
import pathlib

from benchmarks.when_it_helps.plans import LONGER, PLANS
from cbam_keras import study

STORED = pathlib.Path(__file__).with_suffix(".jsonl")


def stored():
    """Returns what `results.json` held of each study."""
    rows = map(json.loads, STORED.read_text().splitlines())
    return {row["study"]: row for row in rows}


def results_of(content):
    """Returns what is stored of a study, which is called as its data are.

    What is stored has a number for each fold of each seed.
    """
    folds = content["settings"].get("folds")
    fields = {x.name for x in dataclasses.fields(study.Outcome)}

    def run_of(number):
        return study.Run(number) if folds is None else divmod(number, folds)

    runs = {x: study.Run(*run_of(x)) for x in content["seeds"]}
    outcomes = []
    for cell in content["cells"]:
        known = {key: x for key, x in cell.items() if key in fields}
        known |= runs[cell["seed"]]._asdict()
        outcomes.append(study.Outcome(**known))
    described = content["settings"]["data"].items()
    data = {study.Run(*run_of(int(key))).name: x for key, x in described}
    found = study.Results.of(
        pathlib.Path(content["study"]),
        {
            **content,
            "settings": content["settings"] | {"data": data},
            "seeds": [*dict.fromkeys(run.seed for run in runs.values())],
            "outcomes": outcomes,
        },
    )
    return dataclasses.replace(found, data=content["study"])


def as_stored(content):
    """Returns what `results.json` holds, with a number for each run."""
    folds = content["settings"].get("folds") or 1
    numbers = {
        study.Run(seed, fold).name: seed * folds + (fold or 0)
        for seed in content["seeds"]
        for fold in (None, *range(folds))
    }
    described = content["settings"]["data"].items()
    data = {str(numbers[name]): x for name, x in described}
    cells = []
    for network in content["networks"]:
        run = study.Run(network.pop("seed"), network.pop("fold", None))
        network |= {"seed": numbers[run.name]}
        cells.append(network | {"file": None, "traceback": None})
    stored = {key: x for key, x in content.items() if key != "networks"}
    return stored | {
        "settings": content["settings"] | {"data": data},
        "cells": cells,
    }


def combine(old, new):
    """Returns a study with the networks and seeds of an older one, too."""
    settings = {
        key: old["settings"][key] | new["settings"][key]
        for key in ("variants", "data")
    }
    cells = {
        (x["seed"], x["variant"]): x for x in [*old["cells"], *new["cells"]]
    }
    return new | {
        "settings": new["settings"] | settings,
        "cells": [*cells.values()],
        "seeds": sorted({seed for seed, _ in cells}),
    }


def studies():
    """Returns what is stored, and a study of all seeds of CIFAR-10."""
    all_studies = stored()
    pooled = combine(all_studies["cifar10"], all_studies["cifar10-again"])
    name = "cifar10-pooled"
    return all_studies | {name: pooled | {"study": name}}


def store(runs):
    """Adds what has been trained to what is stored of the same study."""
    kept = stored()
    for run in PLANS:
        if not (path := runs / run / "results.json").exists():
            continue
        # All are printed alike, and without places on one machine.
        new = as_stored(json.loads(path.read_text()))
        new |= {"kind": "study", "labels": {}}
        new |= {"study": run, "source": None, "command": None}
        # It follows from the cells, by the tests of today.
        new.pop("verdict", None)
        cells = new["cells"]
        if ending := next(filter(run.endswith, LONGER), None):
            new = kept[run.removesuffix(ending)]
            new["settings"]["variants"][f"none{ending}"] = {}
            cells = [x | {"variant": f"none{ending}"} for x in cells]
        old = kept.get(new["study"])
        # One of an earlier version is replaced.
        if not (old and "recipe" in old["settings"]):
            old = new | {"cells": []}
        if cells or old["cells"]:
            kept[new["study"]] = combine(old, new | {"cells": cells})
    lines = map(json.dumps, kept.values())
    STORED.write_text("".join(f"{line}\n" for line in lines))
