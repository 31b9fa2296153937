"""Scores that a function computes from the output are explained."""

import keras
import numpy as np
import pytest
from explain_checks import (
    Offset,
    images,
    linear_network,
    measured_gradient,
    normalized,
)
from insertion_checks import conv, vary
from keras import layers, ops
from layer_checks import to_numpy

from cbam_keras import CBAM, explain

WEIGHTS = np.array([[1.0, -2.0, 0.5], [0.5, 1.0, -1.0]], "float32")
MASK = np.zeros((6, 4), "float32")
MASK[1:4, 2:] = 1.0


def _of_mask(outputs):
    return ops.sum(ops.multiply(outputs[..., 1], MASK), axis=(1, 2))


def _segmenter(activation=None, separate=False):
    """Logits of three classes at each position, linear in the image."""
    inputs = keras.Input((6, 4, 2))
    x = layers.Activation("linear", name="features")(inputs)
    x = layers.Conv2D(
        3, 1, use_bias=False, activation=None if separate else activation
    )(x)
    if separate:
        x = layers.Activation(activation)(x)
    model = keras.Model(inputs, x)
    model.set_weights([WEIGHTS[None, None]])
    return model


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "model",
    [_segmenter(), _segmenter("softmax"), _segmenter("softmax", True)],
    ids=["logits", "softmax", "softmax layer"],
)
def test_a_class_in_a_mask_is_its_closed_form(model):
    x = images(3, 6, 4, 2)
    evidence = x @ WEIGHTS[:, 1]
    np.testing.assert_allclose(
        explain.grad_cam(model, x, _of_mask), normalized(evidence), atol=1e-6
    )
    np.testing.assert_allclose(
        explain.grad_cam(model, x, _of_mask, method="hires_cam"),
        normalized(evidence * MASK),
        atol=1e-6,
    )


@pytest.mark.every_backend
def test_a_function_may_return_what_an_index_means():
    model, x = linear_network(WEIGHTS), images(5, 6, 4, 2)
    for score, index in (
        (lambda y: y[:, 2], 2),
        (lambda y: ops.max(y, axis=-1), None),
    ):
        np.testing.assert_allclose(
            explain.grad_cam(model, x, score, batch_size=2),
            explain.grad_cam(model, x, index),
            atol=1e-6,
        )


@pytest.mark.every_backend
def test_what_lowers_a_regression_is_explained_by_its_negative():
    model, x = linear_network(WEIGHTS[:, :1]), images(2, 6, 4, 2)
    np.testing.assert_allclose(
        explain.grad_cam(model, x, lambda y: -y[:, 0]),
        normalized(-x @ WEIGHTS[:, 0]),
        atol=1e-6,
    )


@pytest.mark.every_backend
@pytest.mark.usefixtures("float64")
def test_a_unet_is_explained_at_its_bottleneck_as_finite_differences_do():
    keras.config.set_dtype_policy("float64")
    inputs = keras.Input((6, 4, 2))
    skip = conv(3, "encoder", activation="tanh")(inputs)
    x = conv(4, "middle", activation="tanh")(layers.AveragePooling2D(2)(skip))
    x = Offset(name="offset")(x)
    x = layers.UpSampling2D()(x)
    x = layers.Concatenate()([x, CBAM(2, 3)(skip)])
    logits = layers.Conv2D(3, 1)(conv(4, "decoder", activation="tanh")(x))
    model = keras.Model(inputs, layers.Softmax()(logits))
    vary(model)
    offset = model.get_layer("offset")
    offset.offset.assign(np.zeros(offset.offset.shape))
    image = images(1, 6, 4, 2).astype("float64")
    score = keras.Model(inputs, _of_mask(logits)[:, None])
    gradient = measured_gradient(score, image, 0)
    values = to_numpy(keras.Model(inputs, offset.output)(image))
    raw = np.maximum((values * gradient.mean((1, 2))).sum(axis=-1), 0)[0]
    heat = explain.grad_cam(model, image, _of_mask, "offset")[0]
    # Each of the 3 x 2 values is twice as large in height and in width.
    expected = keras.ops.image.resize(
        raw[..., None], (6, 4), interpolation="bilinear"
    )
    expected = normalized(to_numpy(expected)[None, ..., 0])[0]
    # Some backends resize in float32, of which the differences are taken.
    np.testing.assert_allclose(heat, expected, atol=1e-3)


MASKS = np.ones((3, 6, 4), "float32")


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y,
        # Of all images, where there is one in the batch.
        lambda y: ops.sum(ops.multiply(y[..., 1], MASKS), axis=(1, 2)),
    ],
    ids=["outputs", "masks of all images"],
)
def test_functions_must_return_a_score_per_image(function):
    with pytest.raises(ValueError, match="of shape .B,.*Received: a function"):
        explain.grad_cam(
            _segmenter(), images(3, 6, 4, 2), function, batch_size=1
        )


def test_without_a_function_segmentation_is_refused():
    with pytest.raises(ValueError, match="a function of the output"):
        explain.grad_cam(_segmenter(), images(2, 6, 4, 2))
