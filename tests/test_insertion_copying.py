"""Weights, state and frozen layers of a model after insertion."""

import keras
import numpy as np
import pytest
from insertion_checks import (
    attention_of,
    contents,
    data_for,
    layers_in_a_list,
    nested_twice,
    predictions,
    vary,
)
from keras import layers
from layer_checks import random_input, to_numpy, weights_of

from cbam_keras import CBAM, freeze_batch_norm
from cbam_keras.insertion import insert_attention


def step(model, x, seed=3):
    """Trains for one step on random targets."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(len(x), *model.output.shape[1:]))
    model.compile(keras.optimizers.SGD(0.01), loss="mse")
    model.fit(x, y.astype("float32"), batch_size=len(x), verbose=0)


@pytest.mark.parametrize("build", [nested_twice, layers_in_a_list])
def test_training_changes_all_of_the_new_model_and_nothing_of_the_old(build):
    old = vary(build())
    x = data_for(old)
    before = predictions(old, x)
    values = weights_of(old)
    new = insert_attention(old, CBAM)
    trainable = [to_numpy(v) for v in new.trainable_variables]
    step(new, x)
    # The first factor of a gate waits for the last, which starts at zero.
    owners = [v.path.rsplit("/", 1)[0] for v in new.trainable_variables]
    assert set(owners) == {
        owner
        for owner, variable, value in zip(
            owners, new.trainable_variables, trainable, strict=True
        )
        if not np.array_equal(to_numpy(variable), value)
    }
    for found, expected in zip(weights_of(old), values, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(predictions(old, x), before)


@pytest.mark.parametrize(
    "build, parts",
    [
        (nested_twice, lambda model: [model]),
        (nested_twice, lambda model: [model.get_layer("outer")]),
        (nested_twice, lambda model: [model.get_layer("stem_conv").kernel]),
        (layers_in_a_list, lambda model: model.get_layer("blocks").steps[:2]),
    ],
    ids=["all", "nested model", "variable", "inside a layer"],
)
def test_frozen_stays_frozen_and_attention_trains(build, parts):
    old = vary(build())
    for part in parts(old):
        part.trainable = False
    new = insert_attention(old, CBAM)
    found = contents(new.trainable_variables)
    for gate in attention_of(new):
        assert all(variable.trainable for variable in gate.variables)
        found -= contents(gate.variables)
    assert found == contents(old.trainable_variables)


def test_averages_of_a_nested_backbone_do_not_change():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(image)
    x = layers.BatchNormalization(name="inner")(x)
    x = CBAM(2, spatial_batch_norm=True, name="gate")(x)
    backbone = keras.Model(image, x, name="backbone")
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="outer")(inputs)
    x = layers.GlobalAveragePooling2D()(backbone(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    model.trainable = False
    model.trainable = True
    assert freeze_batch_norm(model) == 2
    model.compile("sgd", loss="mse")
    gate = backbone.get_layer("gate").spatial_attention.batch_norm
    norms = [model.get_layer("outer"), backbone.get_layer("inner"), gate]
    before = [to_numpy(layer.moving_mean).copy() for layer in norms]
    model.fit(random_input((8, 8, 8, 3)), np.zeros((8, 2)), verbose=0)
    after = [to_numpy(layer.moving_mean) for layer in norms]
    same = [np.array_equal(*pair) for pair in zip(before, after, strict=True)]
    assert same == [True, True, False]
