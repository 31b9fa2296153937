"""When attention helps: networks without and with it, each over seeds.

    python -m benchmarks.when_it_helps digits --seeds 10 --workers 2
    python -m benchmarks.when_it_helps --store

Each experiment is a study in a folder of `runs/when-it-helps`, which resumes
like any other. `--store` adds what has been trained to `when_it_helps.jsonl`
beside this file, of which `when_it_helps_report` prints the tables.
"""

import argparse
import dataclasses
import functools
import json
import pathlib

import keras
import numpy as np

from benchmarks import networks
from benchmarks.arguments import positive_integer
from cbam_keras import (
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
from cbam_keras.data import digits

STORED = pathlib.Path(__file__).with_suffix(".jsonl")
RUNS = pathlib.Path("runs/when-it-helps")
# How many canvases show each digit.
CANVASES = {"validation": 4, "test": 4}
FRAGMENTS = 12
# Of the test images, those on which gates and heat maps are looked at.
LOOKED_AT = 500


class Digits(study.Classification):
    """Digits among fragments, recognized by the network of the last epoch.

    The name holds the number of fragments, and how many canvases show each
    training digit: `digits-12-10`.
    """

    # Without those of validation, which would choose the epoch.
    metrics = ("loss", "accuracy")
    test_images = 4_000

    def load(self, recipe):
        fragments, canvases = map(int, self.name.split("-")[1:])
        canvases = {"train": canvases, **CANVASES}
        digits.EMBEDDED[self.name] = fragments, canvases
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
            "val_accuracy": validation,
            "test_accuracy": float(right.mean()),
            # For each test digit, on how many canvases it is recognized.
            "right": "".join(str(count) for count in right.sum(axis=1)),
            "gates": gates(model, images[:LOOKED_AT]),
        }


def gates(model, images):
    """Returns what the gates of each CBAM layer do, from first to last.

    The mean of the channel map, its deviation among channels and among
    images; the mean of the spatial map and its deviation among positions.
    """
    if not any(isinstance(layer, layers.CBAM) for layer in model.layers):
        return []
    maps = explain.attention_maps(model, images)
    found = []
    for channel, spatial in maps.values():
        means = channel.mean(), channel.mean(axis=0).std()
        among = channel.std(axis=0).mean()
        positions = spatial.mean(), spatial.std(axis=(1, 2)).mean()
        found.append(
            {
                "channel": [float(x) for x in (*means, among)],
                "spatial": [float(x) for x in positions],
            }
        )
    return found


class Articles(study.Classification):
    """Fashion-MNIST, recognized by the network of the best epoch.

    The name holds the number of training images: `fashion-60000`, and
    `articles-36000` for articles among fragments of others.
    """

    test_images = 10_000

    def load(self, recipe):
        train, (images, labels), _ = arrays(self.name)
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


@functools.cache
def arrays(name):
    """Returns training images, test images, and boxes of these or `None`."""
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
        canvases, boxes = digits.cluttered(images, images, FRAGMENTS, rng)
        made.append((canvases, labels))
    return *made, boxes


def small_network(images, **options):
    """Returns a network of about 20,000 parameters for a dataset."""
    inputs = keras.Input(images.image_shape)
    return networks.tiny(
        input_tensor=keras.layers.Rescaling(1 / 255)(inputs),
        classes=len(images.class_names),
        **options,
    )


def cbam(reduction_ratio=4, **options):
    """Returns CBAM as `VARIANTS["recommended"]` starts it."""
    options = layers.VARIANTS["recommended"] | options
    return functools.partial(layers.CBAM, reduction_ratio, **options)


SPATIAL = functools.partial(
    layers.SpatialAttention, **comparison.start_options("spatial")
)
NOT_NORMALIZED = functools.partial(layers.CBAM, 4, identity_init=True)
SE = functools.partial(layers.SqueezeExcite, 4, identity_init=True)
CHANNEL = functools.partial(layers.ChannelAttention, 4, identity_init=True)

# The arguments of `small_network` by the name of the variant.
NETWORKS = {
    "none": {},
    "se": {"attention": SE},
    "spatial": {"attention": SPATIAL},
    "cbam": {"attention": cbam()},
    "cbam-not-normalized": {"attention": NOT_NORMALIZED},
    "cbam-paper": {"attention": functools.partial(layers.CBAM, 4)},
    "none-wide": {"width": 10},
    "channel": {"attention": CHANNEL},
    "spatial-first": {"attention": cbam(order="spatial_first")},
    "parallel": {"attention": cbam(order="parallel")},
    **{f"cbam-r{r}": {"attention": cbam(r)} for r in (2, 8, 16)},
    **{f"cbam-k{k}": {"attention": cbam(kernel_size=k)} for k in (3, 5)},
}
LARGER_NETWORKS = {
    "none": {"width": 16},
    "cbam": {"width": 16, "attention": cbam()},
    "none-wide": {"width": 18},
}


def variants(names, options=NETWORKS, rate=None, suffix=""):
    """Returns variants, with another learning rate than the study's."""
    return [
        study.Variant(
            name + suffix,
            functools.partial(small_network, **options[name]),
            learning_rate=rate,
        )
        for name in names
    ]


def from_scratch(task, compared, seeds, epochs=2, rate=0.03, baseline="none"):
    """Returns a study of small networks."""
    recipe = training.Recipe(epochs=epochs, batch_size=64, learning_rate=rate)
    return study.Study(
        task, compared, seeds=seeds, recipe=recipe, baseline=baseline
    )


