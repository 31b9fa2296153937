"""Grad-CAM follows axes that a model permutes, adds or flattens."""

import keras
import numpy as np
import pytest
from explain_checks import POOLS, WEIGHTS, images, normalized
from insertion_checks import conv, vary
from keras import layers, ops
from layer_checks import to_numpy

from cbam_keras import explain

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


def test_masks_reach_what_follows_a_wrapped_model():
    inputs = keras.Input((7, 4))
    each = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    x = layers.TimeDistributed(each)(layers.Masking()(inputs))
    features = layers.GRU(3, return_sequences=True)(x)
    sequences = images(2, 7, 4)
    sequences[:, 4:] = 0
    check_heat(inputs, features, sequences)
