"""Which network of a training is kept; real trainings resume exactly."""

import dataclasses
import functools
import random

import keras
import numpy as np
import pretended
import pytest
from folder_checks import Killed, at_files
from keras import layers
from networks import linear
from training_checks import SMALL, close, numbers

from cbam_keras import training

pytestmark = pytest.mark.usefixtures("brighter_digits")

SGD = dataclasses.replace(
    SMALL, optimizer="sgd", learning_rate=0.5, schedule="step", step_epochs=2
)

LAST_SEED = dataclasses.replace(SMALL, seed=2**32 - 1, class_weight="balanced")
HALF = dataclasses.replace(SGD, learning_rate=0.05)


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.3, 2.0), (0.3, 1.5), (0.2, 1.0)], 2),
        ([(0.3, 2.0), (0.1, 0.5), (0.3, 2.0)], 1),
        ([(0.0, 1.0), (1.0, 1.0), (0.0, 1.0), (0.0, 1.0)], 2),
    ],
    ids=["tie_by_loss", "full_tie", "later_ones_worse"],
)
def test_the_best_network_is_kept_by_accuracy_then_by_loss(
    rows, best, tmp_path, monkeypatch
):
    def numbers(model, *key):
        return rows[key[-1]][::-1] if key[0] == "validation" else (1.0, 0.5)

    pretended.install(monkeypatch)
    monkeypatch.setattr(pretended, "numbers", numbers)
    recipe = training.Recipe(epochs=len(rows), batch_size=100, schedule="step")
    found = training.train(
        {"linear": linear}, "mnist5k", recipe, output=tmp_path
    )
    assert found.runs[0].best_epoch == best
    kept = keras.saving.load_model(tmp_path / "linear-seed0/linear-seed0.keras")
    # One step an epoch.
    assert int(kept.optimizer.iterations.numpy()) == best


def partly_frozen():
    frozen = layers.Dense(10, trainable=False)
    return linear(layers.Dense(10), frozen, activation="relu")


@pytest.mark.parametrize(
    ("accuracies", "options", "epochs", "best"),
    [
        ([1, 5, 3, 4, 9], {"patience": 2}, 4, 2),
        ([1, 5, 3, 6, 6, 6], {"patience": 2}, 6, 4),
        ([5, 1, 1, 1, 1], {"patience": 2, "frozen_epochs": 2}, 4, 1),
        ([1, 1, 1, 1, 5], {"patience": 9}, 5, 5),
    ],
    ids=["ends", "equal", "stages", "whole"],
)
def test_a_training_ends_once_it_has_lost_patience(
    accuracies, options, epochs, best, tmp_path, monkeypatch, capsys
):
    def numbers(model, *key):
        return 1.0, accuracies[key[-1]] / 10 if "test" not in key else 0.5

    pretended.install(monkeypatch)
    monkeypatch.setattr(pretended, "numbers", numbers)
    most = len(accuracies) - options.get("frozen_epochs", 0)
    recipe = training.Recipe(epochs=most, batch_size=100, **options)
    networks = {"a": partly_frozen}
    train = functools.partial(training.train, networks, "mnist5k", recipe)
    results = train(output=tmp_path)
    (run,) = results.runs
    assert (run.epochs, run.best_epoch) == (epochs, best)
    assert len(results.history) == epochs
    assert train(output=tmp_path).outcomes == results.outcomes


# Resuming; more in test_study_resuming.py.


def with_dropout():
    return linear(layers.Dropout(0.5), layers.Dense(10), activation="relu")


def with_random_layers():
    inputs = keras.Input((28, 28, 1))
    x = layers.RandomTranslation(0.2, 0.2)(inputs)
    x = layers.Flatten()(layers.RandomContrast(0.5)(x))
    return keras.Model(inputs, layers.Dense(10, "softmax")(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "recipe", "dtype"),
    [
        pytest.param(
            *(with_dropout, LAST_SEED, "float32"),
            marks=pytest.mark.every_backend,
        ),
        (with_random_layers, HALF, "float16"),
    ],
    ids=["adamw", "sgd_in_float16"],
)
def test_randomness_resumes_exactly(tmp_path, build, recipe, dtype):
    def note(count, source):
        if "epoch-" in source.name:
            drawn.append([random.random(), np.random.rand()])
            if keras.backend.backend() == "torch":
                import torch

                # As its dropout does.
                drawn[-1].append(float(torch.rand(())))
            if len(drawn) == 5:
                raise Killed

    if dtype == "float16":
        keras.config.set_dtype_policy("mixed_float16")
    networks, drawn = {"network": build}, []
    train = functools.partial(training.train, networks, "mnist5k", recipe)
    cut = tmp_path / "cut"
    with at_files(tmp_path, note):
        expected = train(output=tmp_path / "whole")
        with pytest.raises(Killed):
            train(output=cut)
        assert numbers(train(output=cut)) == close(expected)
    one, two, three, *again = drawn
    assert again == [one, two, two, three]
    # No epoch draws what another one has drawn.
    assert len({*one, *two, *three}) == 3 * len(one)
    (path,) = cut.glob("network-seed*/network-seed*.keras")
    saved = keras.saving.load_model(path)
    assert saved.layers[-1].compute_dtype == dtype
    assert saved.layers[-1].variable_dtype == "float32"
