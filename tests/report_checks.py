"""Output folders as the commands leave them, written by hand."""

import json

import numpy as np
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
RUNS = [
    {
        "network": name,
        "parameters": parameters,
        "best_epoch": 1,
        "best_validation_accuracy": 0.8,
        "test_accuracy": accuracy,
        "seconds_per_epoch": 1.5,
        "file": f"{name}.keras",
    }
    for name, parameters, accuracy in (
        ("none", 9000, 0.85),
        ("cbam", 20500, 0.9),
        ("se", 10100, 0.87),
    )
]


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def figure(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), "white").save(path)


def training(folder, runs=RUNS, **more):
    content = {
        "kind": "training run",
        "settings": {
            "model": "tiny",
            "data": DATA,
            "recipe": {"seed": 0, "epochs": 1},
            "networks": ["none", "cbam", "se"],
        },
        "versions": VERSIONS,
        "command": "cbam-keras train --data photos",
        "runs": runs,
        "history": [],
        **more,
    }
    dump(folder / "results.json", content)
    if runs:
        figure(folder / "curves.png")
    return folder


def seeds(folder):
    content = {
        "kind": "training over seeds",
        "settings": {
            "model": "tiny",
            "data": {"0": DATA, "1": DATA, "2": DATA},
            "recipe": {},
            "networks": ["none", "cbam", "se"],
        },
        "versions": VERSIONS,
    }
    dump(folder / "results.json", content)
    training(folder / "seed-0")
    training(folder / "seed-1")
    training(folder / "seed-2", RUNS[:1])
    return folder


def explanation(folder, count=2):
    """An image that all get wrong, after others that all get right."""
    rng = np.random.default_rng(0)
    arrays = {"images": rng.integers(0, 255, (count, 8, 8, 3), "uint8")}
    for name in ("none", "cbam"):
        arrays[f"{name}/heat_maps"] = rng.random((count, 8, 8))
    arrays["cbam/attention/stage1_attention/channel"] = rng.random((count, 6))
    arrays["cbam/attention/stage1_attention/spatial"] = rng.random(
        (count, 4, 4)
    )
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "arrays.npz", **arrays)
    images = [
        {
            "image": f"test {number}",
            "true_class": EVIL,
            "models": {
                name: {
                    "class": EVIL,
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
        "models": {"none": "none.keras", "cbam": "cbam.keras"},
        "summary": {"none": {"accuracy": 0.5}, "cbam": {"accuracy": 0.5}},
        "images": images,
    }
    dump(folder / "explain.json", content)
    return folder


def trial(number, accuracy, **values):
    return {
        "number": number,
        "values": values,
        "outcome": "finished",
        "message": None,
        "val_accuracy": accuracy,
        "val_loss": 0.5,
        "best_epoch": 1,
        "epochs": 1,
        "parameters": 9000 + number,
        "macs": 1_000_000,
        "seconds": 1.0,
        "worker": None,
    }


TRIALS = [
    trial(1, 0.8, attention="none"),
    trial(2, 0.9, attention="cbam", reduction_ratio=16, kernel_size=7),
    trial(3, 0.85, attention="cbam", reduction_ratio=4, kernel_size=3),
]


def search(folder, *, finished=True):
    content = {
        "kind": "search",
        "settings": {"model": "tiny", "data": DATA, "recipe": {"seed": 0}},
        "versions": VERSIONS,
        "max_trials": 3,
    }
    dump(folder / "search.json", content)
    if not finished:
        for one in TRIALS[:2]:
            number = one["number"]
            dump(folder / f"trial_{number:04d}" / "outcome.json", one)
        return folder
    results = {
        "trials": TRIALS,
        "best": 2,
        "confirmation": [],
        "verdict": "Nothing is confirmed.",
        "code": "cbam_keras.CBAM(reduction_ratio=16)",
    }
    dump(folder / "results.json", results)
    figure(folder / "effects.png")
    figure(folder / "pareto.png")
    return folder


def ablation(folder, *, finished=True):
    row = {
        "table": 4,
        "network": "tiny",
        "attention": "ResNet",
        "parameters": 9000,
        "macs": 1_000_000,
        "top1_errors": [15.0, 16.0],
        "top1_error": 15.5,
        "top1_deviation": 0.7,
        "difference": None,
        "interval": None,
        "top5_errors": None,
        "top5_error": None,
        "top5_deviation": None,
        "seconds_per_epoch": 1.0,
    }
    better = {
        **row,
        "attention": "ResNet + CBAM",
        "top1_errors": [13.0, 14.1],
        "top1_error": 13.55,
        "difference": -1.95,
        "interval": [-2.6, -1.3],
    }
    content = {
        "kind": "ablation",
        "settings": {"model": "tiny", "data": {"0": DATA, "1": DATA}},
        "versions": VERSIONS,
    }
    if finished:
        content |= {"data": "photos", "seeds": [0, 1], "test_images": 100}
        content["rows"] = [row, better]
        figure(folder / "ablation.png")
    dump(folder / "results.json", content)
    return folder


def detection(folder):
    precision = {"map": 0.35, "map50": 0.6, "map75": 0.3, "small": None}
    run = {
        "network": "none",
        "seed": 0,
        "parameters": 2_000_000,
        "precision": precision,
        "seconds_per_epoch": 9.0,
        "file": "none-seed0.keras",
    }
    content = {
        "kind": "comparison of detectors",
        "settings": {"model": "small", "data": DATA},
        "versions": VERSIONS,
        "runs": [run, {**run, "network": "cbam"}],
        "history": [],
        "verdict": "cbam differs from none by +0.0 points.",
        "class_names": ["cat", EVIL],
    }
    dump(folder / "results.json", content)
    np.savez(folder / "detections.npz", **detections())
    return folder


def detections():
    """Two images; in the second one "none" finds one of two objects."""
    box = [0.1, 0.1, 0.5, 0.5]
    near, other = [0.1, 0.2, 0.5, 0.5], [0.5, 0.5, 0.9, 0.9]
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 1), "uint8")
    truth = [[0, 1, 1, *box], [1, 0, 1, *box], [1, 1, 1, *other]]
    none = [[0, 1, 0.9, *near], [1, 0, 0.8, *near], [1, 0, 0.7, *other]]
    cbam = [[0, 1, 0.9, *box], [1, 0, 0.8, *box], [1, 1, 0.7, *other]]
    rows = {"truth": truth, "none": none, "cbam": cbam}
    arrays = {name: np.array(own, "float32") for name, own in rows.items()}
    return {"images": images, **arrays}


def finished_ablation(folder):
    ablation(folder)
    explanation(folder / "explain")
    return folder


def finished_train(folder):
    training(folder)
    explanation(folder / "explain")
    return folder


FOLDERS = {
    "train": finished_train,
    "train --seeds": seeds,
    "tune": search,
    "ablate": finished_ablation,
    "detect": detection,
    "explain": explanation,
}
