"""When attention helps: networks of many settings, each over seeds.

    python -m benchmarks.when_it_helps main --seeds 10

Trains the networks of one or several studies on digits among fragments, and
adds a line for each to `when_it_helps.jsonl` beside this file; what is there
is not trained again, so the command may be killed. `when_it_helps_report`
prints the tables and draws the figures.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import time

import keras
import numpy as np

from benchmarks.arguments import positive_integer
from cbam_keras import comparison, data, explain, layers, models, training
from cbam_keras.data import digits

RESULTS = pathlib.Path(__file__).with_suffix(".jsonl")
# Seeds that only choose the learning rate, on validation images.
TUNING_SEEDS = (1000, 1001)
RATES = (0.003, 0.01, 0.03, 0.1)
CANVASES = {"validation": 4, "test": 4}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One network of a study, and how it is trained.

    Args:
        attention: String, a key of `ATTENTION`.
        reduction_ratio: Integer.
        kernel_size: Integer.
        stages: Tuple of integers from 1, the stages with attention; empty
            for all.
        start: String, how the gates or the blocks start: a key of `STARTS`,
            or `"identity"`, as in `comparison.compare`.
        width: Integer, the channels of the first stage; the others have two
            and four times as many.
        depth: Integer, blocks per stage.
        fragments: Integer, around each digit.
        canvases: Integer, how often each training digit is shown per epoch.
        epochs: Integer.
        learning_rate: Number.
    """

    attention: str = "none"
    reduction_ratio: int = 4
    kernel_size: int = 7
    stages: tuple[int, ...] = ()
    start: str = "paper"
    width: int = 8
    depth: int = 1
    fragments: int = 12
    canvases: int = 10
    epochs: int = 2
    # The best of four for all of none, SE and CBAM (`--rates`).
    learning_rate: float = 0.03

    def at_rate(self, learning_rate):
        return dataclasses.replace(self, learning_rate=learning_rate)


ATTENTION = {
    "se": layers.SqueezeExcite,
    "channel": layers.ChannelAttention,
    "spatial": layers.SpatialAttention,
    "cbam": layers.CBAM,
    "spatial first": functools.partial(layers.CBAM, order="spatial_first"),
    "parallel": functools.partial(layers.CBAM, order="parallel"),
}


def one_plus_sigmoid(x):
    """The gate of BAM and of Residual Attention Networks."""
    return 1 + keras.ops.sigmoid(x)


# Arguments of the layers for each start. "open" and "authors" are CBAM's.
STARTS = {
    "paper": {},
    "plain identity": {"identity_init": True},
    # Each gate at sigmoid(2) = 0.88, by its last bias.
    "open": {"spatial_use_bias": True},
    # The spatial gate's normalization, from zero as in the authors' code.
    "authors": {"spatial_batch_norm": True},
    "one plus": {"gate_activation": one_plus_sigmoid},
    # Of a network without attention: each block starts as its shortcut.
    "zero gamma": {},
}


def build(arm, images):
    """Returns the network of an arm."""
    attention = None
    if arm.attention != "none":
        # By default as in `comparison.compare`.
        orders = ("spatial first", "parallel")
        kind = "cbam" if arm.attention in orders else arm.attention
        options = dict(STARTS.get(arm.start, comparison.start_options(kind)))
        if arm.attention != "spatial":
            options["reduction_ratio"] = arm.reduction_ratio
        if arm.attention not in ("se", "channel"):
            options["kernel_size"] = arm.kernel_size
        attention = functools.partial(ATTENTION[arm.attention], **options)
    if arm.stages:
        attention = [attention if s in arm.stages else None for s in (1, 2, 3)]
    inputs = keras.Input(images.image_shape)
    model = models.ResNet(
        (arm.depth,) * 3,
        block="basic",
        widths=(arm.width, 2 * arm.width, 4 * arm.width),
        stem_width=arm.width,
        stem="strided",
        input_tensor=keras.layers.Rescaling(1 / 255)(inputs),
        classes=len(images.class_names),
        attention=attention,
    )
    _start(model, arm)
    return model


