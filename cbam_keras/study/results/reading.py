"""`parts_of`: what a folder holds, as the constructor of results takes it."""

import pathlib

from cbam_keras import _files
from cbam_keras.study.plans.study import Measure, runs_of


def parts_of(
    path: pathlib.Path,
    content: _files.Json,
    variants: tuple[str, ...],
    seeds: tuple[int, ...],
) -> _files.Json:
    """Returns the arguments of `Results`, for these variants and seeds."""
    settings = content["settings"]
    outcomes = {(x.variant, x.run): x for x in content["outcomes"]}
    runs = runs_of(seeds, settings.get("folds"))
    in_order = [(variant, run) for run in runs for variant in variants]
    baseline = content["baseline"]
    description = next(iter(settings["data"].values()))
    guess = content.get("commonest")
    if guess is None and description.get("classes"):
        guess = 1 / description["classes"]
    return {
        "output": path,
        "outcomes": tuple(outcomes[x] for x in in_order if x in outcomes),
        "variants": variants,
        "seeds": seeds,
        "baseline": baseline if baseline in variants else None,
        "measures": tuple(Measure(**x) for x in content["measures"]),
        "data": description["name"],
        "sizes": description["sizes"],
        "guess": guess,
        "kind": content["kind"],
        "settings": settings,
        "labels": {
            name: label
            for name, label in content["labels"].items()
            if name in variants
        },
        "folds": settings.get("folds"),
        "question": content.get("question") or "",
        "class_names": tuple(content.get("class_names") or ()),
        "threshold": content.get("threshold"),
    }