def rates(task, names, tried, seeds):
    """Returns a study that chooses learning rates, by validation images."""
    compared = []
    for rate in tried:
        compared += variants(names, rate=rate, suffix=f"-{rate}")
    return from_scratch(task, compared, seeds, baseline=None)


# What is inserted into EfficientNet-Lite0, each as the identity.
INSERTED = {
    "none": None,
    "spatial": SPATIAL,
    "cbam": cbam(16),
    "cbam-not-normalized": "cbam",
}


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


def unfrozen(name, images):
    """Returns the network of the first stage, to be trained as a whole."""
    path = RUNS / "tuned-stage1" / f"{name}-seed{images.seed}.keras"
    model = keras.saving.load_model(path)
    model.trainable = False
    model.trainable = True
    freeze_batch_norm(model)
    return model


def fine_tuned(builders, rate):
    """Returns a study of EfficientNet-Lite0, by functions that build it."""
    return study.Study(
        FewerTestImages("fashion-2000"),
        [study.Variant(name, build) for name, build in builders.items()],
        seeds=range(3),
        recipe=training.Recipe(epochs=2, batch_size=32, learning_rate=rate),
        baseline="none",
    )


# Those of the first table of `when_it_helps.md`.
MAIN = tuple(NETWORKS)[:7]
STARTS = ["none", "cbam", "cbam-not-normalized"]
FEW = ["none", "spatial", "cbam", "none-wide"]
RATES = (0.003, 0.01, 0.03, 0.1)
# Seeds that only choose the learning rate.
TUNING_SEEDS = (1000, 1001)
DIGITS = Digits(f"digits-{FRAGMENTS}-10")
SHORT = Digits(f"digits-{FRAGMENTS}-2")
FASHION = Articles("fashion-60000")

EXPERIMENTS = {
    "digits": from_scratch(DIGITS, variants(NETWORKS), range(10)),
    "digits-rates": rates(DIGITS, ["se", *STARTS], RATES, TUNING_SEEDS),
    "digits-slow": from_scratch(
        DIGITS,
        variants(["none", "se", "cbam-not-normalized"]),
        range(5),
        rate=0.01,
    ),
    "digits-larger": from_scratch(
        DIGITS, variants(LARGER_NETWORKS, LARGER_NETWORKS), range(3)
    ),
    "digits-short": from_scratch(SHORT, variants(STARTS), range(5)),
    "digits-short-rates": rates(
        SHORT, ["none", "cbam-not-normalized"], RATES, TUNING_SEEDS
    ),
    "digits-easy": from_scratch(
        Digits("digits-4-2"),
        variants(["none", "cbam-not-normalized"]),
        range(5),
        epochs=8,
    ),
    "fashion-rates": rates(
        FASHION, [*FEW, "se", "cbam-paper", "parallel"], RATES[1:], (1000,)
    ),
    # The rates are those with the least validation loss.
    "fashion": from_scratch(
        FASHION,
        [
            *variants([*FEW, "se", "cbam-paper"]),
            *variants(["parallel"], rate=0.01),
        ],
        range(6),
    ),
    "articles": from_scratch(
        Articles("articles-36000"), variants(FEW), range(4)
    ),
    "few": from_scratch(
        Articles("fashion-2000"), variants(FEW), range(5), epochs=12
    ),
    # The head and the gates are new; in the second stage all is adjusted.
    "tuned-stage1": fine_tuned(
        {
            name: functools.partial(pretrained, attention)
            for name, attention in INSERTED.items()
        },
        rate=0.003,
    ),
    "tuned-stage2": fine_tuned(
        {name: functools.partial(unfrozen, name) for name in STARTS},
        rate=0.0003,
    ),
}


def outcomes(name):
    """Returns the outcomes of an experiment, stored ones and those in runs."""
    found = {}
    for line in STORED.read_text().splitlines():
        row = json.loads(line)
        if row.pop("experiment") == name:
            outcome = study.Outcome(
                status=study.FINISHED, seconds_per_epoch=0.0, **row
            )
            found[outcome.variant, outcome.seed] = outcome
    if (RUNS / name / study.RESULTS).exists():
        for outcome in study.Results.read(RUNS / name).runs:
            found[outcome.variant, outcome.seed] = outcome
    return list(found.values())


def store():
    """Adds what has been trained to the stored outcomes."""
    kept = ("variant", "seed", "parameters", "metrics")
    lines = [
        json.dumps(
            {"experiment": name} | {key: getattr(outcome, key) for key in kept}
        )
        for name in EXPERIMENTS
        for outcome in outcomes(name)
    ]
    STORED.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "experiments", nargs="*", metavar="NAME", help=", ".join(EXPERIMENTS)
    )
    parser.add_argument(
        "--variants", nargs="+", help="of the experiments (default: all)"
    )
    parser.add_argument(
        "--seeds",
        type=positive_integer,
        help="how many (default: those of the experiment)",
    )
    parser.add_argument("--workers", type=positive_integer, default=1)
    parser.add_argument(
        "--store", action="store_true", help="store what has been trained"
    )
    options = parser.parse_args()
    for name in options.experiments:
        if name not in EXPERIMENTS:
            parser.error(f"no experiment {name}; there are {[*EXPERIMENTS]}")
        planned = EXPERIMENTS[name]
        wanted = options.variants or [v.name for v in planned.variants]
        planned = dataclasses.replace(
            planned,
            variants=[v for v in planned.variants if v.name in wanted],
            seeds=planned.seeds[: options.seeds],
        )
        print(study.run(planned, RUNS / name, workers=options.workers))
    if options.store:
        store()


if __name__ == "__main__":
    # Workers find a cached function of a module, but not of a script.
    from benchmarks import when_it_helps

    when_it_helps.main()