def _start(model, arm):
    """Sets the weights that no argument of a layer decides."""
    for layer in model.layers:
        if arm.start == "zero gamma" and layer.name.endswith("_bn2"):
            layer.gamma.assign(keras.ops.zeros_like(layer.gamma))
        if not isinstance(layer, layers.CBAM):
            continue
        channel, spatial = layer.channel_attention, layer.spatial_attention
        if arm.start == "authors":
            gamma = spatial.batch_norm.gamma
            gamma.assign(keras.ops.zeros_like(gamma))
        if arm.start == "open":
            # The MLP's counts once for each of both pools.
            channel.excite_bias.assign(keras.ops.ones_like(channel.excite_bias))
            spatial.bias.assign(keras.ops.full_like(spatial.bias, 2))


@functools.lru_cache(maxsize=2)
def load(fragments, canvases, seed):
    """Returns the images in batches of 64, and the test images as arrays."""
    name = f"digits-{fragments}-{canvases}"
    digits.EMBEDDED[name] = digits.Clutter(
        fragments, {"train": canvases, **CANVASES}
    )
    arrays = data.load(name, batch_size=None, seed=seed)
    return data.load(name, batch_size=64, seed=seed), arrays.test


def gates(model, images):
    """Returns what each attention layer does on images, from first to last.

    `hidden` is how many hidden units the channel gate has, `dead` how many of
    them are zero for each image and both pools. `channel` is the mean of the
    map, its deviation among channels, and that among images; `spatial` the
    mean and the deviation among positions.
    """
    kinds = (layers.CBAM, layers.ChannelAttention, layers.SpatialAttention)
    attended = [layer for layer in model.layers if isinstance(layer, kinds)]
    if not attended:
        return []
    features = keras.Model(model.inputs, [layer.input for layer in attended])
    found = keras.tree.flatten(features.predict(images, verbose=0))
    maps = explain.attention_maps(model, images)
    return [
        _gate(layer, x, *maps[layer.name])
        for layer, x in zip(attended, found, strict=True)
    ]


def _gate(layer, x, channel, spatial):
    row = {}
    if channel is not None:
        gate = getattr(layer, "channel_attention", layer)
        pools = [x.mean(axis=(1, 2))]
        if "max" in gate.pool_types:
            pools.append(x.max(axis=(1, 2)))
        kernel, bias = (
            keras.ops.convert_to_numpy(weight)
            for weight in (gate.squeeze_kernel, gate.squeeze_bias)
        )
        fired = (np.concatenate(pools) @ kernel + bias > 0).any(axis=0)
        row["hidden"] = len(fired)
        row["dead"] = int((~fired).sum())
        row["channel"] = [
            float(channel.mean()),
            float(channel.mean(axis=0).std()),
            float(channel.std(axis=0).mean()),
        ]
    if spatial is not None:
        row["spatial"] = [
            float(spatial.mean()),
            float(spatial.std(axis=(1, 2)).mean()),
        ]
    return row


def run(arm, seed):
    """Trains and tests one network; returns a line of the results."""
    images, (shown, labels) = load(arm.fragments, arm.canvases, seed)
    recipe = training.Recipe(
        epochs=arm.epochs,
        batch_size=64,
        learning_rate=arm.learning_rate,
        seed=seed,
    )
    keras.utils.set_random_seed(seed)
    model = build(arm, images)
    training.compile_network(model, recipe, len(images.train))
    seconds = []
    for epoch in range(arm.epochs):
        images.set_epoch(epoch)
        keras.utils.set_random_seed(seed + epoch)
        start = time.perf_counter()
        trained = model.fit(images.train, verbose=0, shuffle=False)
        seconds.append(time.perf_counter() - start)
    _, validation = model.evaluate(images.validation, verbose=0)
    found = model.predict(shown.astype("float32"), batch_size=250, verbose=0)
    right = (found.argmax(axis=-1) == labels).reshape(-1, CANVASES["test"])
    return {
        **dataclasses.asdict(arm),
        "seed": seed,
        "backend": keras.backend.backend(),
        "parameters": training.count_parameters(model),
        "train_accuracy": trained.history["accuracy"][-1],
        "validation_accuracy": validation,
        "test_accuracy": float(right.mean()),
        # For each test digit, on how many of its canvases it is recognized.
        "right": "".join(str(count) for count in right.sum(axis=1)),
        "seconds_per_epoch": min(seconds),
        "gates": gates(model, shown[:500].astype("float32")),
    }


