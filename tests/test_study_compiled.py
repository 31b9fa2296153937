"""Networks of several seeds, which are compiled once."""

import keras
import numpy as np
import pytest
from keras import layers
from networks import linear
from study_checks import planned
from training_checks import SMALL

from cbam_keras import study
from cbam_keras.study.running import compiled

pytestmark = pytest.mark.usefixtures("brighter_digits")


def forgetful(data):
    """Returns a network with states that are no trainable weights."""
    norm, drop = layers.BatchNormalization(), layers.Dropout(0.5)
    return linear(layers.Dense(8), norm, drop, layers.Dense(10))


@pytest.mark.slow
@pytest.mark.every_backend
def test_networks_of_several_seeds_are_compiled_once(tmp_path, monkeypatch):
    compiles, make = [], keras.Model.make_train_function

    def noted(self, *args, **kwargs):
        compiles.append(self.train_function is None)
        return make(self, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "make_train_function", noted)
    variant = study.Variant("forgetful", forgetful)

    def run(*seeds):
        plan = planned(variant, seeds=seeds, recipe=SMALL)
        return study.run(plan, tmp_path / f"{seeds}")

    both = run(0, 1, 2)
    assert compiles == [True, False, False]
    *_, last = both.outcomes
    (alone,) = run(2).outcomes
    assert last.metrics == pytest.approx(alone.metrics, abs=1e-6)
    for row, expected in zip(last.history, alone.history, strict=True):
        del row["seconds"], expected["seconds"]
        assert row == pytest.approx(expected, abs=1e-6)


def made(*others, loss="mse"):
    inputs = keras.Input((3,))
    x = inputs
    for layer in others:
        x = layer(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile(keras.optimizers.SGD(name="sgd"), loss)
    return model


class Scaled(layers.Layer):
    """A layer with a value that is no variable, as one of its data may be."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_only_networks_that_compute_the_same_are_shared(monkeypatch):
    class Data:
        train = [(np.ones((2, 3), "float32"),)]

    def like(model, layers_of="same"):
        return shared.like(model, layers_of, Data)

    shared, first, other = compiled.CompiledNetworks(), made(), made()
    expected = other.get_weights()
    assert like(first) is first
    assert like(other) is first
    for weight, value in zip(first.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert like(made(Scaled(2)), "scaled")
    second = made(Scaled(3))
    assert like(second, "scaled") is second
    another = made(loss="mae")
    assert like(another) is another
    monkeypatch.setattr(compiled, "MOST_PARAMETERS", 3)
    assert like(other) is other
