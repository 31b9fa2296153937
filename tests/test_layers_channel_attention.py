"""Values of the channel gates against formulas and other implementations."""

import keras
import numpy as np
import pytest
from layer_checks import built, gradients, output, random_input, to_numpy
from numpy_reference import channel_logits, relu, sigmoid

from cbam_keras import ChannelAttention, SqueezeExcite

pytestmark = pytest.mark.every_backend


def weights(layer):
    return [
        to_numpy(variable).astype("float64")
        for variable in (
            layer.squeeze_kernel,
            layer.squeeze_bias,
            layer.excite_kernel,
            layer.excite_bias,
        )
    ]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "pools",
    [("avg", "max"), ("lp",), ("lse", "max"), ("avg", "max", "lp", "lse")],
    ids="-".join,
)
def test_equals_numpy_for_choices_of_pools(pools):
    layer = built(ChannelAttention(4, pool_types=pools, dtype="float64"))
    x = random_input(dtype="float64")
    gate = sigmoid(channel_logits(x, weights(layer), pools))
    np.testing.assert_allclose(
        to_numpy(layer.attention_map(x)), gate, rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(output(layer, x), x * gate, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "shape", [(2, 9, 16), (2, 4, 3, 5, 16)], ids=["1d", "3d"]
)
def test_equals_numpy_in_other_ranks(shape):
    layer = built(ChannelAttention(4), shape)
    x = random_input(shape)
    expected = x * sigmoid(channel_logits(x.astype("float64"), weights(layer)))
    np.testing.assert_allclose(output(layer, x), expected, atol=1e-5)


def test_attention_map_is_channels_first_where_the_data_are():
    layer = ChannelAttention(data_format="channels_first")
    assert layer.attention_map(random_input((2, 16, 7, 5))).shape == (
        2,
        16,
        1,
        1,
    )


@pytest.mark.parametrize(
    "activation, function",
    [(None, lambda x: x), ("tanh", np.tanh)],
    ids=["linear", "tanh"],
)
def test_hidden_activation_is_applied(activation, function):
    layer = built(ChannelAttention(4, activation=activation))
    x = random_input()
    logits = channel_logits(
        x.astype("float64"), weights(layer), activation=function
    )
    np.testing.assert_allclose(output(layer, x), x * sigmoid(logits), atol=1e-5)


def test_squeeze_excite_is_channel_attention_on_the_average():
    layer = built(SqueezeExcite(4))
    x = random_input()
    logits = channel_logits(x.astype("float64"), weights(layer), ("avg",))
    np.testing.assert_allclose(output(layer, x), x * sigmoid(logits), atol=1e-5)


@pytest.mark.parametrize(
    "channels, options, hidden",
    [
        (64, {}, 4),
        (24, {}, 2),
        (23, {}, 1),
        (40, {}, 3),
        (1, {}, 1),
        (64, {"hidden_units": 7}, 7),
    ],
)
def test_hidden_width_is_rounded_half_up_or_given(channels, options, hidden):
    layer = ChannelAttention(16, **options)
    layer.build((None, None, None, channels))
    assert layer.squeeze_kernel.shape == (channels, hidden)
    assert layer.excite_kernel.shape == (hidden, channels)


def test_lp_gradient_is_finite_on_empty_channels():
    layer = built(ChannelAttention(pool_types="lp"))
    x = random_input()
    # As a ReLU leaves them. The others give a gradient to all pooled values.
    x[..., :8] = 0
    found = gradients(layer, x, random_input(seed=3))
    assert all(np.isfinite(gradient).all() for gradient in found)
    assert all(np.abs(gradient).max() > 0 for gradient in found)


def test_lse_is_stable_for_large_values():
    layer = built(ChannelAttention(pool_types="lse"))
    x = np.full((1, 3, 3, 16), 1e4, "float32")
    pooled = 1e4 + np.log(9)
    w1, b1, w2, b2 = weights(layer)
    logits = relu(np.full((1, 16), pooled) @ w1 + b1) @ w2 + b2
    np.testing.assert_allclose(
        to_numpy(layer.attention_map(x))[:, 0, 0],
        sigmoid(np.clip(logits, -80, 80)),
        atol=1e-5,
    )


def test_kernels_of_one_initializer_differ():
    layer = ChannelAttention(
        hidden_units=16, kernel_initializer=keras.initializers.HeNormal()
    )
    layer.build((None, 7, 5, 16))
    assert not np.allclose(
        to_numpy(layer.squeeze_kernel), to_numpy(layer.excite_kernel)
    )


def test_regularizers_count_both_layers_of_the_mlp():
    layer = ChannelAttention(
        kernel_regularizer=keras.regularizers.L2(1.0),
        bias_regularizer=keras.regularizers.L1(1.0),
        bias_initializer="ones",
        hidden_units=2,
    )
    layer.build((None, 7, 5, 16))
    kernels = [layer.squeeze_kernel, layer.excite_kernel]
    expected = sum((to_numpy(kernel) ** 2).sum() for kernel in kernels)
    found = sum(float(to_numpy(loss)) for loss in layer.losses)
    assert found == pytest.approx(expected + 2 + 16, rel=1e-5)