def _attended(attention="cbam", **options):
    """Returns an arm with attention as `comparison.compare` starts it."""
    return Arm(attention, start="identity", **options)


NONE, CBAM = Arm(), _attended()

# The arms of each study by what they are called; the first is compared with.
STUDIES = {
    "main": {
        "none": NONE,
        "SE": _attended("se"),
        "CBAM": CBAM,
        "CBAM, not normalized": Arm("cbam", start="plain identity"),
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
        "none": NONE.at_rate(0.01),
        "SE": _attended("se").at_rate(0.01),
        "CBAM, not normalized": Arm("cbam", start="plain identity").at_rate(
            0.01
        ),
    },
    **{
        f"{fragments} fragments, {canvases} canvases, {epochs} epochs": {
            "none": Arm(**options),
            "CBAM": _attended(**options),
            "CBAM, not normalized": Arm(
                "cbam", start="plain identity", **options
            ),
        }
        for fragments, canvases, epochs in (
            *((12, 2, 2), (12, 10, 4), (4, 2, 8), (20, 10, 2)),
        )
        for options in [
            {"fragments": fragments, "canvases": canvases, "epochs": epochs}
        ]
    },
    "gates": {
        "none": NONE,
        **{name: _attended(name) for name in ATTENTION},
    },
    "reduction ratio": {
        "none": NONE,
        **{f"r = {r}": _attended(reduction_ratio=r) for r in (2, 4, 8, 16)},
    },
    "kernel size": {
        "none": NONE,
        **{f"k = {k}": _attended(kernel_size=k) for k in (3, 5, 7)},
    },
    "place": {
        "none": NONE,
        "all stages": CBAM,
        "stages 2 and 3": _attended(stages=(2, 3)),
        "stage 3": _attended(stages=(3,)),
    },
    **{
        f"{depth} blocks a stage": {
            "none": Arm(depth=depth),
            "CBAM": _attended(depth=depth),
        }
        for depth in (2, 3)
    },
    **{
        f"{width} channels": {
            "none": Arm(width=width),
            "CBAM": _attended(width=width),
            f"none, {wider} channels": Arm(width=wider),
        }
        for width, wider in ((16, 18), (32, 34), (56, 58))
    },
}


def stored():
    """Returns the results by arm and seed."""
    if not RESULTS.exists():
        return {}
    found = {}
    names = [field.name for field in dataclasses.fields(Arm)]
    for line in RESULTS.read_text().splitlines():
        row = json.loads(line)
        values = {name: row[name] for name in names}
        arm = Arm(**values | {"stages": tuple(row["stages"])})
        found[arm, row["seed"]] = row
    return found


def train(arms, seeds):
    """Trains what is not stored yet, seed by seed."""
    done = set(stored())
    for seed in seeds:
        for arm in arms:
            if (arm, seed) in done:
                continue
            # Several studies may have the same arm.
            done.add((arm, seed))
            row = run(arm, seed)
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
            shown = {k: v for k, v in row.items() if k != "right"}
            print(json.dumps(shown), flush=True)
            keras.utils.clear_session()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("studies", nargs="+", choices=list(STUDIES))
    parser.add_argument("--seeds", type=positive_integer, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--rates",
        action="store_true",
        help="train with four learning rates on other seeds instead",
    )
    options = parser.parse_args()
    for study in options.studies:
        arms = list(STUDIES[study].values())
        first = options.first_seed
        seeds = range(first, first + options.seeds)
        if options.rates:
            arms = [arm.at_rate(rate) for arm in arms for rate in RATES]
            seeds = TUNING_SEEDS
        train(arms, seeds)


if __name__ == "__main__":
    main()
