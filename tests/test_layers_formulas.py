"""Values of the layers against the formulas, in NumPy."""

import math

import keras
import numpy as np
import pytest
from layer_checks import (
    LAYERS,
    MODES,
    assert_close,
    built,
    call_and_gradients,
    gradients,
    output,
    random_input,
    randomize,
    to_numpy,
)
from numpy_reference import (
    batch_norm,
    channel_logits,
    convolve,
    relu,
    sigmoid,
    spatial_logits,
)

from cbam_keras import (
    BAM,
    CBAM,
    SCSE,
    VARIANTS,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SimAM,
    SpatialAttention,
    SqueezeExcite,
    TripletAttention,
)
from cbam_keras.layers.pools import pool
from cbam_keras.layers.triplet_attention import PLANES

SHAPE = (2, 7, 5, 16)
ACTIVATIONS = {"relu": relu, "linear": np.asarray, "sigmoid": sigmoid}


def values(variable):
    return to_numpy(variable).astype("float64")


def channel_map(layer, x):
    weights = [
        values(layer.squeeze_kernel),
        values(layer.squeeze_bias) if layer.use_bias else 0,
        values(layer.excite_kernel),
        values(layer.excite_bias) if layer.use_bias else 0,
    ]
    activation = ACTIVATIONS[layer.activation.__name__]
    if layer.combine == "gates":
        return sum(
            sigmoid(channel_logits(x, weights, [pool], activation))
            for pool in layer.pool_types
        )
    return sigmoid(channel_logits(x, weights, layer.pool_types, activation))


def logits_of(layer, x):
    """Returns the logits of a spatial gate without batch normalization."""
    return spatial_logits(
        x.astype("float64"),
        values(layer.kernel),
        values(layer.bias) if layer.use_bias else 0,
        layer.pool_types,
        values(layer.pool_kernel) if "conv" in layer.pool_types else None,
        layer.dilation_rate,
    )


def spatial_map(layer, x):
    return sigmoid(logits_of(layer, x))


def cbam_maps(layer, x):
    gate, spatial = layer.channel_attention, layer.spatial_attention
    if layer.order == "spatial_first":
        second = spatial_map(spatial, x)
        return channel_map(gate, x * second), second
    first = channel_map(gate, x)
    features = x if layer.order == "parallel" else x * first
    return first, spatial_map(spatial, features)


@pytest.mark.usefixtures("float64")
def test_the_toy_version_of_channel_attention_can_be_built():
    """docs/fidelity.md: it adds hidden units, and has a ReLU, no sigmoid."""
    shape = (2, 5, 3, 64)
    layer = ChannelAttention(
        activation=None,
        gate_activation="relu",
        use_bias=False,
        dtype="float64",
    )
    layer.build(shape)
    x = np.random.default_rng(0).normal(size=shape)
    first, second = values(layer.squeeze_kernel), values(layer.excite_kernel)
    hidden = x.mean((1, 2)) @ first + x.max((1, 2)) @ first
    factors = np.maximum(hidden @ second, 0)
    np.testing.assert_allclose(
        output(layer, x), x * factors[:, None, None], rtol=0, atol=1e-12
    )
    # It removes channels, and amplifies others without a limit.
    assert factors.min() == 0 and factors.max() > 1


@pytest.mark.every_backend
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "options, shape",
    [
        ({}, SHAPE),
        ({"pool_types": "avg"}, SHAPE),
        ({"pool_types": ("avg", "max", "lp", "lse")}, SHAPE),
        ({"pool_types": ("avg", "max", "lp", "lse")}, (6, 16)),
        ({}, (2, 9, 16)),
        ({}, (2, 4, 3, 5, 16)),
        ({"activation": None}, SHAPE),
        ({"activation": "sigmoid"}, SHAPE),
        ({"combine": "gates", "use_bias": False}, SHAPE),
        ({"combine": "gates", "pool_types": ("max", "lse", "avg")}, SHAPE),
    ],
    ids=str,
)
def test_channel_attention_equals_numpy(options, shape):
    layer = built(ChannelAttention(4, **options, dtype="float64"), shape)
    assert_gate_equals(layer, channel_map, shape)
    if layer.pool_types == ("avg",):
        # It is built with the same weights.
        same = built(SqueezeExcite(4, dtype="float64"), shape)
        assert_gate_equals(same, channel_map, shape)


def assert_gate_equals(layer, map_of, shape):
    x = random_input(shape, dtype="float64")
    gate = map_of(layer, x)
    assert_close(layer.attention_map(x), gate, rtol=0, atol=1e-12)
    assert_close(output(layer, x), x * gate, rtol=0, atol=1e-12)


