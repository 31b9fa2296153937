"""Right attention is not blamed, and what is wrong has not passed: `check`."""

from functools import partial

import keras
import numpy as np
import pytest
from insertion_checks import vary
from keras import layers, ops
from pasted import (
    CHANNELS,
    Both,
    Channel,
    Weights,
    both,
    channel,
    network,
    pooled,
    spatial,
    spatial_map,
)

from cbam_keras import CBAM
from cbam_keras.insertion import check
from cbam_keras.recognition.gates import gates_of

pytestmark = pytest.mark.filterwarnings("ignore:`build\\(\\)` was called")
SHAPE = (8, 9, CHANNELS)
exhaustive = pytest.mark.exhaustive


def only(report):
    (row,) = report.rows
    return row


def simam(x, regularization=1e-4):
    y = ops.square(x - ops.mean(x, axis=(1, 2), keepdims=True))
    count = x.shape[1] * x.shape[2] - 1
    variance = ops.sum(y, axis=(1, 2), keepdims=True) / count
    return x * ops.sigmoid(y / (4 * (variance + regularization)) + 0.5)


def closed_bracket(x):
    """SimAM whose 0.5 is added to the denominator."""
    y = ops.square(x - ops.mean(x, axis=(1, 2), keepdims=True))
    variance = ops.mean(y, axis=(1, 2), keepdims=True)
    return x * ops.sigmoid(y / (4 * variance + 0.5))


def eca_of_relu(x):
    y = layers.Reshape((CHANNELS, 1))(layers.GlobalAveragePooling2D()(x))
    y = layers.Conv1D(1, 1, activation="relu")(y)
    y = layers.Conv1D(1, 3, padding="same", activation="sigmoid")(y)
    return x * layers.Reshape((1, 1, CHANNELS))(y)


def eca_of_bias(x):
    y = layers.Reshape((CHANNELS, 1))(layers.GlobalAveragePooling2D()(x))
    y = layers.Conv1D(1, 3, padding="same", activation="sigmoid")(y)
    return x * layers.Reshape((1, 1, CHANNELS))(y)


def normalized(gate):
    """Returns a gate whose product is normalized, and activated."""

    def more(x):
        return layers.ReLU()(layers.BatchNormalization()(gate(x)))

    return more


class NormalizedGate(Channel):
    def build(self, shape):
        super().build(shape)
        self.norm = layers.BatchNormalization()

    def call(self, x):
        return self.norm(super().call(x))


def both_hard(x):
    x = channel(x, gate="hard_sigmoid")
    pools = [f(x, axis=-1, keepdims=True) for f in (ops.mean, ops.max)]
    conv = layers.Conv2D(1, 7, padding="same", use_bias=False)
    return x * ops.hard_sigmoid(conv(ops.concatenate(pools, axis=-1)))


