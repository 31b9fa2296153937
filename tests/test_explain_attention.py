"""The attention of a model's gates, against the authors' and by hand."""

import keras
import numpy as np
import pytest
from convert_checks import authors_network
from explain_checks import images, tiny
from insertion_checks import conv, network, vary
from keras import layers
from layer_checks import channels_last, stored, to_numpy

from cbam_keras import (
    CBAM,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
    explain,
    insert_attention,
)

pytestmark = pytest.mark.every_backend


def test_maps_are_those_of_the_authors_network():
    model = authors_network()
    arrays, _ = stored("official_small_cbam_io")
    expected, _ = stored("official_small_cbam_explained")
    maps = explain.attention_maps(model, channels_last(arrays["input"]))
    blocks = [f"stage{s}_block{b}" for s in (1, 2, 3, 4) for b in (1, 2)]
    assert list(maps) == [f"{block}_attention" for block in blocks]
    for block in blocks:
        channel, spatial = maps[f"{block}_attention"]
        np.testing.assert_allclose(
            channel, expected[f"{block}/channel"], atol=1e-5
        )
        np.testing.assert_allclose(
            spatial, expected[f"{block}/spatial"], atol=1e-5
        )


LAYERS = {
    "channel": (ChannelAttention(2, name="gate"), (True, False)),
    "se": (SqueezeExcite(2, name="gate"), (True, False)),
    "spatial": (SpatialAttention(3, name="gate"), (False, True)),
    "cbam": (CBAM(2, 3, name="gate"), (True, True)),
    "spatial first": (
        CBAM(2, 3, order="spatial_first", name="gate"),
        (True, True),
    ),
    "parallel": (CBAM(2, 3, order="parallel", name="gate"), (True, True)),
}


@pytest.mark.parametrize("layer, has", LAYERS.values(), ids=LAYERS)
def test_the_output_is_the_input_times_the_maps(layer, has):
    inputs = keras.Input((6, 5, 4))
    layer = type(layer).from_config(layer.get_config())
    model = vary(keras.Model(inputs, layer(inputs)))
    x = images(3, 6, 5, 4)
    (maps,) = explain.attention_maps(model, x).values()
    assert tuple(m is not None for m in maps) == has
    product = x
    if has[0]:
        assert maps[0].shape == (3, 4)
        product = product * maps[0][:, None, None, :]
    if has[1]:
        assert maps[1].shape == (3, 6, 5)
        product = product * maps[1][..., None]
    np.testing.assert_allclose(to_numpy(model(x)), product, atol=1e-5)


@pytest.mark.parametrize("rank", [3, 5])
def test_maps_have_all_spatial_axes(rank):
    shape = (6, 5, 4)[: rank - 2]
    inputs = keras.Input((*shape, 4))
    model = keras.Model(inputs, CBAM(2, 3, name="gate")(inputs))
    channel, spatial = explain.attention_maps(model, images(2, *shape, 4))[
        "gate"
    ]
    assert channel.shape == (2, 4)
    assert spatial.shape == (2, *shape)


def test_maps_do_not_depend_on_the_batch():
    model, x = tiny(), images(5, 8, 8, 3)
    together = explain.attention_maps(model, x)
    apart = explain.attention_maps(model, x, batch_size=2)
    assert list(apart) == list(together)
    for name, maps in apart.items():
        for one, other in zip(maps, together[name], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("kind", [list, dict])
def test_the_input_may_be_alone_in_a_list_or_have_a_name(kind):
    """As that of a functional model is, loaded from disk."""
    plain, x = tiny(), images(2, 8, 8, 3)
    inputs = keras.Input((8, 8, 3), name="image")
    given = [inputs] if kind is list else {"image": inputs}
    model = keras.Model(given, plain(inputs))
    for function in (explain.grad_cam, explain.class_probabilities):
        np.testing.assert_allclose(
            function(model, x), function(plain, x), atol=1e-6
        )
    assert list(explain.attention_maps(model, x)) == [
        "stage1_block1_attention",
        "stage2_block1_attention",
    ]


def test_each_batch_goes_through_the_model_once():
    model, calls = tiny(), []
    stem = model.get_layer("stem_conv")
    call = stem.call

    def counted(*args, **kwargs):
        calls.append(1)
        return call(*args, **kwargs)

    stem.call = counted
    explain.attention_maps(model, images(5, 8, 8, 3), batch_size=2)
    assert len(calls) == 3


def test_layers_in_models_within_go_by_their_paths_where_names_repeat():
    def body(name):
        inputs = keras.Input((8, 8, 4))
        return keras.Model(inputs, CBAM(2, 3, name="cbam")(inputs), name=name)

    model = network(
        lambda x: CBAM(2, 3, name="own")(
            body("second")(body("first")(conv(4, "conv")(x)))
        )
    )
    maps = explain.attention_maps(model, images(2, 8, 8, 3))
    assert list(maps) == ["first/cbam", "second/cbam", "own"]


@keras.saving.register_keras_serializable(package="tests")
class Block(layers.Layer):
    """A layer of one's own, with attention inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(4, 3, padding="same")
        self.attention = CBAM(2, 3, name="attention")

    def build(self, shape):
        self.conv.build(shape)
        self.attention.build((*shape[:-1], 4))

    def call(self, inputs):
        return self.attention(self.conv(inputs))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = Block(name="first")
        self.second = SpatialAttention(3, name="second")
        self.end = layers.GlobalAveragePooling2D()

    def call(self, inputs):
        return self.end(self.second(self.first(inputs)))


@pytest.mark.parametrize("built", [True, False])
def test_layers_of_ones_own_and_subclassed_models_are_looked_into(built):
    model, x = Subclassed(), images(2, 8, 8, 3)
    if built:
        model(x)
    maps = explain.attention_maps(model, x)
    assert list(maps) == ["attention", "second"]
    features = model.first.conv(x)
    channel, spatial = model.first.attention.attention_maps(features)
    np.testing.assert_allclose(
        maps["attention"][0], to_numpy(channel)[:, 0, 0], atol=1e-6
    )
    np.testing.assert_allclose(
        maps["attention"][1], to_numpy(spatial)[..., 0], atol=1e-6
    )


def test_each_call_of_a_shared_layer_has_its_maps():
    shared = CBAM(2, 3, name="shared")

    def body(x):
        x = conv(4, "conv")(x)
        return shared(layers.AveragePooling2D(2)(shared(x)))

    maps = explain.attention_maps(network(body), images(2, 8, 8, 3))
    assert list(maps) == ["shared", "shared#2"]
    assert maps["shared"][1].shape == (2, 8, 8)
    assert maps["shared#2"][1].shape == (2, 4, 4)


def test_inserted_layers_attend_to_nothing_in_particular():
    model = insert_attention(tiny(None), "cbam")
    for channel, spatial in explain.attention_maps(
        model, images(2, 8, 8, 3)
    ).values():
        np.testing.assert_array_equal(channel, 1)
        np.testing.assert_array_equal(spatial, 1)


def test_maps_are_those_of_inference():
    layer = SpatialAttention(3, batch_norm=True, name="gate")
    inputs = keras.Input((6, 5, 4))
    model = vary(keras.Model(inputs, layer(layers.Dropout(0.9)(inputs))))
    x = images(2, 6, 5, 4)
    _, spatial = explain.attention_maps(model, x)["gate"]
    np.testing.assert_allclose(
        spatial,
        to_numpy(layer.attention_map(x, training=False))[..., 0],
        atol=1e-6,
    )