@pytest.mark.every_backend
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "options, shape",
    [
        ({}, SHAPE),
        ({"pool_types": ("max", "avg")}, SHAPE),
        ({"pool_types": ("lp", "lse")}, SHAPE),
        ({"pool_types": ("avg", "max", "conv")}, SHAPE),
        ({"kernel_size": 3}, (2, 9, 16)),
        ({"kernel_size": 1}, SHAPE),
        # Wider than the map.
        ({"kernel_size": 9}, SHAPE),
        ({"kernel_size": 5}, (2, 4, 3, 5, 16)),
        ({"kernel_size": 3, "dilation_rate": 2}, SHAPE),
        ({"use_bias": True}, SHAPE),
    ],
    ids=str,
)
def test_spatial_attention_equals_numpy(options, shape):
    layer = built(SpatialAttention(**options, dtype="float64"), shape)
    assert_gate_equals(layer, spatial_map, shape)


@pytest.mark.every_backend
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "options",
    [
        {"order": "spatial_first"},
        {"order": "parallel"},
        *(VARIANTS[x] for x in ("paper", "kobiso_tensorflow")),
        *(VARIANTS[x] for x in ("linear_perceptron", "two_sigmoids")),
    ],
    ids=str,
)
def test_cbam_equals_numpy(options):
    layer = built(CBAM(**options, dtype="float64"))
    x = random_input(dtype="float64")
    maps = cbam_maps(layer, x)
    for found, expected in zip(layer.attention_maps(x), maps, strict=True):
        assert_close(found, expected, rtol=0, atol=1e-12)
    expected = x * maps[0] * maps[1]
    assert_close(output(layer, x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "channels, hidden", [(64, 4), (24, 2), (23, 1), (40, 3), (1, 1)]
)
def test_hidden_width_is_rounded_half_up(channels, hidden):
    layer = ChannelAttention(16)
    layer.build((None, None, None, channels))
    assert layer.squeeze_kernel.shape == (channels, hidden)


@pytest.mark.every_backend
def test_lp_gradient_is_finite_on_empty_channels():
    layer = built(ChannelAttention(pool_types="lp"))
    x = random_input()
    # A ReLU leaves such channels. The others give all pooled values a gradient.
    x[..., :8] = 0
    found = gradients(layer, x, random_input(seed=3))
    assert all(np.isfinite(gradient).all() for gradient in found)
    assert all(np.abs(gradient).max() > 0 for gradient in found)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "training, trainable", [(False, True), (True, True), (True, False)]
)
def test_batch_norm_uses_averages_or_uses_and_tracks_the_batch(
    training, trainable
):
    layer, x = built(SpatialAttention(batch_norm=True)), random_input()
    layer.trainable = trainable
    norm, logits = layer.batch_norm, logits_of(layer, x)
    assert norm.epsilon == 1e-5
    averages = norm.moving_mean, norm.moving_variance
    before = [values(average) for average in averages]
    batch = [logits.mean(), logits.var()]
    learns = training and trainable
    used = batch if learns else before
    normalized = batch_norm(
        logits, values(norm.gamma), values(norm.beta), *used
    )
    found, tolerance = layer(x, training=training), 1e-4 if learns else 1e-5
    assert_close(found, x * sigmoid(normalized), tolerance)
    for average, old, new in zip(averages, before, batch, strict=True):
        expected = 0.99 * old + 0.01 * new if learns else old
        assert_close(values(average), expected, rtol=1e-4)


def dense(x, pair):
    kernel, bias = (values(variable) for variable in pair)
    return x @ kernel + bias


def normalized(x, norm):
    return batch_norm(x, *(values(variable) for variable in norm.variables))


def assert_output_equals(layer, x, factor):
    assert_close(output(layer, x), x * factor, 1e-5)


@pytest.mark.every_backend
def test_bam_of_fewer_channels_than_its_ratio_adds_logits():
    # One hidden unit, and one channel of positions.
    layer, x = built(BAM(), (2, 9, 5)), random_input((2, 9, 5))
    hidden = normalized(
        dense(x.mean(axis=1, keepdims=True), layer.squeeze), layer.channel_norm
    )
    channel = dense(relu(hidden), layer.excite)
    y = relu(normalized(dense(x, layer.reduce), layer.spatial_norms[0]))
    for (kernel, bias), norm in zip(
        layer.dilated, layer.spatial_norms[1:], strict=True
    ):
        y = convolve(y, values(kernel), dilation=4) + values(bias)
        y = relu(normalized(y, norm))
    factor = 1 + sigmoid(channel + dense(y, layer.spatial))
    assert_output_equals(layer, x, factor)


@pytest.mark.every_backend
def test_coordinate_attention_of_three_axes():
    shape = (2, 4, 3, 5, 16)
    layer, x = built(CoordinateAttention(), shape), random_input(shape)
    factor = 1
    for axis, excite in zip((1, 2, 3), layer.excite, strict=True):
        others = tuple({1, 2, 3} - {axis})
        hidden = dense(x.mean(axis=others, keepdims=True), layer.squeeze)
        hidden = normalized(hidden, layer.batch_norm)
        hidden = hidden * np.clip(hidden + 3, 0, 6) / 6
        factor = factor * sigmoid(dense(hidden, excite))
    assert_output_equals(layer, x, factor)


