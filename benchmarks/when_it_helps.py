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
# How many canvases show each validation and test digit.
CANVASES = 4
FRAGMENTS = 12
# Gates and heat maps are looked at on so many test images.
LOOKED_AT = 500


class Digits(study.Classification):
    """Digits among fragments, recognized by the network of the last epoch.

    The name holds the number of fragments, and how many canvases show each
    training digit: `digits-12-10`.
    """

    # Metrics of validation would choose the epoch.
    metrics = ("loss", "accuracy")
    test_images = 4_000

    def load(self, recipe):
        fragments, canvases = map(int, self.name.split("-")[1:])
        canvases = {"train": canvases, "validation": CANVASES, "test": CANVASES}
        digits.EMBEDDED[self.name] = fragments, canvases
        return super().load(recipe)

    def evaluate(self, model, data):
        _, validation = model.evaluate(data.validation, verbose=0)
        measured = super().evaluate(model, data)
        return {"val_accuracy": validation, **measured}

    def looked_at(self, model):
        """Returns on how many canvases each digit is recognized, and gates."""
        test = self.load(training.Recipe(batch_size=250)).test
        images, labels = map(np.concatenate, zip(*test, strict=True))
        found = model.predict(images, batch_size=250, verbose=0)
        right = (found.argmax(axis=-1) == labels).reshape(-1, CANVASES)
        counts = "".join(map(str, right.sum(axis=1)))
        return {"right": counts, "gates": gates(model, images[:LOOKED_AT])}


def gates(model, images):
    """Returns what the gates of each CBAM layer do, from first to last.

    The mean of the channel map, its deviation among channels and among
    images; the mean of the spatial map and its deviation among positions.
    """
    if not any(isinstance(layer, layers.CBAM) for layer in model.layers):
        return []
    found = []
    for channel, spatial in explain.attention_maps(model, images).values():
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

    The name holds the numbers of training and test images,
    `fashion-60000-10000`, and begins with `articles` for articles among
    fragments of others.
    """

    @property
    def test_images(self):
        return int(self.name.split("-")[2])

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


@functools.cache
def arrays(name):
    """Returns training images, test images, and boxes of these or `None`."""
    kind, count, _ = name.split("-")
    train, test = keras.datasets.fashion_mnist.load_data()
    # The first of each class, equally many of each.
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


def pretrained(images, attention):
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


def unfrozen(images, name):
    """Returns the network of the first stage, to be trained as a whole."""
    path = RUNS / "tuned-stage1" / f"{name}-seed{images.seed}.keras"
    model = keras.saving.load_model(path)
    model.trainable = False
    model.trainable = True
    freeze_batch_norm(model)
    return model


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
# These are inserted into EfficientNet-Lite0, each as the identity.
INSERTED = {
    "none": {"attention": None},
    "spatial": {"attention": SPATIAL},
    "cbam": {"attention": cbam(16)},
    "cbam-not-normalized": {"attention": "cbam"},
}
# The networks of the first table of `when_it_helps.md`.
MAIN = tuple(NETWORKS)[:7]
STARTS = ["none", "cbam", "cbam-not-normalized"]
FEW = ["none", "spatial", "cbam", "none-wide"]
RATES = (0.003, 0.01, 0.03, 0.1)
# Seeds that only choose the learning rate.
TUNING_SEEDS = (1000, 1001)
DIGITS = Digits(f"digits-{FRAGMENTS}-10")
SHORT = Digits(f"digits-{FRAGMENTS}-2")
FASHION = Articles("fashion-60000-10000")
TUNED = Articles("fashion-2000-2000")


def variants(names, rate=None, build=small_network, options=NETWORKS):
    """Returns variants, whose names tell another rate than the study's."""
    return [
        study.Variant(
            name if rate is None else f"{name}-{rate}",
            functools.partial(build, **options[name]),
            learning_rate=rate,
        )
        for name in names
    ]


