"""Class probabilities, the feature map explained, and its axes."""

import functools
import warnings

import keras
import numpy as np
import pytest
from explain_checks import (
    POOLS,
    WEIGHTS,
    dense_head,
    images,
    linear_network,
    model_ending_in,
    normalized,
)
from insertion_checks import conv, head, network, vary
from keras import layers, ops
from layer_checks import to_numpy

from cbam_keras import explain

LOGITS = dense_head()


def _mean_of_two(x):
    ends = [layers.Dense(5, activation="softmax") for _ in range(2)]
    return layers.Average()([end(x) for end in ends])


@pytest.mark.parametrize(
    "end",
    [
        LOGITS,
        dense_head(activation="softmax"),
        dense_head(activation="sigmoid"),
        _mean_of_two,
    ],
)
def test_probabilities_are_those_of_the_model(end):
    model = model_ending_in(end)
    x = images(5, 6, 4, 2)
    expected = to_numpy(model(x))
    if end is LOGITS:
        powers = np.exp(expected)
        expected = powers / powers.sum(axis=1, keepdims=True)
    found = explain.class_probabilities(model, x, batch_size=2)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "linear"])
def test_a_single_output_is_the_probability_of_class_1(activation):
    logit = linear_network([[1.0], [2.0]])
    x = images(3, 6, 4, 2)
    x[2] = 1000
    expected = 1 / (1 + np.exp(-to_numpy(logit(x)).astype("float64")))
    model = keras.Sequential([logit, layers.Activation(activation)])
    if activation == "linear":
        model.compile(loss="binary_crossentropy")
    found = explain.class_probabilities(model, x)
    np.testing.assert_allclose(
        found, np.hstack([1 - expected, expected]), atol=1e-6
    )


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.BinaryCrossentropy(from_logits=True),
        keras.losses.BinaryFocalCrossentropy(from_logits=True),
        functools.partial(keras.losses.binary_crossentropy, from_logits=True),
    ],
)
def test_several_labels_have_a_sigmoid_each(loss):
    model, x = linear_network(np.eye(2)), 9 * images(5, 6, 4, 2)
    model.compile(loss=loss)
    expected = 1 / (1 + np.exp(-to_numpy(model(x))))
    found = explain.class_probabilities(model, x)
    np.testing.assert_allclose(found, expected, atol=1e-6)


class OwnSigmoid(layers.Layer):
    def call(self, inputs):
        return keras.ops.sigmoid(inputs)


def test_a_sigmoid_of_ones_own_layer_is_not_taken_twice():
    x = images(5, 6, 4, 2)
    model = keras.Sequential([linear_network(np.eye(2)), OwnSigmoid()])
    model.compile(loss="binary_crossentropy")
    found = explain.class_probabilities(model, x)
    np.testing.assert_allclose(found, to_numpy(model(x)), atol=1e-6)


def _gate_beside(x):
    """The gate is computed last, but for what it weighs."""
    x = layers.Activation("relu", name="last")(x)
    gate = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    gate = layers.Flatten()(gate)
    flat = layers.Reshape((64, 8))(x)
    return layers.Reshape((1, 1, 8))(layers.Dot(1)([flat, gate]))


def _one_pixel(x):
    return layers.Conv2D(4, 8)(conv(8, "last")(x))


@pytest.mark.parametrize("body", [_gate_beside, _one_pixel])
def test_the_last_feature_map_is_explained(body):
    model = vary(network(lambda x: body(conv(8, "first")(x))))
    x = images(2, 8, 8, 3)
    heat = explain.grad_cam(model, x, 1)
    np.testing.assert_array_equal(heat, explain.grad_cam(model, x, 1, "last"))
    other = explain.grad_cam(model, x, 1, "first")
    assert np.abs(heat - other).max() > 0.01


@pytest.mark.parametrize("scale, offset", [(1 / 255, 0), (1 / 127.5, -1)])
# NumPy warns when Keras converts tensors of PyTorch.
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_the_range_of_models_that_scale_is_checked(scale, offset):
    inputs = keras.Input((8, 8, 3))
    x = keras.Sequential([layers.RandomFlip("horizontal")])(inputs)
    within = keras.Sequential([layers.Rescaling(scale, offset)])
    model = keras.Model(inputs, head(conv(4, "conv")(within(x))))
    function = explain.class_probabilities
    bytes_ = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), "uint8")
    function(model, bytes_)
    function(model, bytes_.astype("float32"))
    for wrong in (bytes_ - 127.0, 255.0 * bytes_):
        with pytest.raises(ValueError, match=r"\[0, 255\].*scales itself"):
            function(model, wrong)
    with pytest.warns(UserWarning, match="rescale them beforehand"):
        function(model, bytes_ / 255)
    # What the model computes first may give that range.
    model = keras.Model(inputs, head(conv(4, "conv")(within(255 * x))))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        function(model, bytes_ / 255)


# Axes that a model permutes, adds or flattens.


MOVES = {
    "transpose": lambda x: ops.transpose(x, (0, 2, 3, 1)),
    "moveaxis": lambda x: ops.moveaxis(x, 1, -1),
    "swapaxes": lambda x: ops.swapaxes(ops.swapaxes(x, 1, 2), 2, 3),
    "sides swapped": layers.Permute((3, 2, 1)),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_channels_moved_within_the_model_leave_the_positions(move):
    inputs = keras.Input((2, 6, 4))
    body = keras.Sequential(
        [
            layers.Dense(3, use_bias=False, name="features"),
            layers.GlobalAveragePooling2D(data_format="channels_last"),
        ]
    )
    model = keras.Model(inputs, body(move(inputs)))
    model.set_weights([WEIGHTS])
    x = images(3, 2, 6, 4)
    heat = explain.grad_cam(model, x, 1)
    expected = normalized(np.einsum("bchw,c->bhw", x, WEIGHTS[:, 1]))
    np.testing.assert_allclose(heat, expected, atol=1e-5)


def _tokens(x):
    """The positions in one axis, and in two again."""
    x = layers.Dense(3)(layers.Reshape((24, 3))(conv(3, "conv")(x)))
    return layers.Reshape((6, 4, 3))(x)


def _frames(x):
    frame = keras.Sequential([keras.Input(x.shape[2:]), conv(3, "conv")])
    x = layers.TimeDistributed(frame, name="frames")(x)
    return layers.TimeDistributed(conv(3, "conv"))(x)


BODIES = {
    "reshaped": ((6, 4), lambda x: conv(3, "f")(layers.Reshape((6, 4, 1))(x))),
    "indexed": ((6, 4), lambda x: conv(3, "f")(x[..., None])),
    "tokens": ((6, 4, 2), _tokens),
    "frames": ((5, 6, 4, 2), _frames),
}


def check_heat(inputs, features, x):
    """Checks the heat of a linear classifier of pooled features."""
    head = layers.Dense(2, use_bias=False)
    outputs = head(POOLS[len(features.shape) - 2]()(features))
    heat = explain.grad_cam(vary(keras.Model(inputs, outputs)), x, 1)
    values = to_numpy(keras.Model(inputs, features)(x))
    expected = normalized(values @ to_numpy(head.kernel)[:, 1])
    np.testing.assert_allclose(heat, expected, atol=1e-5)


@pytest.mark.parametrize("shape, body", BODIES.values(), ids=BODIES)
def test_features_keep_the_positions_of_the_input(shape, body):
    inputs = keras.Input(shape)
    check_heat(inputs, body(inputs), images(2, *shape))
