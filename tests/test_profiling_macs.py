"""Multiply-accumulates of each kind of layer, against hand formulas."""

import keras
import pytest
from keras import layers, ops
from networks import without_values

from cbam_keras import (
    BAM,
    CBAM,
    SCSE,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SpatialAttention,
    SqueezeExcite,
    TripletAttention,
    profile_model,
)


def profile_of(layer, shape):
    return profile_model(keras.Sequential([keras.Input(shape), layer]))


GELU = {"activation": "gelu"}
SAME = {"padding": "same"}
TWO = {"strides": 2}
DOUBLED = {"strides": 2, "depth_multiplier": 2}
# MACs, shape of the input, layer, its arguments. Of a convolution: positions of
# the output, its filters, taps of the kernel, input channels of a group.
CONVOLUTIONS = [
    (9 * 4 * 3 * 5, (9, 5), layers.Conv1D, (4, 3, 1, "causal"), {}),
    # Biases and activations cost nothing.
    (20 * 4 * 6 * 6, (7, 5, 6), layers.Conv2D, (4, (3, 2)), GELU),
    (4 * 3 * 4 * 9 * 6, (8, 5, 6), layers.Conv2D, (4, 3), TWO | SAME),
    (3 * 2 * 4 * 9 * 6, (8, 5, 6), layers.Conv2D, (4, 3), TWO),
    (12 * 4 * 9 * 6, (8, 7, 6), layers.Conv2D, (4, 3), {"dilation_rate": 2}),
    (7 * 5 * 4 * 9 * 3, (7, 5, 6), layers.Conv2D, (4, 3), SAME | {"groups": 2}),
    (2 * 2 * 4 * 27 * 2, (6, 5, 4, 2), layers.Conv3D, (4, 3), TWO),
    (6 * 12 * 9, (7, 5, 6), layers.DepthwiseConv2D, (3,), DOUBLED),
    # The depthwise step, then the 1x1 convolution.
    (6 * 12 * (9 + 4), (7, 5, 6), layers.SeparableConv2D, (4, 3), DOUBLED),
    # Every position of the input is multiplied by the whole kernel, whatever
    # the padding crops.
    (12 * 5 * 4 * 6, (4, 3, 5), layers.Conv2DTranspose, (4, (3, 2)), TWO),
    (24 * 5 * 2 * 8, (2, 3, 4, 5), layers.Conv3DTranspose, (2, 2), TWO),
]
# The MLP from C to the hidden width and back, once for each pool; at each
# position the spatial kernel over the pooled maps, and the 1x1 convolution
# where there is one.
MLP = 24 * 6 + 6 * 24
CONV = {"pool_types": ("max", "conv")}
GATES = [
    (2 * MLP, (4, 5, 3, 24), ChannelAttention, (4,), {}),
    (2 * 2 * 24 * 5, (7, 24), ChannelAttention, (), {"hidden_units": 5}),
    (MLP, (7, 5, 24), SqueezeExcite, (4,), {}),
    (9 * 7 * 2, (9, 6), SpatialAttention, (), {}),
    (35 * 9 * 2, (7, 5, 6), SpatialAttention, (3,), {"dilation_rate": 2}),
    (24 * (27 * 2 + 6), (2, 3, 4, 6), SpatialAttention, (3,), CONV),
    (2 * MLP + 35 * 9 * 2, (7, 5, 24), CBAM, (4, 3), {"order": "parallel"}),
    (MLP + 35 * 18, (7, 5, 24), CBAM, (4, 3), {"channel_pool_types": "avg"}),
    (24 * 3, (7, 5, 24), EfficientChannelAttention, (), {}),
    # Both dense layers at each row and each column.
    (12 * 2 * 24 * 8, (7, 5, 24), CoordinateAttention, (), {}),
    (MLP + 35 * (24 * 6 + 2 * 9 * 36 + 6), (7, 5, 24), BAM, (4,), {}),
    (MLP + 35 * 24, (7, 5, 24), SCSE, (4,), {}),
    (MLP + 9 * 24, (9, 24), GlobalContext, (4,), {}),
    (18 * (35 + 7 * 24 + 5 * 24), (7, 5, 24), TripletAttention, (3,), {}),
]


