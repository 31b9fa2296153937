"""Weights, state and frozen layers of a model after insertion."""

import numpy as np
import pytest
from insertion_checks import (
    assert_holds_all_of,
    attention_of,
    contents,
    data_for,
    layers_in_a_list,
    nested_twice,
    predictions,
    step,
    vary,
)
from layer_checks import to_numpy, weights_of

from cbam_keras.insertion import insert_attention


@pytest.mark.parametrize("build", [nested_twice, layers_in_a_list])
def test_training_changes_all_of_the_new_model_and_nothing_of_the_old(build):
    old = vary(build())
    x = data_for(old)
    before = predictions(old, x)
    values = weights_of(old)
    new = insert_attention(old)
    trainable = [to_numpy(v) for v in new.trainable_variables]
    step(new, x)
    changed, every = set(), set()
    for variable, value in zip(new.trainable_variables, trainable, strict=True):
        # The first factor of a gate waits for the last, which starts at zero.
        layer = variable.path.rsplit("/", 1)[0]
        every.add(layer)
        if not np.array_equal(to_numpy(variable), value):
            changed.add(layer)
    assert changed == every
    for found, expected in zip(weights_of(old), values, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(predictions(old, x), before)


def freeze_variable(model):
    model.get_layer("stem_conv").kernel.trainable = False


def freeze_nested(model):
    model.get_layer("outer").trainable = False


def freeze_inside_a_layer(model):
    for inner in model.get_layer("blocks").steps[:2]:
        inner.trainable = False


@pytest.mark.parametrize(
    "build, freeze",
    [
        (nested_twice, freeze_variable),
        (nested_twice, freeze_nested),
        (layers_in_a_list, freeze_inside_a_layer),
    ],
)
def test_frozen_stays_frozen_and_attention_trains(build, freeze):
    old = vary(build())
    freeze(old)
    new = insert_attention(old)
    found = contents(new.trainable_variables)
    for gate in attention_of(new):
        assert all(variable.trainable for variable in gate.variables)
        found -= contents(gate.variables)
    assert found == contents(old.trainable_variables)


def test_frozen_network_trains_in_two_stages():
    old = vary(layers_in_a_list())
    trained = contents(old.trainable_variables)
    old.trainable = False
    new = insert_attention(old)
    (gate,) = attention_of(new)
    assert contents(new.trainable_variables) == contents(
        gate.trainable_variables
    )
    x = data_for(old)
    before = contents(gate.variables)
    step(new, x)
    # Moving statistics too.
    assert_holds_all_of(new, old)
    assert contents(gate.variables) != before
    # Under TensorFlow, `True` alone would be skipped as no change.
    new.trainable = False
    new.trainable = True
    found = contents(new.trainable_variables)
    assert found - contents(gate.trainable_variables) == trained
    kernel = to_numpy(new.get_layer("stem_conv").kernel)
    step(new, x)
    assert not np.array_equal(
        to_numpy(new.get_layer("stem_conv").kernel), kernel
    )
