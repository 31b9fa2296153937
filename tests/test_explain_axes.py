"""Grad-CAM follows axes that a model permutes, adds or flattens."""

import keras
import numpy as np
import pytest
from explain_checks import images, normalized
from insertion_checks import conv, vary
from keras import layers, ops
from layer_checks import to_numpy

from cbam_keras import explain

WEIGHTS = np.array([[1.0, -2.0, 0.5], [0.5, 1.0, -1.0]], "float32")


MOVES = {
    "Permute": layers.Permute((2, 3, 1)),
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


def test_axes_permuted_between_layers_are_followed():
    """Of these the format would be that of the layer before."""
    inputs = keras.Input((6, 4, 2))
    x = layers.ReLU()(layers.Permute((3, 1, 2))(inputs))
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    outputs = layers.Dense(3, use_bias=False)(x)
    model = keras.Model(inputs, outputs)
    model.set_weights([WEIGHTS])
    x = np.abs(images(2, 6, 4, 2))
    np.testing.assert_allclose(
        explain.grad_cam(model, x, 0),
        normalized(x @ WEIGHTS[:, 0]),
        atol=1e-5,
    )


def _video(last):
    inputs = keras.Input((5, 6, 4, 2))
    x = layers.TimeDistributed(conv(3, "conv"), name="frames")(inputs)
    return keras.Model(inputs, last(x))


@pytest.mark.parametrize("kind", ["ConvLSTM2D", "TimeDistributed"])
def test_videos_have_a_map_per_frame(kind):
    layer = layers.ConvLSTM2D(
        3, 3, padding="same", return_sequences=True, name="last"
    )
    if kind == "TimeDistributed":
        layer = layers.TimeDistributed(conv(3, "inner"), name="last")
    head = layers.Dense(2, use_bias=False, name="out")
    model = vary(
        _video(lambda x: head(layers.GlobalAveragePooling3D()(layer(x))))
    )
    x = images(2, 5, 6, 4, 2)
    heat = explain.grad_cam(model, x, 1)
    assert heat.shape == (2, 5, 6, 4)
    features = keras.Model(model.input, model.get_layer("last").output)
    expected = to_numpy(features(x)) @ to_numpy(head.kernel)[:, 1]
    np.testing.assert_allclose(heat, normalized(expected), atol=1e-5)


def test_maps_of_whole_videos_are_not_taken_for_those_of_frames():
    def last(x):
        x = layers.ConvLSTM2D(3, 3, padding="same", name="lstm")(x)
        return layers.Dense(2)(layers.GlobalAveragePooling2D()(x))

    model, x = vary(_video(last)), images(2, 5, 6, 4, 2)
    # The last map that has frames.
    np.testing.assert_array_equal(
        explain.grad_cam(model, x), explain.grad_cam(model, x, layer="frames")
    )
    with pytest.raises(ValueError, match=r"\(B, d, h, w, C\) of 2 x 2 x 2"):
        explain.grad_cam(model, x, layer="lstm")


@pytest.mark.parametrize(
    "widen",
    [layers.Reshape((6, 4, 1)), lambda x: x[..., None]],
    ids=["Reshape", "index"],
)
def test_the_axis_of_the_channels_may_be_added_within(widen):
    inputs = keras.Input((6, 4))
    x = conv(3, "features")(widen(inputs))
    x = layers.GlobalAveragePooling2D()(x)
    model = vary(keras.Model(inputs, layers.Dense(2, name="out")(x)))
    x = images(2, 6, 4)
    features = keras.Model(inputs, model.get_layer("features").output)
    kernel = to_numpy(model.get_layer("out").kernel)
    expected = normalized(to_numpy(features(x)) @ kernel[:, 1])
    np.testing.assert_allclose(
        explain.grad_cam(model, x, 1), expected, atol=1e-5
    )


def test_features_that_were_tokens_keep_the_order_of_the_positions():
    inputs = keras.Input((6, 4, 2))
    x = layers.Reshape((24, 3))(conv(3, "conv")(inputs))
    x = layers.Reshape((6, 4, 3), name="features")(layers.Dense(3)(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = vary(keras.Model(inputs, layers.Dense(2, name="out")(x)))
    x = images(2, 6, 4, 2)
    features = keras.Model(inputs, model.get_layer("features").output)
    kernel = to_numpy(model.get_layer("out").kernel)
    np.testing.assert_allclose(
        explain.grad_cam(model, x, 1),
        normalized(to_numpy(features(x)) @ kernel[:, 1]),
        atol=1e-5,
    )
