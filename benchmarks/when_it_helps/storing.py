"""Adds what has been trained to `results.jsonl`."""

import json

from benchmarks.when_it_helps import results
from benchmarks.when_it_helps.plans import LONGER, PLANS
from cbam_keras import study


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
    kept = results.stored()
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
            trained = new | {"networks": networks}
            kept[new["study"]] = results.combine(old, trained)
    lines = map(json.dumps, kept.values())
    results.STORED.write_text("".join(f"{line}\n" for line in lines))
