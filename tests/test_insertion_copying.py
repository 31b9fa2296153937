"""Weights, state and frozen layers of a model after insertion."""

import keras
import numpy as np
import pytest
from insertion_checks import (
    assert_holds_all_of,
    assert_predicts_the_same,
    attention_of,
    contents,
    data_for,
    layers_in_a_list,
    nested_model,
    nested_twice,
    ours,
    predictions,
    sequential,
    small,
    step,
    vary,
)
from keras import layers
from layer_checks import to_numpy, weights_of

from cbam_keras.insertion import insert_attention


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="lookups are computed by TensorFlow",
)
def test_vocabulary_is_copied():
    lookup = layers.IntegerLookup(output_mode="one_hot")
    lookup.adapt(np.array([3, 5, 7]))
    old = small()
    code = keras.Input((1,), dtype="int64", name="code")
    x = layers.Concatenate()([old.output, lookup(code)])
    old = vary(keras.Model([old.input, code], layers.Dense(3, name="out")(x)))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3))
    x = [images.astype("float32"), np.array([[5], [7], [9]])]
    assert_predicts_the_same(insert_attention(old), old, x)


def test_variables_are_copied_by_name():
    old = vary(ours())
    new = insert_attention(old)
    values = {v.path: to_numpy(v) for v in new.variables}
    for variable in old.variables:
        found = values.pop(variable.path)
        np.testing.assert_array_equal(found, to_numpy(variable))
    assert {path.split("/")[0] for path in values} == {
        f"stage{stage}_block1_bn3_attention" for stage in (1, 2)
    }


@pytest.mark.parametrize("build", [nested_twice, sequential, layers_in_a_list])
def test_training_changes_all_of_the_new_model_and_nothing_of_the_old(build):
    old = vary(build())
    x = data_for(old)
    before = predictions(old, x)
    variables, values = list(old.variables), weights_of(old)
    outputs = [layer.output for layer in old.layers]
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
    # `output` raises if a layer has been called once more.
    assert all(
        layer.output is output
        for layer, output in zip(old.layers, outputs, strict=True)
    )
    assert list(map(id, old.variables)) == list(map(id, variables))
    for found, expected in zip(weights_of(old), values, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(predictions(old, x), before)


def freeze_variable(model):
    model.get_layer("stem_conv").kernel.trainable = False


def freeze_nested(model):
    model.get_layer("body").trainable = False


def freeze_inside_a_layer(model):
    model.get_layer("blocks").steps[0].trainable = False
    model.get_layer("blocks").steps[1].trainable = False


@pytest.mark.parametrize(
    "build, freeze",
    [
        (nested_model, freeze_variable),
        (nested_model, freeze_nested),
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


def test_norm_frozen_inside_a_layer_keeps_its_statistics():
    old = vary(layers_in_a_list())
    freeze_inside_a_layer(old)
    new = insert_attention(old)
    step(new, data_for(old))
    found, expected = (
        model.get_layer("blocks").steps[1].get_weights() for model in (new, old)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("build", [nested_model, layers_in_a_list])
def test_frozen_network_trains_in_two_stages(build):
    old = vary(build())
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
