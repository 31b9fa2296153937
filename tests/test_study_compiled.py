"""Networks of several seeds, which are compiled once."""

import types

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
    model = keras.Sequential([keras.Input((3,)), *others, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(name="sgd"), loss)
    return model


def test_only_networks_that_compute_the_same_are_shared(monkeypatch):
    images = types.SimpleNamespace(train=[[np.ones((2, 3), "float32")]])

    def like(model, fingerprint="same"):
        return shared.reuse(model, fingerprint, images)

    shared, first, other = compiled.CompiledNetworks(), made(), made()
    assert like(first) is first
    assert like(other) is first
    np.testing.assert_array_equal(
        first.get_weights()[0], other.get_weights()[0]
    )
    # A scale is no variable; the code of a user may read one from its data.
    like(made(layers.Rescaling(2)), "scaled")
    scaled = made(layers.Rescaling(3))
    assert like(scaled, "scaled") is scaled
    another = made(loss="mae")
    assert like(another) is another
    monkeypatch.setattr(compiled, "MOST_PARAMETERS", 3)
    assert like(other) is other