def kind(row):
    return row[2].__name__


@pytest.mark.parametrize("row", CONVOLUTIONS + GATES, ids=kind)
def test_macs_equal_the_formula_in_both_data_formats(row):
    macs, shape, make, arguments, options = row
    first_shape = (shape[-1], *shape[:-1])
    last = profile_of(make(*arguments, **options), shape)
    options = options | {"data_format": "channels_first"}
    first = profile_of(make(*arguments, **options), first_shape)
    assert last.macs == first.macs == macs
    frames = layers.TimeDistributed(make(*arguments, **options))
    assert profile_of(frames, (2, *first_shape)).macs == 2 * macs
    assert last.groups.keys() == (
        {"attention"} if row in GATES else {"convolution"}
    )


FREE = [
    (layers.BatchNormalization(), 12),
    (layers.LayerNormalization(), 12),
    (layers.PReLU(), 210),
    (layers.Embedding(11, 4), 44),
]


def test_what_scales_shifts_or_looks_up_costs_parameters_alone():
    found = [profile_of(layer, (7, 5, 6)).groups for layer, _ in FREE]
    assert found == [{"other": (parameters, 0)} for _, parameters in FREE]


# The gates of each step see the input and the state.
RECURRENT = [
    (7 * 4 * 5 * (6 + 5), layers.LSTM(5)),
    (7 * 3 * 5 * (6 + 5), layers.GRU(5, return_sequences=True)),
    (7 * 5 * (6 + 5), layers.SimpleRNN(5)),
    (
        7 * (4 + 3) * 5 * (6 + 5),
        layers.Bidirectional(
            layers.LSTM(5), backward_layer=layers.GRU(5, go_backwards=True)
        ),
    ),
]


@pytest.mark.parametrize("macs, layer", RECURRENT)
def test_recurrent_layers(macs, layer):
    assert profile_of(layer, (7, 6)).groups["recurrent"][1] == macs
    frames = layers.TimeDistributed(layer)
    assert profile_of(frames, (2, 7, 6)).macs == 2 * macs


def test_a_normalized_kernel_costs_what_it_does_alone():
    layer = layers.SpectralNormalization(layers.Conv2D(4, 3))
    found = profile_of(layer, (7, 5, 6)).groups
    assert found["convolution"][1] == 5 * 3 * 4 * 9 * 6


def test_axes_folded_into_the_batch_count():
    # Windowed attention does this.
    inputs = keras.Input((8, 8, 3))
    windows = ops.reshape(inputs, (-1, 4, 4, 3))
    x = layers.Conv2D(3, 3, padding="same", use_bias=False)(windows)
    x = layers.Dense(5, use_bias=False)(CBAM(1, 3)(x))
    found = profile_model(keras.Model(inputs, x))
    gates = 4 * 2 * 2 * 9 + 64 * 9 * 2
    assert [row.macs for row in found.rows] == [64 * 81, gates, 64 * 15]


# The papers' multiply-adds at 224 x 224: MobileNetV2 300 M, EfficientNet-B0
# 0.39 B, ConvNeXt-T 4.5 B (4.46 in torchvision).
PUBLISHED = {
    "MobileNetV2": (3_504_872, "0.30"),
    "EfficientNetB0": (5_288_548, "0.39"),
    "ConvNeXtTiny": (28_589_128, "4.46"),
}


def test_networks_of_keras_have_their_published_cost():
    found = {}
    for name in PUBLISHED:
        with without_values():
            model = getattr(keras.applications, name)(weights=None)
            profile = profile_model(model)
        assert not profile.uncounted
        assert profile.groups["other"][1] == 0
        found[name] = (profile.parameters, f"{profile.macs / 1e9:.2f}")
    assert found == PUBLISHED
