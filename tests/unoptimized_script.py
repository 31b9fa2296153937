"""Prints slopes of layers with a maximum, where XLA optimizes nothing.

It then computes what is before a layer several times. One slope of each case is
by the gradient, and one by central differences in NumPy.
"""

import os

os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"

import keras
from layer_checks import (
    MODES,
    call_and_gradients,
    random_input,
    randomize,
    to_numpy,
)
from numpy_reference import batch_norm, channel_logits, sigmoid, spatial_logits

from cbam_keras import (
    CBAM,
    ChannelAttention,
    SpatialAttention,
    TripletAttention,
)
from cbam_keras.layers._fused import contract
from cbam_keras.layers.triplet_attention import PLANES

SHAPE = (4, 6, 5, 8)


def normalized(x, weights, epsilon):
    axes = tuple(range(x.ndim - 1))
    return batch_norm(x, *weights, x.mean(axes), x.var(axes), epsilon)


def channel(x, squeeze, excite, *biases):
    weights = squeeze, biases[0], excite, biases[1]
    return x * sigmoid(channel_logits(x, weights))


def spatial(x, kernel):
    return x * sigmoid(spatial_logits(x, kernel))


def cbam(x, *weights):
    return spatial(channel(x, *weights[:-1]), weights[-1])


def triplet(x, *weights):
    gates = []
    for i, order in enumerate(PLANES.values()):
        pools = {"kernel": weights[i], "pools": ("max", "avg")}
        logits = spatial_logits(x.transpose(order), **pools)
        logits = normalized(logits, weights[3 + 2 * i :][:2], 1e-5)
        gates.append(sigmoid(logits).transpose(order))
    return x * sum(gates) / 3


def slopes(layer, formula, by_formula=False):
    inputs = keras.Input(SHAPE[1:])
    x = keras.layers.BatchNormalization()(inputs)
    mask = keras.ops.ones_like(x[..., 0], "bool") if by_formula else None
    network = randomize(keras.Model(inputs, layer(x, mask=mask)))
    arrays = [random_input(SHAPE), *map(to_numpy, network.trainable_variables)]
    weighting = random_input(SHAPE, seed=5)
    call = network, arrays[0], weighting, True, MODES[-1]
    _, gradients = call_and_gradients(*call)
    steps = [1e-6 * random_input(x.shape, "float64", 3) for x in arrays]
    totals = []
    for sign in (1, -1):
        x, gamma, beta, *weights = (
            array + sign * step
            for array, step in zip(arrays, steps, strict=True)
        )
        y = formula(normalized(x, (gamma, beta), 1e-3), *weights)
        totals.append((y * weighting).sum())
    print(
        sum((x * y).sum() for x, y in zip(gradients, steps, strict=True))
        / 1e-6,
        (totals[0] - totals[1]) / 2e-6,
    )


if __name__ == "__main__":
    contract.SMALL = 0
    slopes(ChannelAttention(4), channel, by_formula=True)
    slopes(SpatialAttention(3), spatial, by_formula=True)
    slopes(CBAM(4, 3), cbam, by_formula=True)
    slopes(CBAM(4, 3), cbam)
    slopes(TripletAttention(3), triplet)
