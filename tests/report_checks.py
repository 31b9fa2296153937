"""Output folders as the commands leave them, written by hand."""

import json

from PIL import Image

# The name of a class, which must stay text.
EVIL = "<script>alert(1)</script>"
DATA = {
    "name": "photos",
    "sizes": {"train": 60, "validation": 20, "test": 100},
    "image_shape": [8, 8, 3],
    "fingerprint": "8ebabcdaef2857de",
}
VERSIONS = {"cbam_keras": "0.1.0", "keras": "3.15.1"}
NETWORKS = {"none": (9000, 0.85), "cbam": (20500, 0.9), "se": (10100, 0.87)}
VARIANTS = {name: {} for name in NETWORKS}


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def figure(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), "white").save(path)


def cell(name, seed=0, **metrics):
    parameters, accuracy = NETWORKS[name]
    accuracy -= seed / 100
    return {
        "variant": name,
        "seed": seed,
        "status": "finished",
        "parameters": parameters,
        "macs": 1_000_000,
        "metrics": metrics or {"test_accuracy": accuracy, "val_accuracy": 0.8},
        "best_epoch": 1,
        "seconds_per_epoch": 1.5,
        "seconds": 1.5,
        "file": f"{name}.keras",
        "history": [],
    }


def failed(name, status):
    return {
        **cell(name),
        "status": status,
        "message": f"The loss was nan {EVIL}",
        "metrics": {},
        "file": None,
    }


def measure(key, heading, digits=2, is_error=False):
    return dict(key=key, heading=heading, digits=digits, is_error=is_error)


def table(*variants, title="", number=0, every_seed=False):
    return {
        "baseline": "none",
        "variants": variants,
        "title": title,
        "number": number,
        "every_seed": every_seed,
    }


def run(folder, kind, cells, seeds=(0,), data=DATA, variants=VARIANTS, **more):
    """Writes `results.json`; `more` is what a kind of run adds to it."""
    compared = measure("test_accuracy", "test accuracy")
    if kind == "tune":
        compared = measure("val_accuracy", "validation accuracy")
    content = {
        "format": 3,
        "kind": kind,
        "command": f"cbam-keras {kind} --data photos",
        "settings": {
            "model": "tiny",
            "recipe": {"epochs": 1},
            "variants": variants,
            "data": {str(seed): data for seed in seeds},
        },
        "versions": VERSIONS,
        "measures": [compared],
        "comparisons": [table()],
        "labels": {},
        "class_names": ["cat", EVIL],
        "seeds": list(seeds),
        "cells": cells,
        **more,
    }
    dump(folder / "results.json", content)
    return folder


def train(folder, names=NETWORKS):
    explanation(folder / "explain")
    figure(folder / "curves.png")
    return run(folder, "train", [cell(name) for name in names])


def seeds(folder):
    """With a network that failed, and one that is not trained yet."""
    cells = [cell(name, seed) for seed in (0, 1) for name in ("none", "cbam")]
    cells += [cell("none", 2), failed("se", "diverged")]
    return run(folder, "study", cells, (0, 1, 2))


def ablate(folder):
    explanation(folder / "explain")
    figure(folder / "ablation.png")
    cells = [cell(name, seed) for seed in (0, 1) for name in NETWORKS]
    return run(folder, "ablate", cells, (0, 1), **ABLATED)


ABLATED = {
    "measures": [
        measure("test_accuracy", "top-1 error", is_error=True),
        measure("top5_accuracy", "top-5 error", is_error=True),
    ],
    "comparisons": [
        table("none", "se", "cbam", title="all", number=4, every_seed=True)
    ],
}


def detect(folder):
    cells = [
        cell("none", map=0.35, map50=0.6, small=None),
        cell("cbam", map=0.37, map50=0.6, small=None),
        cell("se", map=0.34, map50=0.6, small=None),
    ]
    figure(folder / "detections.png")
    measures = [
        measure("map", "mAP@[.5,.95]", 1),
        measure("map50", "mAP@.5", 1),
    ]
    return run(folder, "detect", cells, measures=measures)


TRIALS = {
    "none": {"attention": "none"},
    "cbam": {"attention": "cbam", "reduction_ratio": 16, "kernel_size": 7},
    "se": {"attention": "se", "reduction_ratio": 4},
}
FOUND = {
    "labels": {"cbam": "cbam r=16"},
    "best": 2,
    "best_network": {"test_accuracy": 0.91},
    "best_options": {"reduction_ratio": 16},
    "confirmation": [
        {"trial": 1, "options": {}, "seeds": [1, 2]},
        {"trial": 2, "options": {"reduction_ratio": 16}, "seeds": [1, 2]},
    ],
    "verdict": "cbam r=16 is ahead of none.",
    "code": "cbam_keras.CBAM(reduction_ratio=16)",
}


def tune(folder):
    """With a trial that failed."""
    explanation(folder / "explain")
    for name in ("effects", "pareto"):
        figure(folder / f"{name}.png")
    again = [cell(name, seed) for seed in (1, 2) for name in ("none", "cbam")]
    run(
        folder / "confirmation",
        *("study", again, (1, 2)),
        variants=TRIALS,
        labels=FOUND["labels"],
    )
    cells = [
        cell("none", val_accuracy=0.8, val_loss=1.0),
        cell("cbam", val_accuracy=0.9, val_loss=0.9),
        failed("se", "error"),
    ]
    return run(folder, "tune", cells, variants=TRIALS, **FOUND)


def explanation(folder, count=2):
    """An image that all get wrong, after others that all get right."""
    for name in ("grad_cam", "attention-cbam"):
        figure(folder / f"{name}.png")
    images = [
        {
            "image": f"test {number}",
            "true_class": EVIL,
            "models": {
                name: {
                    "probability": 0.5,
                    "predicted_class": "dog" if number == count - 1 else EVIL,
                    "predicted_probability": 0.75,
                }
                for name in ("none", "cbam")
            },
        }
        for number in range(count)
    ]
    content = {
        "settings": {"data": "photos", "split": "test", "seed": 0},
        "versions": VERSIONS,
        "command": "cbam-keras explain none.keras cbam.keras",
        "models": {"none": "none.keras", "cbam": "cbam.keras"},
        "summary": {"none": {"accuracy": 0.5}, "cbam": {"accuracy": 0.5}},
        "images": images,
    }
    dump(folder / "explain.json", content)
    return folder


FOLDERS = {
    "train": train,
    "seeds": seeds,
    "ablate": ablate,
    "detect": detect,
    "tune": tune,
    "explain": explanation,
}
