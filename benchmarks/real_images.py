"""Attention on real images: Fashion-MNIST, plain, cluttered, and fine-tuned.

    python -m benchmarks.real_images fashion --workers 2
    python -m benchmarks.real_images --report

Each study goes to a folder in `runs/real-images`, which resumes like any other.
The report prints the tables of all studies as Markdown, of `real_images.csv`
beside this file, to which `--store` adds what has been trained.
"""

import argparse
import csv
import dataclasses
import functools
import json
import pathlib

import keras
import numpy as np

from benchmarks.arguments import positive_integer
from benchmarks.digit_networks import Arm, build
from cbam_keras import (
    _terminal,
    comparison,
    data,
    explain,
    freeze_batch_norm,
    insert_attention,
    layers,
    models,
    study,
    training,
)
from cbam_keras.data.digits import cluttered

STORED = pathlib.Path(__file__).with_suffix(".csv")
RUNS = pathlib.Path("runs/real-images")
RATES = (0.01, 0.03, 0.1)
# A seed that only chooses the learning rate, on validation images.
TUNING_SEEDS = (1000,)
FRAGMENTS = 12
# Of the test images, those on which heat maps are looked at.
LOOKED_AT = 500


@functools.cache
def arrays(name):
    """Returns training images, test images, and boxes of these or `None`.

    The name is that of a study's data: `fashion`, `articles`, each with a
    number of training images.
    """
    kind, count = name.split("-")
    train, test = keras.datasets.fashion_mnist.load_data()
    # As many of each class, the first of them.
    rows = np.concatenate(
        [np.flatnonzero(train[1] == c)[: int(count) // 10] for c in range(10)]
    )
    train = (train[0][rows], train[1][rows])
    if kind == "fashion":
        return train, test, None
    made = []
    for split, (images, labels) in enumerate((train, test)):
        rng = np.random.default_rng(split)
        canvases, boxes = cluttered(images, images, FRAGMENTS, rng)
        made.append((canvases, labels))
    return *made, boxes


class Articles(study.Classification):
    """Articles of Fashion-MNIST, recognized by the best epoch's network."""

    test_images = 10_000

    def load(self, recipe):
        train, test, _ = arrays(self.name)
        images, labels = test
        test = (images[: self.test_images], labels[: self.test_images])
        loaded = data.load(
            (train, test), batch_size=recipe.batch_size, seed=recipe.seed
        )
        return dataclasses.replace(loaded, name=self.name)

    def evaluate(self, model, data):
        measured = super().evaluate(model, data)
        _, (images, _), boxes = arrays(self.name)
        if boxes is not None:
            images = images[:LOOKED_AT, ..., None].astype("float32")
            heat = explain.grad_cam(model, images)
            hits, inside = explain.pointing_game(heat, boxes[:LOOKED_AT])
            measured["pointing"] = float(hits.mean())
            measured["heat_in_box"] = float(inside.mean())
        return measured


class FewerTestImages(Articles):
    """The same, measured on the first 2,000 test images."""

    test_images = 2_000


def pretrained(attention, images):
    """Returns a frozen EfficientNet-Lite0 with attention and a new head."""
    inputs = keras.Input(images.image_shape)
    x = keras.layers.Resizing(96, 96)(inputs)
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(x)
    x = keras.layers.Concatenate()([x, x, x])
    backbone = models.EfficientNetLite0(
        include_top=False, input_tensor=x, weights="imagenet"
    )
    backbone.trainable = False
    if attention is not None:
        backbone = insert_attention(backbone, attention)
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    outputs = keras.layers.Dense(len(images.class_names), "softmax")(x)
    return keras.Model(backbone.input, outputs)


def unfrozen(name, folder, images):
    """Returns the network of the first stage, to be trained as a whole."""
    path = RUNS / folder / f"{name}-seed{images.seed}.keras"
    model = keras.saving.load_model(path)
    model.trainable = False
    model.trainable = True
    freeze_batch_norm(model)
    return model


# By name: the networks that are trained from scratch. `start="identity"` is
# `VARIANTS["recommended"]`, as in `comparison.compare`.
ARMS = {
    "none": Arm(),
    **{
        name: Arm(name, start="identity")
        for name in ("se", "spatial", "cbam", "parallel")
    },
    "cbam-paper": Arm("cbam"),
    "none-wide": Arm(width=10),
}
MOST = ("none", "spatial", "cbam", "none-wide")
# What is inserted into EfficientNet-Lite0, each as the identity.
INSERTED = {
    "none": None,
    "spatial": functools.partial(
        layers.SpatialAttention, **comparison.start_options("spatial")
    ),
    "cbam": functools.partial(layers.CBAM, **comparison.start_options("cbam")),
    "cbam-not-normalized": "cbam",
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One table: a study of these variants."""

    data: str
    epochs: int
    variants: tuple[str, ...]
    seeds: int = 10
    # Of fine-tuning: 1, the new layers, or 2, all layers.
    stage: int = 0
    # By variant where they are known, else 0.03 from scratch.
    rates: tuple = ()


def _tuned(count, epochs):
    """Returns both stages of fine-tuning on so many images."""
    common = {"data": f"fashion-{count}", "epochs": epochs, "seeds": 3}
    first = Experiment(variants=tuple(INSERTED), stage=1, **common)
    compared = ("none", "cbam", "cbam-not-normalized")
    second = Experiment(variants=compared, stage=2, **common)
    return {f"tuned-{count}-stage1": first, f"tuned-{count}-stage2": second}


EXPERIMENTS = {
    "rates": Experiment("fashion-60000", 2, tuple(ARMS), rates=RATES),
    "fashion": Experiment("fashion-60000", 2, tuple(ARMS), seeds=6),
    "articles": Experiment("articles-36000", 2, MOST, seeds=4),
    **_tuned(2000, 2),
    "few": Experiment("fashion-2000", 12, MOST, seeds=5),
}


def study_of(name):
    """Returns the study of an experiment."""
    experiment = EXPERIMENTS[name]
    recipe = training.Recipe(
        epochs=experiment.epochs, batch_size=64, learning_rate=0.03
    )
    seeds = range(experiment.seeds)
    if experiment.rates:
        seeds = TUNING_SEEDS
        variants = [
            study.Variant(
                f"{arm}-{rate}", functools.partial(build, ARMS[arm]), {}, rate
            )
            for arm in experiment.variants
            for rate in experiment.rates
        ]
    elif experiment.stage:
        # The head and the gates are new, the rest is only adjusted.
        rate = (0.003, 0.0003)[experiment.stage - 1]
        recipe = dataclasses.replace(recipe, batch_size=32, learning_rate=rate)
        first = name.replace("stage2", "stage1")
        variants = [
            study.Variant(
                arm,
                functools.partial(pretrained, INSERTED[arm])
                if experiment.stage == 1
                else functools.partial(unfrozen, arm, first),
            )
            for arm in experiment.variants
        ]
    else:
        variants = [
            study.Variant(
                arm,
                functools.partial(build, ARMS[arm]),
                {},
                CHOSEN.get(arm),
            )
            for arm in experiment.variants
        ]
    kind = FewerTestImages if experiment.stage else Articles
    return study.Study(
        task=kind(experiment.data),
        variants=variants,
        seeds=tuple(seeds),
        recipe=recipe,
        baseline=None if experiment.rates else "none",
    )


# Where another rate than 0.03 has the least validation loss, see "rates".
CHOSEN = {"parallel": 0.01}


COLUMNS = (
    *("experiment", "variant", "seed", "parameters", "val_loss"),
    *("val_accuracy", "test_accuracy", "pointing", "heat_in_box"),
)


def trained(name):
    """Returns what has been trained for an experiment, as rows of the table."""
    path = RUNS / name / study.RESULTS
    cells = json.loads(path.read_text())["cells"] if path.exists() else []
    return [
        {
            "experiment": name,
            **{key: str(cell[key]) for key in COLUMNS[1:4]},
            **{
                key: f"{cell['metrics'][key]:.4f}"
                for key in COLUMNS[4:]
                if key in cell["metrics"]
            },
        }
        for cell in cells
        if cell["status"] == study.FINISHED
    ]


def stored():
    """Returns the rows of the table, with those trained here added."""
    text = STORED.read_text() if STORED.exists() else ""
    rows = list(csv.DictReader(text.splitlines()))
    rows += [row for name in EXPERIMENTS for row in trained(name)]
    # Of equal ones those trained here.
    return [
        *{tuple(row[key] for key in COLUMNS[:3]): row for row in rows}.values()
    ]


def table(name, rows):
    """Returns an experiment as Markdown: one line per variant."""
    rows = [row for row in rows if row["experiment"] == name]
    columns = {"network": "left", "parameters": "right", "seeds": "right"}
    measures = {"test_accuracy": "test accuracy (%)"}
    if name == "rates":
        return _rates(rows)
    if name == "articles":
        measures |= {"pointing": "maximum in the box (%)"}
        measures |= {"heat_in_box": "heat in the box (%)"}
    for words in measures.values():
        columns |= {words: "right", f"difference in {words}"[:-4]: "right"}
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        line = [variant, f"{int(own[0]['parameters']):,}", str(len(own))]
        for measure in measures:
            first = {
                row["seed"]: float(row[measure])
                for row in rows
                if row["variant"] == "none"
            }
            values = [float(row[measure]) for row in own]
            differences = [
                float(row[measure]) - first[row["seed"]]
                for row in own
                if row["seed"] in first
            ]
            images = None
            if measure == "test_accuracy":
                kind = FewerTestImages if EXPERIMENTS[name].stage else Articles
                images = kind.test_images
            measured = study.Measured.of(
                values, differences if variant != "none" else None, images
            )
            line += [f"{100 * measured.mean:.2f}", _difference(measured)]
        lines.append(line)
    return _terminal.render(columns, [lines], markdown=True)


def _rates(rows):
    """Returns loss and accuracy on validation images by learning rate."""
    columns = {"network": "left", **{f"{rate}": "right" for rate in RATES}}
    lines: dict[str, list[str]] = {}
    for row in rows:
        name = row["variant"].rpartition("-")[0]
        accuracy = f"{float(row['val_accuracy']):.1%}"
        lines.setdefault(name, [name]).append(f"{row['val_loss']}, {accuracy}")
    return _terminal.render(columns, [list(lines.values())], markdown=True)


def _difference(measured):
    if measured.interval is None:
        return ""
    reach = measured.interval[1] - measured.difference
    return f"{100 * measured.difference:+.2f} ± {100 * reach:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "experiments", nargs="*", help=", ".join(EXPERIMENTS), metavar="NAME"
    )
    parser.add_argument("--workers", type=positive_integer, default=1)
    parser.add_argument(
        "--report", action="store_true", help="print the tables as Markdown"
    )
    parser.add_argument(
        "--store", action="store_true", help="add what was trained to the CSV"
    )
    options = parser.parse_args()
    for name in options.experiments:
        if name not in EXPERIMENTS:
            parser.error(f"no experiment {name}; there are {[*EXPERIMENTS]}")
    for name in options.experiments:
        study.run(study_of(name), RUNS / name, workers=options.workers)
    rows = stored()
    if options.store:
        with STORED.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if options.report:
        for name in dict.fromkeys(row["experiment"] for row in rows):
            print(f"**{name}**\n\n{table(name, rows)}\n")


if __name__ == "__main__":
    # Workers find a cached function of a module, but not of a script.
    from benchmarks import real_images

    real_images.main()
