"""Places chosen by `after`."""

import functools
import re

import keras
import pytest
from insertion_checks import (
    assert_predicts_the_same,
    attention_of,
    conv,
    data_for,
    network,
    ours,
    paths,
    vary,
)
from keras import layers

from cbam_keras.insertion import insert_attention


def many_names():
    inner_inputs = keras.Input((8, 8, 8))
    x = conv(8, "conv3")(conv(8, "conv2")(inner_inputs))
    inner = keras.Model(inner_inputs, x, name="body")

    def body(inputs):
        x = conv(8, "conv10")(conv(8, "conv1")(inputs))
        return conv(8, "conv4")(inner(x))

    return network(body)


@pytest.fixture(scope="module")
def model():
    return vary(many_names())


ALL = ["conv1", "conv10", "body/conv2", "body/conv3", "conv4"]


@pytest.mark.parametrize(
    "after, places",
    [
        # A name is that layer alone, though it begins another one.
        ("conv1", ["conv1"]),
        ("conv2", ["body/conv2"]),
        ("body/conv2", ["body/conv2"]),
        ("body", ["body"]),
        # Anything else is a regular expression.
        ("^conv1", ["conv1", "conv10"]),
        ("conv[24]$", ["body/conv2", "conv4"]),
        (re.compile("body/"), ["body/conv2", "body/conv3"]),
        (["body/conv3", "conv1"], ["body/conv3", "conv1"]),
        (("conv1", "conv1"), ["conv1"]),
        ((name for name in ("conv4", "conv3")), ["conv4", "body/conv3"]),
        (lambda layer: isinstance(layer, layers.Conv2D), ALL),
    ],
    ids=lambda value: str(value).split(" at 0x")[0][:40],
)
def test_after_finds_layers(model, after, places):
    found = insert_attention(model, after=after, dry_run=True)
    assert sorted(paths(found)) == sorted(places)


@pytest.mark.parametrize("after", ["body", "conv1$|conv3"])
def test_attention_follows_the_layers_of_after(model, after):
    new = insert_attention(model, after=after)
    assert_predicts_the_same(new, model, data_for(model))
    for place in insert_attention(model, after=after, dry_run=True):
        *models_around, name = place.layer.split("/")
        graph = functools.reduce(keras.Model.get_layer, models_around, new)
        gate = graph.get_layer(f"{name}_attention")
        source = gate.input._keras_history.operation
        assert source is graph.get_layer(name)
        # Nothing else reads what the layer gives.
        assert source.output.shape == gate.output.shape
        assert len(source._outbound_nodes) == 1


def test_attention_is_inserted_twice_at_different_places(model):
    once = insert_attention(model, "se", after="conv1")
    twice = insert_attention(once, "cbam", after=["conv2", "conv10"])
    assert len(attention_of(twice)) == 3
    assert_predicts_the_same(twice, model, data_for(model))


def test_more_attention_needs_after():
    once = insert_attention(vary(ours()))
    with pytest.raises(ValueError, match="stage1_block1_bn3_attention"):
        insert_attention(once)
    twice = insert_attention(once, "spatial", after="attention$")
    assert len(attention_of(twice)) == 4
    assert_predicts_the_same(twice, once, data_for(once))
