"""Weights, state and frozen layers of a model after insertion."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from insertion_checks import (
    assert_close,
    assert_holds_all_of,
    assert_predicts_the_same,
    attention_of,
    contents,
    data_for,
    layers_in_a_list,
    nested_model,
    nested_twice,
    operations,
    ours,
    predictions,
    sequential,
    several_inputs_and_outputs,
    siamese,
    small,
    step,
    vary,
)
from keras import layers
from layer_checks import to_numpy, weights_of

from cbam_keras.insertion import insert_attention


def test_vocabulary_is_copied():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("lookups are computed by TensorFlow")
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
    found = {v.path: values[v.path] for v in old.variables}
    for variable in old.variables:
        np.testing.assert_array_equal(found[variable.path], to_numpy(variable))
    added = values.keys() - found.keys()
    assert {path.split("/")[0] for path in added} == {
        f"stage{stage}_block1_bn3_attention" for stage in (1, 2)
    }


@pytest.mark.every_backend
@pytest.mark.parametrize("build", [ours, nested_model, sequential])
def test_old_model_is_not_modified(build):
    old = vary(build())
    x = data_for(old)
    before = predictions(old, x)
    variables, values = list(old.variables), weights_of(old)
    outputs = [layer.output for layer in old.layers]
    new = insert_attention(old)
    step(new, x)
    # `output` raises if a layer has been called once more.
    assert all(
        layer.output is output
        for layer, output in zip(old.layers, outputs, strict=True)
    )
    assert list(map(id, old.variables)) == list(map(id, variables))
    for found, expected in zip(weights_of(old), values, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(predictions(old, x), before)


@pytest.mark.every_backend
@pytest.mark.parametrize("build", [ours, nested_twice, layers_in_a_list])
def test_training_changes_old_and_new_weights(build):
    new = insert_attention(vary(build()))
    before = [to_numpy(v) for v in new.trainable_variables]
    step(new, data_for(new))
    changed = {
        variable.path.rsplit("/", 1)[0]
        for variable, old in zip(new.trainable_variables, before, strict=True)
        if not np.array_equal(to_numpy(variable), old)
    }
    # The first factor of each gate waits for the last, which starts at zero.
    assert changed == {
        variable.path.rsplit("/", 1)[0] for variable in new.trainable_variables
    }


def freeze_layer(model):
    model.get_layer("stem_conv").trainable = False


def freeze_nested(model):
    model.get_layer("body").trainable = False


def freeze_all(model):
    model.trainable = False


def freeze_inside_a_layer(model):
    model.get_layer("blocks").steps[0].trainable = False
    model.get_layer("blocks").steps[1].trainable = False


def freeze_variable(model):
    model.get_layer("stem_conv").kernel.trainable = False


FROZEN = [
    (nested_model, freeze_variable),
    (ours, freeze_all),
    (nested_model, freeze_layer),
    (nested_model, freeze_nested),
    (nested_model, freeze_all),
    (layers_in_a_list, freeze_all),
    (layers_in_a_list, freeze_inside_a_layer),
]


@pytest.mark.every_backend
@pytest.mark.parametrize("build, freeze", FROZEN)
def test_frozen_stays_frozen_and_attention_trains(build, freeze):
    old = vary(build())
    freeze(old)
    new = insert_attention(old)
    found = contents(new.trainable_variables)
    for gate in attention_of(new):
        assert all(variable.trainable for variable in gate.variables)
        found -= contents(gate.variables)
    assert found == contents(old.trainable_variables)


@pytest.mark.every_backend
@pytest.mark.parametrize("build", [ours, nested_model, layers_in_a_list])
def test_training_leaves_a_frozen_network_to_the_bit(build):
    old = vary(build())
    freeze_all(old)
    new = insert_attention(old)
    x = data_for(old)
    gate = attention_of(new)[0]
    before = weights_of(gate)
    step(new, x)
    # Moving statistics too.
    assert_holds_all_of(new, old)
    assert any(
        not np.array_equal(one, other)
        for one, other in zip(weights_of(gate), before, strict=True)
    )


@pytest.mark.every_backend
@pytest.mark.parametrize("build", [ours, nested_model, layers_in_a_list])
def test_frozen_network_is_trained_again_in_a_second_stage(build):
    old = vary(build())
    trained = contents(old.trainable_variables)
    freeze_all(old)
    new = insert_attention(old)
    x = data_for(old)
    step(new, x)
    # Under TensorFlow, `True` alone would be skipped as no change.
    new.trainable = False
    new.trainable = True
    found = contents(new.trainable_variables)
    for gate in attention_of(new):
        found -= contents(gate.trainable_variables)
    assert found == trained
    kernel = to_numpy(new.get_layer("stem_conv").kernel)
    step(new, x)
    assert not np.array_equal(
        to_numpy(new.get_layer("stem_conv").kernel), kernel
    )


@pytest.mark.every_backend
def test_norm_frozen_inside_a_layer_keeps_its_statistics():
    old = vary(layers_in_a_list())
    freeze_inside_a_layer(old)
    new = insert_attention(old)
    step(new, data_for(old))
    found, expected = (
        model.get_layer("blocks").steps[1].get_weights() for model in (new, old)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "build",
    [ours, nested_twice, siamese, several_inputs_and_outputs, operations],
)
def test_result_is_saved_and_loaded(build, tmp_path):
    new = insert_attention(vary(build()), identity=False)
    new.save(tmp_path / "new.keras")
    loaded = keras.saving.load_model(tmp_path / "new.keras")
    assert_predicts_the_same(loaded, new, data_for(new))


LOAD = """
import pathlib, sys
import keras, numpy as np
import cbam_keras

folder = pathlib.Path(sys.argv[1])
model = keras.saving.load_model(folder / "new.keras")
found = model(np.load(folder / "x.npy"), training=False)
np.save(folder / "found.npy", keras.ops.convert_to_numpy(found))
"""


@pytest.mark.slow
def test_result_loads_in_a_fresh_process(tmp_path):
    new = insert_attention(vary(nested_model()), identity=False)
    x = data_for(new)
    new.save(tmp_path / "new.keras")
    np.save(tmp_path / "x.npy", x)
    subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], check=True)
    (expected,) = predictions(new, x)
    found = np.load(tmp_path / "found.npy")
    assert_close([found], [expected])