@pytest.mark.every_backend
def test_scse_may_add():
    layer, x = built(SCSE(3, combine="add")), random_input()
    means = x.mean(axis=(1, 2), keepdims=True)
    channel = sigmoid(dense(relu(dense(means, layer.squeeze)), layer.excite))
    spatial = sigmoid(dense(x, layer.spatial))
    assert layer.squeeze[0].shape == (16, 5)
    assert_output_equals(layer, x, channel + spatial)


@pytest.mark.parametrize(
    "channels, size", [(1, 1), (8, 3), (64, 3), (96, 3), (256, 5), (2048, 7)]
)
def test_the_kernel_of_eca_grows_with_the_channels(channels, size):
    layer = EfficientChannelAttention()
    layer.build((None, None, None, channels))
    assert layer.kernel.shape == (size, 1, 1)
    assert layer.kernel_size is None


def test_eca_of_vectors_goes_over_their_values():
    x = random_input((6, 16))
    layer = built(EfficientChannelAttention(5), x.shape)
    logits = convolve(x[..., None].astype("float64"), values(layer.kernel))
    assert_output_equals(layer, x, sigmoid(logits[..., 0]))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_large_values_give_no_overflow(layer_class):
    x = random_input()
    x[:, 3, 2, 1] = 1e30
    for large in (x, 1e20 * random_input()):
        found = output(built(layer_class()), large)
        assert np.isfinite(found).all()


def test_large_values_stand_out_and_are_pooled_as_small_ones():
    x, factor = random_input(), 2.0**100
    expected = output(SimAM(1e-9), x)
    assert_close(output(SimAM(1e-9), x * factor) / factor, expected, 1e-6)
    pooled = (
        to_numpy(pool(y, "lp", (1, 2), "float32")) for y in (x, factor * x)
    )
    np.testing.assert_array_equal(factor * next(pooled), next(pooled))
    layer = built(GlobalContext(2, fusion="multiply"))
    layer.weighting[0].assign(0 * layer.weighting[0])
    layer.squeeze[1].assign(0 * layer.squeeze[1])
    assert_close(output(layer, x * factor) / factor, layer(x), rtol=1e-3)


@pytest.mark.every_backend
def test_the_map_of_a_context_that_is_added_is_relative_to_its_mean():
    layer, x = built(GlobalContext(2)), random_input()
    weights = np.exp(dense(x, layer.weighting))
    weights /= weights.mean(axis=(1, 2), keepdims=True)
    assert_close(layer.attention_map(x), weights, rtol=1e-4)


@pytest.mark.every_backend
def test_one_position_stands_out_from_nothing():
    x = random_input((2, 1, 1, 4))
    assert_output_equals(SimAM(), x, sigmoid(0.5))


def test_a_single_unit_is_not_normalized():
    layer = GlobalContext()
    layer.build((None, 9, 16))
    assert layer.squeeze[0].shape == (16, 2)


def triplet_map(layer, x):
    """Returns the mean of the gates, each normalized by its batch."""
    gates = []
    for plane, order in PLANES.items():
        pools = {
            "kernel": values(layer.kernels[plane]),
            "pools": ("max", "avg"),
        }
        logits = spatial_logits(x.transpose(order), **pools)
        moments = logits.mean(), logits.var()
        parts = map(values, layer.batch_norms[plane].trainable_variables)
        gates.append(sigmoid(batch_norm(logits, *parts, *moments)))
        gates[-1] = gates[-1].transpose(order)
    return sum(gates) / 3


def slopes(layer, map_of):
    """Returns two slopes of a layer that follows a batch normalization.

    One is that of the gradient, one that of central differences in NumPy:
    test_fresh_process.py compares them without optimizations of XLA.
    """
    norm = keras.layers.BatchNormalization(center=False, scale=False)
    inputs = keras.Input(SHAPE[1:])
    # A layer with a mask is computed by the formula.
    mask = keras.ops.ones_like(inputs[..., 0], "bool")
    network = randomize(keras.Model(inputs, layer(norm(inputs), mask=mask)))
    x, weighting, step = (random_input(SHAPE, seed=seed) for seed in range(3))
    _, gradients = call_and_gradients(network, x, weighting, True, MODES[-1])

    def total(x):
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        features = batch_norm(x, 1, 0, mean, variance, norm.epsilon)
        return (features * map_of(layer, features) * weighting).sum()

    moved = [
        total(x + sign * 1e-6 * step.astype("float64")) for sign in (1, -1)
    ]
    return (gradients[0] * step).sum(), (moved[0] - moved[1]) / 2e-6


# The formula of the maps of each layer with a maximum.
MAPS = {
    ChannelAttention: channel_map,
    SpatialAttention: spatial_map,
    CBAM: lambda layer, x: math.prod(cbam_maps(layer, x)),
    TripletAttention: triplet_map,
}