class ZeroScaled(layers.Layer):
    """Attention of channels to channels, whose scale begins with 0."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(1,), initializer="zeros")

    def call(self, x):
        y = ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))
        weights = ops.softmax(ops.transpose(y, (0, 2, 1)) @ y)
        return x + self.gamma * ops.reshape(y @ weights, (-1, *x.shape[1:]))


def steps_of_mean(x):
    """A map of a sequence, of two pools that are one."""
    pools = [ops.mean(x, axis=-1, keepdims=True) for _ in range(2)]
    conv = layers.Conv1D(1, 7, padding="same", activation="sigmoid")
    return conv(ops.concatenate(pools, axis=-1))


def triplet(x, epsilon=1e-5, order=(0, 1, 2)):
    several = []
    planes = [(0, 1, 2, 3), (0, 3, 2, 1), (0, 1, 3, 2)]
    for plane in order:
        y = ops.transpose(x, planes[plane])
        pools = [f(y, axis=-1, keepdims=True) for f in (ops.max, ops.mean)]
        conv = layers.Conv2D(1, 7, padding="same", use_bias=False)
        norm = layers.BatchNormalization(epsilon=epsilon)
        y = y * ops.sigmoid(norm(conv(ops.concatenate(pools, axis=-1))))
        several.append(ops.transpose(y, planes[plane]))
    return (several[0] + several[1] + several[2]) / 3


def context(x, epsilon=1e-5):
    """Global context with layer normalization of Keras."""
    y = layers.Reshape((-1, CHANNELS))(x)
    weights = ops.softmax(layers.Dense(1)(y), axis=1)
    y = ops.sum(weights * y, axis=1, keepdims=True)
    y = layers.Dense(3)(y)
    y = ops.relu(layers.LayerNormalization(epsilon=epsilon)(y))
    return x + layers.Reshape((1, 1, CHANNELS))(layers.Dense(CHANNELS)(y))


def windows_of_15(x):
    y = layers.AveragePooling2D(15, 1, "same")(x)
    y = layers.Dense(3, activation="relu")(y)
    return x * layers.Dense(x.shape[-1], activation="sigmoid")(y)


def other_slopes(x):
    """Scales negative features alone."""
    negative = ops.minimum(x, 0.0)
    y = layers.Dense(3, activation="relu")(pooled(negative))
    return ops.relu(x) + negative * layers.Dense(CHANNELS, "sigmoid")(y)


def over_steps(x):
    return x * layers.Softmax(axis=1)(layers.Dense(1)(x))


UNLIKE = "matches no cbam_keras layer: one factor per"
EPSILON = "first difference: epsilon 0.001 of"


@pytest.mark.parametrize(
    "gate, shape, words",
    [
        (partial(simam, regularization=1e-3), SHAPE, "SimAM(regularizat"),
        pytest.param(
            partial(simam, regularization=1e-7),
            SHAPE,
            "SimAM(regularizat",
            marks=exhaustive,
        ),
        (simam, SHAPE, "SimAM()"),
        (closed_bracket, SHAPE, f"{UNLIKE} row, column and channel"),
        (eca_of_relu, SHAPE, "first difference: a convolution of one weig"),
        (eca_of_bias, SHAPE, "first difference: biases"),
        (normalized(eca_of_bias), SHAPE, "first difference: biases"),
        (normalized(spatial), SHAPE, "SpatialAttention()"),
        (NormalizedGate(), SHAPE, "ChannelAttention(reduction_ratio=4)"),
        (both_hard, SHAPE, "CBAM(reduction_ratio=4, gate_activation='hard_s"),
        (ZeroScaled(), SHAPE, "does not multiply features by factors"),
        (steps_of_mean, (20, CHANNELS), f"{UNLIKE} step"),
        (lambda x: (x + 3 * spatial(x)) / 4, SHAPE, UNLIKE),
        (other_slopes, SHAPE, f"{UNLIKE} row, column and channel"),
        (triplet, SHAPE, "TripletAttention()"),
        pytest.param(
            partial(triplet, order=(2, 0, 1)),
            SHAPE,
            "TripletAttention()",
            marks=exhaustive,
        ),
        pytest.param(
            partial(triplet, epsilon=1e-3), SHAPE, EPSILON, marks=exhaustive
        ),
        (context, SHAPE, "GlobalContext(reduction_ratio=4)"),
        pytest.param(
            partial(context, epsilon=1e-3), SHAPE, EPSILON, marks=exhaustive
        ),
        (
            windows_of_15,
            (None, None, CHANNELS),
            "first difference: a single image",
        ),
        (over_steps, (20, CHANNELS), "features shrink to 1/20"),
        (Weights(), (None, *SHAPE), "SqueezeExcite(reduction_ratio=4, use_b"),
    ],
)
def test_right_attention_is_not_blamed(gate, shape, words):
    report = check(gate, shape)
    assert words in only(report).verdict and report.passed


def test_weights_of_normalization_get_the_same_random_numbers_each_time():
    several = []
    # All are kept, so that their weights have different ids.
    gates = [gates_of(triplet, SHAPE)[0] for _ in range(4)]
    for gate in gates:
        *_, (name, values, _, _) = gate.probes.others
        assert name == "other averages"
        several.append(
            [values[id(x)] for x in gate.cut.variables if id(x) in values]
        )
    assert len(several[0]) == 12
    for averages in several[1:]:
        np.testing.assert_array_equal(averages, several[0])


def test_context_with_another_epsilon_is_found_in_a_model():
    row = only(check(network(partial(context, epsilon=1e-3))))
    assert EPSILON in row.verdict and not row.equals


class WithFactors(Weights):
    def call(self, x):
        return super().call(x), ops.mean(x)


def test_a_layer_of_two_outputs_is_its_first():
    row = only(check(WithFactors(), SHAPE))
    assert row.equals == (
        "cbam_keras.SqueezeExcite(reduction_ratio=4, use_bias=False)"
    )


def test_features_without_positions_are_not_looked_into():
    report = check(layers.Dense(12, activation="sigmoid"), (12,))
    assert only(report).verdict.startswith("not analyzed: ")
    assert not report.passed and report.verdict.endswith("1 not analyzed.")


class Unbuilt(layers.Layer):
    """Its inner layers are built by its call, which its shape avoids."""

    def build(self, shape):
        self.fc1 = layers.Dense(3, activation="relu")
        self.fc2 = layers.Dense(shape[-1], activation="sigmoid")

    def call(self, x):
        return x * self.fc2(self.fc1(pooled(x)))

    def compute_output_shape(self, shape):
        return shape


def test_layers_that_a_call_builds_are_tracked():
    assert check(lambda x: spatial(Unbuilt()(x)), SHAPE).passed
    assert check(Unbuilt(), SHAPE).passed


def test_a_class_in_place_of_a_layer_is_an_error():
    with pytest.raises(TypeError, match=r"Write check\(Weights\(\.\.\.\)"):
        check(Weights, SHAPE)


def times(function):
    """Returns features times a function of their pool."""

    def gate(x):
        hidden = layers.Dense(3, activation="relu")(pooled(x))
        return x * function(layers.Dense(CHANNELS)(hidden))

    return gate


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda y: y, "no sigmoid: factors from -"),
        (ops.relu, "no sigmoid: SqueezeExcite"),
        pytest.param(
            ops.softplus, "no sigmoid: factors from 0.00", marks=exhaustive
        ),
        (ops.tanh, "no sigmoid: SqueezeExcite"),
        (lambda y: ops.sigmoid(y + y), "adds one pool to itself"),
    ],
)
def test_factors_that_no_gate_has_fail_what_is_called_attention(
    function, words
):
    row = only(check(times(function), SHAPE))
    assert row.verdict.startswith(words) and row.state == "faulty"
    report = check(network(times(function)))
    is_doubled = words.startswith("adds")
    assert not report.passed and only(report).passed is not is_doubled
    if not is_doubled:
        assert only(report).verdict.startswith("scales features, but is not")
        assert report.verdict == "No attention in this model."


def test_other_products_decide_nothing_beside_a_gate():
    report = check(network(lambda x: times(ops.tanh)(channel(x))))
    assert report.passed and report.verdict.startswith(
        "1 attention module: 1 passed"
    )


def squared(x):
    hidden = layers.Dense(3, activation="relu")(pooled(x))
    factors = layers.Dense(CHANNELS, activation="sigmoid")(hidden)
    return (x * factors) * factors


def before_relu(x):
    """Two gates in parallel, one with a ReLU before its sigmoid."""
    y = layers.Conv2D(1, 7, padding="same", activation="relu")
    pools = [f(x, axis=-1, keepdims=True) for f in (ops.mean, ops.max)]
    factors = ops.sigmoid(y(ops.concatenate(pools, axis=-1)))
    # Of a single pool, fewer layers of ours have to be compared.
    return layers.multiply([channel(x, pools=("avg",)), factors])


def elementwise(x):
    """Dense layers at each position, and a spatial gate behind them."""
    y = layers.Dense(3, activation="relu")(x)
    return spatial(x * layers.Dense(CHANNELS, activation="sigmoid")(y))


@pytest.mark.parametrize(
    "gate", [lambda x: x + spatial(x), squared, elementwise]
)
def test_what_is_more_than_a_gate_equals_no_layer(gate):
    assert not only(check(gate, SHAPE)).equals


def test_the_half_that_is_wrong_has_a_row_in_parallel():
    report = check(network(before_relu))
    assert [row.state for row in report.rows] == ["passed", "faulty"]
    assert report.rows[1].verdict.startswith(
        "cannot suppress features: factors stay between 0.50"
    )


class Masked(Weights):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x, mask=None):
        return super().call(x)


def test_masked_features_are_looked_into():
    inputs = keras.Input((20, 6))
    x = layers.Dense(CHANNELS)(layers.Masking()(inputs))
    outputs = layers.LSTM(3)(Masked()(x))
    row = only(check(vary(keras.Model(inputs, outputs))))
    assert row.equals and "mask" in row.note and not row.adopted


class AggregateRows(layers.Layer):
    def call(self, x):
        return ops.flip(x, axis=1)


def test_words_within_words_are_no_attention():
    assert not check(network(lambda x: AggregateRows()(x))).rows


@pytest.mark.parametrize(
    "gate, shape, words",
    [
        (both, (1, 1, CHANNELS), "the features have one position"),
        (both, (1, CHANNELS), "the features have one position"),
        pytest.param(
            *(Both(), (1, 1, CHANNELS), "the features have one position"),
            marks=exhaustive,
        ),
        (CBAM(4), (1, 1, CHANNELS), "the features have one position"),
        (partial(both, hidden=1), (8, 9, 1), "the features have one channel"),
    ],
)
def test_a_place_without_positions_or_channels_is_wrong(gate, shape, words):
    report = check(gate, shape)
    assert only(report).verdict.startswith(words)
    assert only(report).state == "faulty"


def test_a_channel_gate_may_see_one_position():
    assert check(channel, (1, 1, CHANNELS)).passed


def test_a_map_of_one_channel_may_be_an_activation():
    x = keras.Input((8, 9, 1))
    model = keras.Model(x, x * layers.Dense(1, activation="sigmoid")(x))
    assert not check(model).rows
    model = keras.Model(x, layers.multiply([x, spatial_map(channel(x))]))
    assert {row.state for row in check(model).rows} <= {"faulty"}


def test_a_gate_that_was_never_trained_is_noted():
    inputs = keras.Input((8, 9, 3))
    backbone = layers.Dense(CHANNELS, name="backbone")
    model = keras.Model(inputs, channel(backbone(inputs)))
    assert not only(check(model)).note
    backbone.bias.assign(np.ones(CHANNELS))
    report = check(model)
    assert only(report).note.startswith("still has initial weights")
    assert report.passed


def test_images_in_another_range_are_noted():
    inputs = keras.Input((8, 9, 3))
    backbone = keras.Sequential([layers.Rescaling(1 / 255), layers.Dense(12)])
    model = keras.Model(inputs, spatial(backbone(inputs)))
    images = np.random.default_rng(0).random((2, 8, 9, 3), "float32")
    assert not check(model, 255 * images).note
    report = check(model, images)
    assert report.passed and "images from 0 to 1; this network" in report.note
    assert report.note.endswith("divides by 255 itself")
    wide = check(model, 65535 * images)
    assert wide.note.endswith("this network divides by 255 itself")
    model = keras.Model(inputs, spatial(backbone(inputs / 255)))
    assert check(model, 255 * images).note == report.note


def test_networks_of_imagenet_expect_their_range_once_trained():
    inputs = keras.Input((8, 9, 3))
    network = keras.Sequential([layers.Dense(12), layers.BatchNormalization()])
    network.name = "mobilenetv2"
    model = keras.Model(inputs, spatial(network(inputs / 255)))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3))
    assert not check(model, images).note
    network.layers[-1].moving_mean.assign(np.ones(12))
    words = "images from 0 to 1; mobilenetv2 expects -1 to 1"
    assert check(model, images).note == words
    model = keras.Model(inputs, spatial(network(inputs / 127.5 - 1)))
    assert not check(model, images).note
