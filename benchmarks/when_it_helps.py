"""When attention helps: networks of many settings, each over seeds.

    python -m benchmarks.when_it_helps main --seeds 10

Trains the networks of one or several studies on digits among fragments. They
go to folders in `runs/when-it-helps`, one for each kind of data, which resume
like any other; what `when_it_helps.jsonl` beside this file holds from earlier
is not trained again. `when_it_helps_report` prints the tables of both and
draws the figures.
"""

import argparse
import dataclasses
import functools
import json
import pathlib

import numpy as np

from benchmarks.arguments import positive_integer
from benchmarks.digit_networks import ATTENTION, Arm, build, gates
from cbam_keras import study, training
from cbam_keras.data import digits

STORED = pathlib.Path(__file__).with_suffix(".jsonl")
RUNS = pathlib.Path("runs/when-it-helps")
# Seeds that only choose the learning rate, on validation images.
TUNING_SEEDS = (1000, 1001)
RATES = (0.003, 0.01, 0.03, 0.1)
CANVASES = {"validation": 4, "test": 4}
# Of the test images, those on which gates are looked at.
LOOKED_AT = 500


class Digits(study.Classification):
    """Digits among fragments, recognized by the network of the last epoch."""

    # Without those of validation, which would choose the epoch.
    metrics = ("loss", "accuracy")

    def load(self, recipe):
        fragments, canvases = map(int, self.name.split("-")[1:])
        digits.EMBEDDED[self.name] = (
            fragments,
            {"train": canvases, **CANVASES},
        )
        return super().load(recipe)

    def evaluate(self, model, data):
        _, validation = model.evaluate(data.validation, verbose=0)
        images, labels = (
            np.concatenate([np.asarray(x) for x in arrays])
            for arrays in zip(*data.test, strict=True)
        )
        found = model.predict(images, batch_size=250, verbose=0)
        right = (found.argmax(axis=-1) == labels).reshape(-1, CANVASES["test"])
        return {
            "validation_accuracy": validation,
            "test_accuracy": float(right.mean()),
            # For each test digit, on how many canvases it is recognized.
            "right": "".join(str(count) for count in right.sum(axis=1)),
            "gates": gates(model, images[:LOOKED_AT]),
        }


def _attended(attention="cbam", **options):
    """Returns an arm with attention as `comparison.compare` starts it."""
    return Arm(attention, start="identity", **options)


def _starts(**options):
    """Returns arms without attention, and with CBAM with two starts."""
    return {
        "none": Arm(**options),
        "CBAM": _attended(**options),
        "CBAM, not normalized": Arm("cbam", start="plain identity", **options),
    }


NONE = Arm()
SLOW = {"learning_rate": 0.01}

# The arms of each study by their labels; the first is compared with. All of a
# study have the same data and epochs.
STUDIES = {
    "main": {
        "none": NONE,
        "SE": _attended("se"),
        **_starts(),
        "CBAM, the paper's start": Arm("cbam"),
        "none, 10/20/40 channels": Arm(width=10),
    },
    "start": {
        "none": NONE,
        "none, last gamma of each block at 0": Arm(start="zero gamma"),
        "SE, the paper's start": Arm("se"),
        "CBAM, open by biases": Arm("cbam", start="open"),
        "CBAM, the authors' start": Arm("cbam", start="authors"),
        "CBAM, 1 + gate": Arm("cbam", start="one plus"),
    },
    "learning rate 0.01": {
        "none": Arm(**SLOW),
        "SE": _attended("se", **SLOW),
        "CBAM, not normalized": Arm("cbam", start="plain identity", **SLOW),
    },
    **{
        f"{fragments} fragments, {canvases} canvases, {epochs} epochs": _starts(
            fragments=fragments, canvases=canvases, epochs=epochs
        )
        for fragments, canvases, epochs in ((12, 2, 2), (12, 10, 4), (4, 2, 8))
    },
    "gates": {"none": NONE, **{name: _attended(name) for name in ATTENTION}},
    "reduction ratio": {
        "none": NONE,
        **{f"r = {r}": _attended(reduction_ratio=r) for r in (2, 4, 8, 16)},
    },
    "kernel size": {
        "none": NONE,
        **{f"k = {k}": _attended(kernel_size=k) for k in (3, 5, 7)},
    },
    "16 channels": {
        "none": Arm(width=16),
        "CBAM": _attended(width=16),
        "none, 18 channels": Arm(width=18),
    },
}


def stored():
    """Returns the results by arm and seed."""
    rows = [json.loads(line) for line in STORED.read_text().splitlines()]
    for path in RUNS.glob("*/results.json"):
        content = json.loads(path.read_text())
        variants = content["settings"]["variants"]
        rows += [
            {
                **variants[cell["variant"]],
                **{key: cell[key] for key in ("seed", "parameters")},
                **cell["metrics"],
                "train_accuracy": cell["history"][-1]["accuracy"],
            }
            for cell in content["cells"]
            if cell["status"] == study.FINISHED
        ]
    return {(Arm.of(row), row["seed"]): row for row in rows}


def train(arms, seeds, workers=1):
    """Trains arms on the same data, without what is stored already."""
    known = stored()
    seeds = [s for s in seeds if any((a, s) not in known for a in arms)]
    arms = [a for a in arms if any((a, s) not in known for s in seeds)]
    if arms:
        planned = study_of(arms, seeds)
        folder = f"{planned.task.name}-{planned.recipe.epochs}"
        study.run(planned, RUNS / folder, workers=workers)


def study_of(arms, seeds):
    """Returns the study of arms that are trained on the same data."""
    first = arms[0]
    return study.Study(
        task=Digits(f"digits-{first.fragments}-{first.canvases}"),
        variants=[
            study.Variant(
                arm.name,
                functools.partial(build, arm),
                dataclasses.asdict(arm),
                arm.learning_rate,
            )
            for arm in arms
        ],
        seeds=seeds,
        recipe=training.Recipe(epochs=first.epochs, batch_size=64),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("studies", nargs="+", choices=list(STUDIES))
    parser.add_argument("--seeds", type=positive_integer, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=positive_integer, default=1)
    parser.add_argument(
        "--rates",
        action="store_true",
        help="train with four learning rates on other seeds instead",
    )
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for name in options.studies:
        arms = list(STUDIES[name].values())
        if options.rates:
            arms = [
                dataclasses.replace(arm, learning_rate=rate)
                for arm in arms
                for rate in RATES
            ]
        train(arms, TUNING_SEEDS if options.rates else seeds, options.workers)


if __name__ == "__main__":
    main()
