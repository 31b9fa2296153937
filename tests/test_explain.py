"""Class probabilities, and the feature map explained."""

import functools

import keras
import numpy as np
import pytest
from explain_checks import (
    dense_head,
    images,
    linear_network,
    model_ending_in,
)
from insertion_checks import conv, network, vary
from keras import layers
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
    x[2] *= 1000
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
