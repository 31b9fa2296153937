"""Attention is taken out of networks again."""

import insertion_checks as checks
import keras
import numpy as np
import pytest
from insertion_checks import attention_of, data_for, vary
from keras import layers
from layer_checks import weights_of

from cbam_keras import CBAM, SqueezeExcite, _graph, insertion
from cbam_keras.insertion import remove_attention


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


def mapped(x):
    gate = SqueezeExcite(name="mapped")
    return layers.Multiply()(gate(x, return_attention_maps=True))


REASONS = {
    "its layer is inside another layer": lambda x: layers.TimeDistributed(
        SqueezeExcite(name="inside")
    )(x),
    "its map is an output of its layer": mapped,
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_cannot_be_taken_out(reason):
    model = checks.network(REASONS[reason], (8, 6, 8))
    with pytest.raises(ValueError, match=f'gate "[a-z]+": {reason}'):
        remove_attention(model)


def test_a_wrong_name_is_refused():
    with pytest.raises(ValueError, match="first, third, second.*'secnod'"):
        remove_attention(several(), ["secnod"])


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
