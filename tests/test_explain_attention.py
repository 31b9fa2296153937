"""The attention of a model's gates, against the authors' and by hand."""

from unittest import mock

import keras
import numpy as np
import pytest
from convert_checks import authors_network
from explain_checks import images, tiny
from insertion_checks import conv, network, vary
from keras import layers
from layer_checks import (
    assert_all_close,
    assert_close,
    channels_last,
    stored,
    to_numpy,
)

from cbam_keras import (
    BAM,
    CBAM,
    GlobalContext,
    SimAM,
    SpatialAttention,
    SqueezeExcite,
    explain,
)


@pytest.mark.needs_torch
def test_maps_are_those_of_the_authors_network():
    model = authors_network()
    arrays, _ = stored("official_small_cbam_io")
    expected, _ = stored("official_small_cbam_explained")
    maps = explain.attention_maps(model, channels_last(arrays["input"]))
    blocks = [f"stage{s}_block{b}" for s in (1, 2, 3, 4) for b in (1, 2)]
    assert list(maps) == [f"{block}_attention" for block in blocks]
    for block in blocks:
        pair = [expected[f"{block}/{kind}"] for kind in ("channel", "spatial")]
        assert_all_close(maps[f"{block}_attention"], pair, 1e-5)


@pytest.mark.parametrize(
    "layer, size",
    [
        (SqueezeExcite(2), (6, 5)),
        # Maps are those of inference.
        (SpatialAttention(3, batch_norm=True), (6, 5)),
        (CBAM(2, 3), (6, 5)),
        (CBAM(2, 3, order="spatial_first"), (6, 5)),
        (CBAM(2, 3, order="parallel"), (6, 5)),
        (CBAM(2, 3), (6,)),
        (CBAM(2, 3), (6, 5, 4)),
    ],
)
def test_the_output_is_the_input_times_the_maps(layer, size):
    inputs = keras.Input((*size, 4))
    model = vary(keras.Model(inputs, layer(layers.Dropout(0.9)(inputs))))
    product = x = images(3, *size, 4)
    ((channel, spatial),) = explain.attention_maps(model, x).values()
    assert (channel is None) == isinstance(layer, SpatialAttention)
    assert (spatial is None) == isinstance(layer, SqueezeExcite)
    if channel is not None:
        assert channel.shape == (3, 4)
        product = product * channel.reshape(3, *[1] * len(size), 4)
    if spatial is not None:
        assert spatial.shape == (3, *size)
        product = product * spatial[..., None]
    assert_close(model(x), product, 1e-5)


def test_a_map_of_channels_and_positions_is_given_by_its_means():
    gates = [BAM(1, name="bam"), SimAM(name="sam"), GlobalContext(1, name="gc")]
    model = vary(keras.Sequential([keras.Input((6, 5, 4)), *gates]))
    x = images(3, 6, 5, 4)
    maps = explain.attention_maps(model, x)
    for gate in gates[:2]:
        joint = to_numpy(gate.attention_map(x))
        channel, spatial = maps[gate.name]
        assert_close(channel, joint.mean(axis=(1, 2)), 1e-5)
        assert_close(spatial, joint.mean(axis=3), 1e-5)
        x = to_numpy(gate(x))
    channel, spatial = maps["gc"]
    # The weights of positions, relative to their mean.
    assert channel is None
    assert_close(spatial.mean(axis=(1, 2)), np.ones(3), 1e-5)


def test_batches_go_through_the_model_once_and_do_not_change_the_maps():
    model, x = tiny(), images(5, 8, 8, 3)
    together = explain.attention_maps(model, x)
    stem = model.get_layer("stem_conv")
    with mock.patch.object(stem, "call", wraps=stem.call) as call:
        apart = explain.attention_maps(model, x, batch_size=2)
    assert call.call_count == 3
    assert list(apart) == list(together)
    for name, maps in apart.items():
        assert_all_close(maps, together[name], 1e-6)


def test_names_that_repeat_become_paths_and_calls_are_counted():
    shared = CBAM(2, 3, name="shared")

    def body(name):
        inputs = keras.Input((8, 8, 4))
        return keras.Model(inputs, CBAM(2, 3, name="cbam")(inputs), name=name)

    def features(x):
        x = body("second")(body("first")(conv(4, "conv")(x)))
        return shared(layers.AveragePooling2D(2)(shared(x)))

    maps = explain.attention_maps(network(features), images(2, 8, 8, 3))
    assert [(name, spatial.shape) for name, (_, spatial) in maps.items()] == [
        ("first/cbam", (2, 8, 8)),
        ("second/cbam", (2, 8, 8)),
        ("shared", (2, 8, 8)),
        ("shared#2", (2, 4, 4)),
    ]


class Block(layers.Layer):
    """A layer of one's own, with attention inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(4, 3, padding="same")

    def build(self, shape):
        self.conv.build(shape)
        # The layer is not known before the block is built.
        self.attention = CBAM(2, 3, name="attention")
        self.attention.build((*shape[:-1], 4))

    def call(self, inputs):
        return self.attention(self.conv(inputs))


def test_layers_of_ones_own_are_looked_into():
    # The model has no shape before it runs, as subclassed ones.
    model = keras.Sequential([Block(name="first"), SpatialAttention(3)])
    x = images(2, 8, 8, 3)
    own, gate = explain.attention_maps(model, x).items()
    assert (own[0], gate[0]) == ("attention", model.layers[1].name)
    block = model.layers[0]
    expected = block.attention.attention_maps(block.conv(x))
    for one, other in zip(own[1], expected, strict=True):
        other = to_numpy(other).reshape(one.shape)
        assert_close(one, other, 1e-6)


def test_wrapped_layers_may_be_in_others():
    image = keras.Input((8, 6, 3))
    gate = CBAM(2, 3, name="gate")
    frame = keras.Model(image, gate(conv(4, "conv")(image)))
    inputs = keras.Input((3, 8, 6, 3))
    inner = keras.Model(inputs, layers.TimeDistributed(frame)(inputs))
    outer = keras.Input((2, 3, 8, 6, 3))
    second = layers.TimeDistributed(CBAM(2, 3, name="gate"))
    x = layers.TimeDistributed(inner)(outer)
    model = keras.Model(outer, layers.TimeDistributed(second)(x))
    x = images(4, 2, 3, 8, 6, 3)
    maps = [*explain.attention_maps(model, x).values()]
    assert [[y.shape for y in pair] for pair in maps] == [
        [(4, 2, 3, 4), (4, 2, 3, 8, 6)]
    ] * 2
    # One frame of each video alone.
    features = x[:, 1, 2]
    for (channel, spatial), layer in (
        (maps[0], frame),
        (maps[1], keras.Sequential([frame, second.layer])),
    ):
        *_, pair = explain.attention_maps(layer, features).values()
        assert_all_close([channel[:, 1, 2], spatial[:, 1, 2]], pair, 1e-5)
