"""Class probabilities, whatever the model ends in."""

import keras
import numpy as np
import pytest
from explain_checks import (
    dense_head,
    images,
    linear_network,
    model_ending_in,
)
from insertion_checks import conv, vary
from keras import layers
from layer_checks import to_numpy

from cbam_keras import explain

pytestmark = pytest.mark.every_backend


@pytest.mark.parametrize(
    "activation, transform",
    [
        ("softmax", None),
        ("sigmoid", None),
        (None, lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)),
    ],
)
def test_probabilities_are_those_of_the_model(activation, transform):
    model = model_ending_in(dense_head(activation=activation))
    x = images(5, 6, 4, 2)
    expected = to_numpy(model(x))
    if transform is not None:
        expected = transform(expected)
    found = explain.class_probabilities(model, x, batch_size=2)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_made_of_probabilities_is_taken_for_such():
    inputs = keras.Input((6, 4, 2))
    x = layers.GlobalAveragePooling2D()(conv(3, "conv")(inputs))
    both = [
        layers.Dense(5, activation="softmax", name=f"end{i}")(x) for i in (0, 1)
    ]
    model = vary(keras.Model(inputs, layers.Average()(both)))
    x = images(3, 6, 4, 2)
    np.testing.assert_allclose(
        explain.class_probabilities(model, x), to_numpy(model(x)), atol=1e-6
    )


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_the_probability_of_a_single_logit_is_its_sigmoid(scale):
    model = linear_network([[scale], [2 * scale]])
    x = images(3, 6, 4, 2)
    expected = 1 / (1 + np.exp(-to_numpy(model(x)).astype("float64")))
    found = explain.class_probabilities(model, x)
    np.testing.assert_allclose(found, expected, atol=1e-6)