def planned(task, compared, seeds, epochs=2, rate=0.03, batch_size=64):
    """Returns a study, which compares with the network without attention."""
    return study.Study(
        task,
        compared,
        seeds=seeds,
        recipe=training.Recipe(
            epochs=epochs, batch_size=batch_size, learning_rate=rate
        ),
        baseline="none" if compared[0].name == "none" else None,
    )


def rates(task, names, tried, seeds):
    """Returns a study that chooses learning rates, by validation images."""
    compared = [variants(names, rate) for rate in tried]
    return planned(task, sum(compared, []), seeds)


EXPERIMENTS = {
    "digits": planned(DIGITS, variants(NETWORKS), 10),
    "digits-rates": rates(DIGITS, ["se", *STARTS], RATES, TUNING_SEEDS),
    "digits-slow": planned(
        DIGITS, variants(["none", "se", STARTS[2]]), 5, rate=0.01
    ),
    "digits-larger": planned(
        DIGITS, variants(LARGER_NETWORKS, options=LARGER_NETWORKS), 3
    ),
    "digits-short": planned(SHORT, variants(STARTS), 5),
    "digits-short-rates": rates(SHORT, STARTS[::2], RATES, TUNING_SEEDS),
    "digits-easy": planned(
        Digits("digits-4-2"), variants(STARTS[::2]), 5, epochs=8
    ),
    "fashion-rates": rates(
        FASHION, [*FEW, "se", "cbam-paper", "parallel"], RATES[1:], (1000,)
    ),
    # The rates are those with the least validation loss.
    "fashion": planned(
        FASHION,
        [
            *variants([*FEW, "se", "cbam-paper"]),
            dataclasses.replace(
                *variants(["parallel"]), learning_rate=RATES[1]
            ),
        ],
        6,
    ),
    "articles": planned(Articles("articles-36000-10000"), variants(FEW), 4),
    "few": planned(Articles("fashion-2000-10000"), variants(FEW), 5, epochs=12),
    # The head and the gates are new; in the second stage all is adjusted.
    "tuned-stage1": planned(
        TUNED,
        variants(INSERTED, build=pretrained, options=INSERTED),
        3,
        rate=0.003,
        batch_size=32,
    ),
    "tuned-stage2": planned(
        TUNED,
        variants(
            STARTS, build=unfrozen, options={x: {"name": x} for x in STARTS}
        ),
        3,
        rate=0.0003,
        batch_size=32,
    ),
}


def stored():
    """Returns the stored outcomes by experiment, variant and seed."""
    rows = map(json.loads, STORED.read_text().splitlines())
    names = ("experiment", "variant", "seed")
    return {tuple(row[name] for name in names): row for row in rows}


def store():
    """Adds what has been trained to the stored outcomes."""
    rows = stored()
    for experiment, planned in EXPERIMENTS.items():
        folder = RUNS / experiment
        if not (folder / study.RESULTS).exists():
            continue
        for outcome in study.Results.read(folder).runs:
            key = experiment, outcome.variant, outcome.seed
            metrics = dict(outcome.metrics)
            if key in rows and metrics.items() <= rows[key]["metrics"].items():
                continue
            if isinstance(planned.task, Digits):
                model = keras.saving.load_model(folder / outcome.file)
                metrics |= planned.task.looked_at(model)
            rows[key] = {
                "experiment": experiment,
                "variant": outcome.variant,
                "seed": outcome.seed,
                "parameters": outcome.parameters,
                "metrics": metrics,
            }
    lines = map(json.dumps, rows.values())
    STORED.write_text("".join(f"{line}\n" for line in lines))


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
        plan = EXPERIMENTS[name]
        wanted = options.variants or [v.name for v in plan.variants]
        plan = dataclasses.replace(
            plan,
            variants=[v for v in plan.variants if v.name in wanted],
            seeds=plan.seeds[: options.seeds],
        )
        print(study.run(plan, RUNS / name, workers=options.workers))
    if options.store:
        store()


if __name__ == "__main__":
    # Workers find a cached function of a module, but not of a script.
    from benchmarks import when_it_helps

    when_it_helps.main()
