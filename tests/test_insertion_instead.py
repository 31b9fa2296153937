"""Gates of a network: others in their place, or none."""

import re

import insertion_checks as checks
import keras
import numpy as np
import pytest
from insertion_checks import (
    attention_of,
    conv,
    data_for,
    head,
    predictions,
    vary,
)
from keras import layers
from layer_checks import weights_of

from cbam_keras import _graph, insert_attention, insertion
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
        (re.compile("(stem|late)_se"), ["stem_se", "late_se"]),
        (["cbam", "body/inner_se"], ["body/inner_se", "last"]),
    ],
    ids=["kind", "pattern", "names"],
)
def test_gates_are_replaced_by_kind_name_or_pattern(instead_of, names):
    old = network()
    new = insert_attention(old, "coordinate", instead_of=instead_of)
    replaced = dict.fromkeys(names, CoordinateAttention)
    assert gates(new) == ALL | replaced
    # The network itself has not changed.
    assert gates(old) == {"late_se": SqueezeExcite, "last": CBAM}


class MyGate(layers.Layer):
    """Attention that equals none of ours."""

    def call(self, x):
        return x * keras.ops.max(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("instead_of", ["own", "MyGate", "ow."])
def test_a_gate_like_none_of_ours_is_replaced(instead_of):
    x = keras.Input((8, 8, 16))
    y = layers.ReLU()(MyGate(name="own")(x))
    new = insert_attention(keras.Model(x, y), "se", instead_of=instead_of)
    assert gates(new) == {"own": SqueezeExcite}


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


# Attention is taken out of networks again.


@pytest.mark.parametrize("attention", ["cbam", "gc", "coordinate"])
@pytest.mark.parametrize("build", ["nested_twice", "wrapped", "siamese"])
def test_what_was_inserted_is_taken_out_again(build, attention):
    model = vary(getattr(checks, build)())
    inserted = insertion.insert_attention(model, attention)
    for layer in attention_of(inserted):
        vary(layer)
    before = weights_of(inserted)
    plain = remove_attention(inserted)
    names = [[x.name for x in _graph.layers_within(y)] for y in (plain, model)]
    assert names[0] == names[1]
    for values in zip(weights_of(plain), weights_of(model), strict=True):
        np.testing.assert_array_equal(*values)
    checks.assert_predicts_the_same(plain, model, data_for(model))
    for values in zip(before, weights_of(inserted), strict=True):
        np.testing.assert_array_equal(*values)


def several():
    """Returns a classifier with two gates of CBAM and one of another kind."""

    def body(x):
        x = CBAM(2, 3, name="first")(checks.stem(x))
        return SqueezeExcite(name="second")(CBAM(2, 3, name="third")(x))

    return vary(checks.network(body))


@pytest.mark.parametrize(
    "gates, names",
    [
        (None, []),
        ("second", ["first", "third"]),
        (["first", "second"], ["third"]),
        ([], ["first", "second", "third"]),
    ],
)
def test_gates_are_chosen_by_names(gates, names):
    rest = remove_attention(several(), gates)
    found = [layer.name for layer in attention_of(rest)]
    assert sorted(found) == names


def test_a_gate_with_a_mask_is_taken_out():
    inputs = keras.Input((6, 4))
    x = layers.Dense(8, name="first")(layers.Masking()(inputs))
    x = SqueezeExcite(name="gate", identity_init=True)(x)
    outputs = layers.Dense(5)(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, outputs)
    for layer in model.layers:
        if layer.name != "gate":
            vary(layer)
    rest = remove_attention(model)
    assert not attention_of(rest)
    checks.assert_predicts_the_same(rest, model, data_for(model))
