"""Attention in the place of gates that a network has."""

import re

import keras
import numpy as np
import pytest
from insertion_checks import conv, data_for, head, predictions, vary
from keras import layers

from cbam_keras import _graph, insert_attention
from cbam_keras.insertion import remove_attention
from cbam_keras.layers import (
    CBAM,
    CoordinateAttention,
    EfficientChannelAttention,
    SqueezeExcite,
)


def pasted(x, name):
    """Squeeze-and-excitation, written as functions."""
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    y = layers.Conv2D(4, 1, activation="relu", name=f"{name}_reduce")(y)
    y = layers.Conv2D(8, 1, activation="sigmoid", name=f"{name}_expand")(y)
    return layers.Multiply(name=name)([x, y])


def network():
    """Returns a network with gates of others and of ours, one nested."""
    image = keras.Input((8, 8, 3), name="image")
    x = pasted(conv(8, "stem")(image), "stem_se")
    features = keras.Input((8, 8, 8))
    inner = pasted(conv(8, "conv", strides=2)(features), "inner_se")
    x = keras.Model(features, inner, name="body")(x)
    x = SqueezeExcite(2, name="late_se")(conv(8, "late")(x))
    x = CBAM(2, 3, name="last")(x)
    return vary(keras.Model(image, head(x), name="network"))


def gates(model):
    return {
        path: type(layer) for layer, path in _graph.gate_paths(model).items()
    }


ALL = {
    "stem_se": SqueezeExcite,
    "body/inner_se": SqueezeExcite,
    "late_se": SqueezeExcite,
    "last": CBAM,
}


@pytest.mark.parametrize(
    "instead_of, names",
    [
        ("se", ["stem_se", "body/inner_se", "late_se"]),
        ("last", ["last"]),
        ("(stem|inner)_se", ["stem_se", "body/inner_se"]),
        (re.compile("^late"), ["late_se"]),
        (["cbam", "body/inner_se"], ["body/inner_se", "last"]),
    ],
    ids=["kind", "name", "pattern", "compiled", "list"],
)
def test_gates_are_replaced_by_kind_name_or_pattern(instead_of, names):
    old = network()
    new = insert_attention(old, "coordinate", instead_of=instead_of)
    replaced = dict.fromkeys(names, CoordinateAttention)
    assert gates(new) == ALL | replaced
    # The network itself has not changed.
    assert gates(old) == {"late_se": SqueezeExcite, "last": CBAM}


def test_all_other_weights_are_kept():
    old = network()
    new = insert_attention(old, "eca", instead_of=["se", "cbam"])
    assert {*gates(new).values()} == {EfficientChannelAttention}
    # New gates are the identity.
    x = data_for(old)
    expected = predictions(remove_attention(new), x)
    np.testing.assert_array_equal(predictions(new, x), expected)
    kept = [layer for layer in old.layers if layer.name in ("late", "stem")]
    for layer in kept:
        for mine, before in zip(
            new.get_layer(layer.name).weights, layer.weights, strict=True
        ):
            np.testing.assert_array_equal(mine, before)


def test_places_are_listed_by_a_dry_run():
    places = insert_attention(
        network(), "cbam", instead_of="se", stages="last", dry_run=True
    )
    assert [x.layer for x in places] == ["late_se", "body/inner_se"]
    assert [x.attention for x in places] == ["late_se", "inner_se"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"after": "stem"}, "`after` must be None"),
        ({"instead_of": "bam"}, r'"late_se" \(se\), "last" \(cbam\)'),
        ({"instead_of": ["bam"]}, r'"body/inner_se" \(se\).*\[.bam.\]'),
    ],
)
def test_what_finds_no_gate_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        insert_attention(network(), **{"instead_of": "se", **options})


def test_a_network_without_gates_is_refused():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, head(conv(8, "stem")(image)))
    with pytest.raises(ValueError, match="it has none"):
        insert_attention(model, instead_of="se")
