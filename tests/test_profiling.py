"""Profiles: each layer kind against a hand formula; rows, totals, errors."""

import keras
import numpy as np
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


def model_of(*parts, shape):
    return keras.Sequential([keras.Input(shape), *parts], name="model")


def profile_of(layer, shape, *before):
    return profile_model(model_of(*before, layer, shape=shape))


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


# Rows and totals.


def inner(name="inner"):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 3, padding="same", name="conv")(inputs)
    return keras.Model(inputs, CBAM(3, 3, name="attention")(x), name=name)


def test_shared_layer_has_the_macs_of_each_call():
    conv = layers.Conv2D(3, 3, padding="same", use_bias=False, name="conv")
    inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D()(conv(inputs))
    found = profile_model(keras.Model(inputs, conv(x)))
    (row,) = found.rows
    assert row.parameters == 81
    assert row.macs == 81 * (64 + 16)
    assert row.output_shape == (8, 8, 3)


def test_a_shared_layer_is_not_counted_if_one_of_its_calls_is_not():
    conv = layers.Conv2D(3, 3, padding="same")
    inputs = keras.Input((8, 8, 3))
    cut = layers.Lambda(lambda x: x[:, :4], output_shape=(None, 8, 3))
    found = profile_model(keras.Model(inputs, conv(cut(conv(inputs)))))
    assert (found.uncounted, found.macs) == ((conv.name,), 0)


def test_weights_that_two_layers_share_count_once():
    dense, inputs = layers.Dense(4), keras.Input((7, 3))
    outputs = [dense(inputs), layers.TimeDistributed(dense)(inputs)]
    found = profile_model(keras.Model(inputs, outputs))
    assert (found.parameters, found.macs) == (16, 2 * 7 * 12)


def test_frozen_layers_have_macs_and_no_trainable_parameters():
    model = inner()
    trained = profile_model(model)
    model.get_layer("conv").trainable = False
    frozen = profile_model(model)
    assert frozen.parameters == trained.attention_parameters
    assert frozen.macs == trained.macs


class Inside(layers.Layer):
    """Layer of a user with attention in a list and in a model."""

    def __init__(self, *gates):
        super().__init__()
        self.gates = [*gates]
        self.branch = keras.Sequential([layers.Conv2D(8, 1), CBAM(4)])

    def build(self, input_shape):
        for part in [*self.gates, self.branch]:
            if not part.built:
                part.build(input_shape)

    def call(self, x):
        for gate in self.gates:
            x = gate(x)
        return self.branch(x)

    def compute_output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize("wrap", [lambda x: x, layers.TimeDistributed])
def test_attention_inside_a_layer_is_counted_once(wrap):
    shared = CBAM(4, name="shared")
    shape = (8, 8, 8) if wrap is not layers.TimeDistributed else (3, 8, 8, 8)
    found = profile_of(wrap(Inside(shared)), shape, wrap(Inside(shared)))
    # The MLP with its biases, and the kernel.
    one = 2 * 8 * 2 + 2 + 8 + 98
    assert found.attention_parameters == 3 * one
    assert found.parameters == 3 * one + 2 * (64 + 8)
    assert sum("shared" in name for name in found.uncounted) == 1


def test_unknown_sizes_are_given():
    model = model_of(layers.Conv2D(4, 3), shape=(None, None, 3))
    # One input may come in a list.
    found = profile_model(model, [tuple(np.array([9, 7, 3]))])
    assert found.macs == 7 * 5 * 4 * 27
    assert found.rows[0].output_shape == (7, 5, 4)
    assert found.input_shape == (9, 7, 3)
    assert (found.attention_parameters, found.attention_macs) == (0, 0)


def two_inputs():
    """Returns a model whose inputs are not in the order of their names."""
    a, b = (keras.Input((None, 3), name=name) for name in "ab")
    outputs = [
        layers.Dense(4, name="dense_a")(a),
        layers.Dense(5, name="dense_b")(b),
    ]
    return keras.Model([b, a], outputs, name="two")


def test_each_input_has_its_shape():
    found = profile_model(two_inputs(), ((7, 3), [2, 3]))
    macs = {row.name: row.macs for row in found.rows}
    assert macs == {"dense_a": 2 * 3 * 4, "dense_b": 7 * 3 * 5}
    assert found.input_shape == ((7, 3), (2, 3))


def test_layers_of_unknown_kinds_are_named():
    # A user's class may have the name of one of Keras' ConvNeXt.
    own = type("LayerScale", (layers.EinsumDense,), {})
    unknown = own("abc,cd->abd", (6, 5), name="unknown")
    found = profile_of(unknown, (6, 3), layers.Dense(4, name="dense"))
    assert found.uncounted == ("unknown",)
    assert found.groups == {"dense": (16, 72), "not counted": (20, 0)}
    assert found.macs == 72
    note = "excludes the MACs of layers of unknown classes: unknown"
    assert note in str(found)


def test_wrapped_models_are_counted_for_each_frame():
    frames = layers.TimeDistributed(inner(), name="frames")
    found, one = profile_of(frames, (7, 8, 8, 3)), profile_model(inner())
    assert found.parameters == one.parameters == 112
    assert found.macs == 7 * one.macs > 0
    names = [f"frames/{row.name}" for row in one.rows]
    assert [row.name for row in found.rows] == names


def test_layers_behind_an_unknown_size_are_named():
    unknown = layers.Lambda(ops.copy, output_shape=(None, 3))
    # The last does not depend on the size: the MLP is of pooled channels.
    parts = [layers.Dense(4), CBAM(1), ChannelAttention(hidden_units=2)]
    rows = [profile_of(layer, (6, 3), unknown).rows[-1] for layer in parts]
    assert [row.macs for row in rows] == [None, None, 2 * 2 * 3 * 2]
