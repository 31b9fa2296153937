"""The feature map that is explained where no layer is named."""

import keras
import numpy as np
import pytest
from explain_checks import (
    images,
    tiny,
)
from insertion_checks import conv, network, vary
from keras import layers, ops

from cbam_keras import CBAM, SqueezeExcite, explain


def _pasted_cbam(x):
    """CBAM as it is pasted from blogs, without a layer of ours."""
    maps = ops.concatenate(
        [
            ops.mean(x, axis=-1, keepdims=True),
            ops.max(x, axis=-1, keepdims=True),
        ],
        axis=-1,
    )
    gate = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(maps)
    return layers.Multiply(name="last")([x, gate])


def _squeezed(x):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(gate)
    return layers.Multiply(name="last")([x, gate])


def _gate_beside(x):
    """The gate is computed last, but for what it weighs."""
    x = layers.Activation("relu", name="last")(x)
    gate = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    gate = layers.Flatten()(gate)
    flat = layers.Reshape((64, 8))(x)
    return layers.Reshape((1, 1, 8))(layers.Dot(1)([flat, gate]))


LAST = {
    "convolution": (conv(8, "last"), "last"),
    "pasted CBAM": (_pasted_cbam, "last"),
    "pasted SE": (_squeezed, "last"),
    "gate beside": (_gate_beside, "last"),
    "our CBAM": (lambda x: CBAM(2, 3, name="last")(x), "last"),
    "our SE": (lambda x: SqueezeExcite(2, name="last")(x), "last"),
    "dropout": (layers.Dropout(0.9, name="last"), "last"),
    "one pixel": (
        lambda x: layers.Conv2D(4, 8)(conv(8, "last")(x)),
        "last",
    ),
    "model within": (
        lambda x: keras.Sequential([conv(8, "last")], name="body")(x),
        "body/last",
    ),
}


@pytest.mark.parametrize("body, last", LAST.values(), ids=LAST)
def test_the_last_feature_map_is_looked_at(body, last):
    model = vary(network(lambda x: body(conv(8, "first")(x))))
    x = images(2, 8, 8, 3)
    heat = explain.grad_cam(model, x, 1)
    np.testing.assert_array_equal(heat, explain.grad_cam(model, x, 1, last))
    other = explain.grad_cam(model, x, 1, "first")
    if body is not LAST["dropout"][0] and body is not LAST["gate beside"][0]:
        assert np.abs(heat - other).max() > 0.01


def test_the_last_map_of_a_residual_network_is_found():
    model, x = tiny(), images(2, 8, 8, 3)
    np.testing.assert_array_equal(
        explain.grad_cam(model, x),
        explain.grad_cam(model, x, layer="stage2_block1_out"),
    )
