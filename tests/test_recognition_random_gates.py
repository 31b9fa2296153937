"""Random gates: what is called equal is, and what is right is not blamed."""

import random
from functools import partial

import keras
import numpy as np
import pytest
from insertion_checks import vary
from keras import ops
from pasted import CHANNELS, channel, efficient, spatial

from cbam_keras.insertion import adopt, check

pytestmark = pytest.mark.exhaustive
SCALES = (0.01, 0.1, 1, 10, 100)
SHAPE = (8, 9, CHANNELS)
POOLS = [("avg", "max"), ("max", "avg")]
# What no layer of ours does.
CHANGES = {
    "twice": lambda gate, x: gate(gate(x) / (1 + ops.abs(x))),
    "tempered": lambda gate, x: gate(x) * ops.sigmoid(ops.mean(x)),
    "added": lambda gate, x: 0.5 * x + gate(x),
    "of a minimum": lambda gate, x: -gate(-x),
    "of squares": lambda gate, x: x * ops.sigmoid(gate(ops.square(x))),
    "clipped": lambda gate, x: ops.clip(gate(x), -0.5, 0.5),
    "shifted": lambda gate, x: gate(x) * ops.sigmoid(1 + 0 * x),
}


def simam(x, regularization):
    y = ops.square(x - ops.mean(x, axis=(1, 2), keepdims=True))
    variance = ops.sum(y, axis=(1, 2), keepdims=True) / (
        SHAPE[0] * SHAPE[1] - 1
    )
    return x * ops.sigmoid(y / (4 * (variance + regularization)) + 0.5)


def drawn(seed):
    """Returns a gate, its claim, and whether that is right."""
    draw = random.Random(seed)
    perceptron = {
        "hidden": draw.choice([2, 3, 4]),
        "bias": draw.random() < 0.5,
        "activation": draw.choice(["relu", "relu", "relu", "silu", "gelu"]),
        "unit": draw.choice(["dense", "conv", "sequential"]),
        "form": draw.choice(["ops", "layers", "lambda"]),
        "gate": draw.choice(["sigmoid", "sigmoid", "hard_sigmoid", "tanh"]),
    }
    window = {
        "size": draw.choice([3, 5, 7]),
        "pools": draw.choice(POOLS),
        "bias": draw.random() < 0.5,
        "norm": draw.choice([None, None, 1e-5, 1e-3]),
    }
    join = draw.choice(["logits", "logits", "gates"])
    both = {**perceptron, "join": join}
    first, second = partial(channel, **both), partial(spatial, **window)
    if draw.random() < 0.3:
        first, second = second, first
    kinds = {
        "se_block": partial(channel, pools=("avg",), **perceptron),
        "channel_attention": partial(channel, **both),
        "spatial_attention": partial(spatial, **window),
        "cbam_block": lambda x: second(first(x)),
        "eca_block": efficient,
        "SimAM": partial(simam, regularization=draw.choice([1e-4, 1e-3, 1e-6])),
    }
    name = draw.choice([*kinds, "cbam_block", "se_block"])
    gate = kinds[name]
    has_sigmoid = perceptron["gate"] != "tanh"
    is_right = has_sigmoid or name not in ("se_block", "cbam_block")
    if name == "channel_attention":
        is_right = has_sigmoid and join == "logits"
    if name == "cbam_block":
        # Its spatial half has a sigmoid, and ours one function for both.
        is_right = perceptron["gate"] == "sigmoid" and join == "logits"
    if draw.random() < 0.4:
        change = CHANGES[draw.choice([*CHANGES])]
        return partial(change, gate), name, False
    return gate, name, is_right


@pytest.mark.parametrize("seed", range(200))
def test_random_gates_are_equal_where_adopted_and_right_ones_pass(seed):
    gate, name, is_right = drawn(seed)

    def called(x):
        return gate(x)

    called.__name__ = name
    if is_right:
        report = check(called, SHAPE)
        assert report.passed, report
    inputs = keras.Input(SHAPE)
    model = vary(keras.Model(inputs, gate(inputs)), seed)
    adopted, _ = adopt(model)
    x = np.random.default_rng(seed).normal(size=(4, *SHAPE))
    for scale in SCALES:
        features = ops.convert_to_tensor(scale * x, "float32")
        y, new = (ops.convert_to_numpy(m(features)) for m in (model, adopted))
        assert np.abs(y - new).max() <= 1e-4 * np.abs(y).max()
