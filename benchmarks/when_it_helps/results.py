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
    """Returns what is stored of a study, which is called as its data are."""
    names = [field.name for field in dataclasses.fields(study.Outcome)]
    # Earlier versions stored more.
    outcomes = [
        study.Outcome(**{name: x[name] for name in names if name in x})
        for x in content["networks"]
    ]
    # What earlier versions did not store.
    usual = {"question": "", "threshold": None, "class_names": [], "labels": {}}
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
    return new | {
        "settings": new["settings"] | settings,
        "networks": [*networks.values()],
        "seeds": sorted({seed for seed, _, _ in networks}),
    }


def studies():
    """Returns what is stored, and a study of all seeds of CIFAR-10."""
    all_studies = stored()
    pooled = combine(all_studies["cifar10"], all_studies["cifar10-again"])
    name = "cifar10-pooled"
    return all_studies | {name: pooled | {"study": name}}


def errors(folder):
    """Returns the variances of differences of a run that predicted images.

    Intervals about other images need them. The predictions are not stored.
    """
    if not (folder / "study.json").exists():
        return {}
    compared = study.Results.read(folder).compared()
    needed = "pairs", "by_seeds", "by_images", "columns"
    return {
        name: {key: getattr(x, key) for key in needed}
        for name, x in compared.items()
        if x.by_images
    }


def store(runs):
    """Adds what has been trained to what is stored of the same study."""
    kept = stored()
    for run in PLANS:
        if not (path := runs / run / "results.json").exists():
            continue
        # All are printed alike, and without places on one machine.
        new = json.loads(path.read_text()) | {"kind": "study", "labels": {}}
        new |= {"study": run, "source": None, "command": None}
        new["errors"] = errors(runs / run)
        # It follows from the networks, by the tests of today.
        new.pop("verdict", None)
        networks = new["networks"]
        for network in networks:
            network |= dict.fromkeys(["file", "predictions", "traceback"])
        if ending := next(filter(run.endswith, LONGER), None):
            new = kept[run.removesuffix(ending)]
            new["settings"]["variants"][f"none{ending}"] = {}
            networks = [x | {"variant": f"none{ending}"} for x in networks]
        old = kept.get(new["study"])
        # One of an earlier version is replaced.
        if not (old and "recipe" in old["settings"]):
            old = new | {"networks": []}
        if networks or old["networks"]:
            kept[new["study"]] = combine(old, new | {"networks": networks})
    lines = map(json.dumps, kept.values())
    STORED.write_text("".join(f"{line}\n" for line in lines))
