"""Places chosen by `after`, and attention that fits them."""

import functools

import keras
import pytest
from insertion_checks import (
    assert_predicts_the_same,
    attention_of,
    conv,
    data_for,
    nested_model,
    network,
    norm,
    operations,
    ours,
    paths,
    small,
    vary,
)
from keras import layers

from cbam_keras import (
    CBAM,
)
from cbam_keras.insertion import insert_attention


def many_names():
    inner_inputs = keras.Input((8, 8, 8))
    x = conv(8, "conv3")(conv(8, "conv2")(inner_inputs))
    inner = keras.Model(inner_inputs, x, name="body")

    def body(inputs):
        x = conv(8, "conv10")(conv(8, "conv1")(inputs))
        return conv(8, "conv4")(inner(x))

    return network(body)


ALL = ["conv1", "conv10", "body/conv2", "body/conv3", "conv4"]


@pytest.mark.parametrize(
    "after, places",
    [
        # A name is that layer alone, though it begins another one.
        ("conv1", ["conv1"]),
        ("conv10", ["conv10"]),
        ("conv2", ["body/conv2"]),
        ("body/conv2", ["body/conv2"]),
        ("body", ["body"]),
        # Anything else is a regular expression.
        ("conv", ALL),
        ("^conv1", ["conv1", "conv10"]),
        ("conv[24]$", ["body/conv2", "conv4"]),
        ("body/", ["body/conv2", "body/conv3"]),
        (["conv1"], ["conv1"]),
        (["body/conv3", "conv1"], ["body/conv3", "conv1"]),
        (("conv1", "conv1"), ["conv1"]),
        ((name for name in ("conv4", "conv3")), ["conv4", "body/conv3"]),
        (lambda layer: isinstance(layer, layers.Conv2D), ALL),
        (lambda layer: layer.name.endswith("0"), ["conv10"]),
    ],
    ids=lambda value: str(value).split(" at 0x")[0][:40],
)
def test_after_finds_layers(after, places):
    found = insert_attention(many_names(), after=after, dry_run=True)
    assert sorted(paths(found)) == sorted(places)


@pytest.mark.parametrize("after", ["conv2", "body", "conv1$|conv3"])
def test_attention_follows_the_layers_of_after(after):
    old = vary(many_names())
    new = insert_attention(old, after=after)
    assert_predicts_the_same(new, old, data_for(old))
    for place in insert_attention(old, after=after, dry_run=True):
        *models_around, name = place.layer.split("/")
        graph = functools.reduce(keras.Model.get_layer, models_around, new)
        gate = graph.get_layer(f"{name}_attention")
        source = gate.input._keras_history.operation
        assert source is graph.get_layer(name)
        # Nothing else reads what the layer gives.
        assert source.output.shape == gate.output.shape
        assert len(source._outbound_nodes) == 1


def test_attention_is_inserted_twice_at_different_places():
    old = vary(many_names())
    once = insert_attention(old, "se", after="conv1")
    twice = insert_attention(once, "cbam", after=["conv2", "conv10"])
    assert len(attention_of(twice)) == 3
    assert_predicts_the_same(twice, old, data_for(old))


def test_more_attention_needs_after():
    once = insert_attention(vary(ours()))
    with pytest.raises(ValueError, match="stage1_block1_bn3_attention"):
        insert_attention(once)
    twice = insert_attention(once, "spatial", after="attention$")
    assert len(attention_of(twice)) == 4
    assert_predicts_the_same(twice, once, data_for(once))


def channels_first():
    first = {"data_format": "channels_first"}
    inputs = keras.Input((3, 8, 8))
    x = conv(8, "stem_conv", **first)(inputs)
    y = conv(8, "block_conv", **first)(x)
    y = layers.ReLU(name="block_relu")(norm("block_bn", axis=1)(y))
    x = layers.Add(name="block_add")([x, y])
    x = layers.GlobalAveragePooling2D(name="pool", **first)(x)
    return keras.Model(inputs, layers.Dense(5, name="predictions")(x))


@pytest.mark.every_backend
@pytest.mark.parametrize("after", [None, "block_bn", "block_add"])
def test_attention_takes_the_data_format_of_its_place(after):
    old = vary(channels_first())
    new = insert_attention(old, after=after)
    (layer,) = attention_of(new)
    assert layer.data_format == "channels_first"
    assert layer.channel_attention.excite_bias.shape == (8,)
    if keras.backend.backend() != "tensorflow":
        # Which has no convolution of that kind on a CPU.
        assert_predicts_the_same(new, old, data_for(old))


@pytest.mark.every_backend
def test_attention_stays_channels_last_under_another_default():
    old = vary(small())
    keras.config.set_image_data_format("channels_first")
    new = insert_attention(old)
    assert attention_of(new)[0].data_format == "channels_last"
    assert_predicts_the_same(new, old, data_for(old))


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"]
)
@pytest.mark.parametrize("build", [small, operations, nested_model])
def test_attention_takes_the_precision_of_the_network(build, policy):
    keras.config.set_dtype_policy(policy)
    old = vary(build())
    keras.config.set_dtype_policy("float32")
    new = insert_attention(old)
    assert {a.dtype_policy.name for a in attention_of(new)} == {policy}
    assert new.output.dtype == old.output.dtype
    assert_predicts_the_same(new, old, data_for(old))


@pytest.mark.every_backend
@pytest.mark.usefixtures("float64")
def test_float64_network_predicts_what_it_did():
    keras.config.set_dtype_policy("float64")
    old = vary(small())
    keras.config.set_dtype_policy("float32")
    new = insert_attention(old)
    assert attention_of(new)[0].variables[0].dtype == "float64"
    assert new.output.dtype == "float64"
    assert_predicts_the_same(new, old, data_for(old))


def test_precision_chosen_for_the_attention_is_kept():
    old = vary(small())
    gate = functools.partial(CBAM, dtype="mixed_bfloat16")
    (layer,) = attention_of(insert_attention(old, gate))
    assert layer.dtype_policy.name == "mixed_bfloat16"
