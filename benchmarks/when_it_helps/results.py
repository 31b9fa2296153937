"""What was measured, `results.jsonl`: a line for each study."""

import dataclasses
import json
import pathlib

from cbam_keras import study

STORED = pathlib.Path(__file__).with_suffix(".jsonl")


def stored():
    """Returns what `results.json` held of each study."""
    rows = map(json.loads, STORED.read_text().splitlines())
    return {row["study"]: row for row in rows}


def results_of(content):
    """Returns what is stored of a study, which is called as its data are."""
    names = [field.name for field in dataclasses.fields(study.Outcome)]
    # Earlier versions stored more.
    outcomes = [
        study.Outcome(**{name: x[name] for name in names if name in x})
        for x in content["networks"]
    ]
    # What earlier versions did not store, and a baseline that was not trained.
    usual = {
        "question": "",
        "threshold": None,
        "class_names": [],
        "labels": {},
        "baseline": None,
    }
    known = {name: x for name, x in content.items() if x is not None}
    found = study.Results.of(
        pathlib.Path(content["study"]), usual | known | {"outcomes": outcomes}
    )
    return dataclasses.replace(found, data=content["study"])


def combine(old, new):
    """Returns a study with the networks and seeds of an older one, too."""
    settings = {
        key: old["settings"][key] | new["settings"][key]
        for key in ("variants", "data")
    }
    networks = {
        (x["seed"], x.get("fold"), x["variant"]): x
        for x in [*old["networks"], *new["networks"]]
    }
    # Variances are of the runs of one call: those of most runs are kept.
    errors = dict(old.get("errors") or {})
    for name, variances in (new.get("errors") or {}).items():
        if variances["pairs"] >= errors.get(name, variances)["pairs"]:
            errors[name] = variances
    return new | {
        "settings": new["settings"] | settings,
        "errors": errors,
        "networks": [*networks.values()],
        "seeds": sorted({seed for seed, _, _ in networks}),
    }


def studies():
    """Returns what is stored, and a study of all seeds of CIFAR-10."""
    all_studies = stored()
    pooled = combine(all_studies["cifar10"], all_studies["cifar10-again"])
    name = "cifar10-pooled"
    return all_studies | {name: pooled | {"study": name}}
