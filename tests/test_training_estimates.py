"""Estimates of how long a training takes."""

import dataclasses
import functools
import random

import numpy as np
import pytest
from networks import linear, mlp

from cbam_keras import data, training
from cbam_keras._terminal import in_words
from cbam_keras.training import Cost, Estimate, Recipe, estimate

pytestmark = pytest.mark.usefixtures("few_digits")

RECIPE = Recipe(epochs=3, batch_size=20)
NETWORKS = {"linear": linear, "mlp": functools.partial(mlp, 2)}


@pytest.fixture
def images():
    return data.load("mnist5k", batch_size=20)


@pytest.mark.every_backend
def test_an_estimate_counts_every_network(images):
    found = estimate(NETWORKS, images, RECIPE, times=2, workers=4)
    linear_, mlp_ = found.costs
    assert [cost.network for cost in found.costs] == ["linear", "mlp"]
    # 16 inputs: 16 x 10, and 16 x 2 + 2 x 10, with biases.
    assert (linear_.parameters, mlp_.parameters) == (170, 64)
    # The pooling reads 28 x 28 pixels, and no MACs are counted for it.
    assert (linear_.macs, mlp_.macs) == (160, 52)
    assert all(cost.seconds_per_epoch > 0 for cost in found.costs)
    assert all(cost.seconds_once > 0 for cost in found.costs)
    assert (found.epochs, found.times, found.workers) == (3, 2, 4)


def test_the_total_is_over_networks_epochs_times_and_workers():
    costs = (Cost("a", 10, 1000, 30.0, 5.0), Cost("b", 20, 3000, 60.0, 7.0))
    found = Estimate(costs, epochs=4, times=3, workers=2)
    assert found.seconds == ((5 + 4 * 30) + (7 + 4 * 60)) * 3 / 2
    assert found.seconds_of(costs[0]) == 3 * (5 + 4 * 30)
    lines = str(found).splitlines()
    assert lines[-1] == (
        "About 9 minutes with 2 workers, each on a device like this"
    )
    (row,) = [line for line in lines if " b " in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["b", "20", "3,000", "60.0", "4", "3", "741"]
    alone = dataclasses.replace(found, workers=1)
    assert str(alone).splitlines()[-1] == "About 19 minutes on this device"


@pytest.mark.every_backend
def test_an_estimate_leaves_everything_as_it_was(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = training.train(NETWORKS, images, RECIPE, output="plain")
    before = random.getstate(), np.random.get_state()[1].tolist()
    estimate(NETWORKS, images, RECIPE)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]
    after = training.train(NETWORKS, images, RECIPE, output="after")
    keys = ("loss", "accuracy", "val_loss", "val_accuracy")
    assert [[row[key] for key in keys] for row in after.history] == [
        [row[key] for key in keys] for row in plain.history
    ]


def test_a_single_batch_is_enough(few_digits):
    images = data.load("mnist5k", batch_size=1000)
    (cost,) = estimate({"linear": linear}, images, RECIPE).costs
    assert cost.seconds_per_epoch > 0


@pytest.mark.parametrize("name", ["times", "workers"])
def test_counts_must_be_positive(images, name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive"):
        estimate(NETWORKS, images, RECIPE, **{name: 0})


def test_a_network_that_does_not_fit_is_refused(images):
    wrong = functools.partial(linear, classes=7)
    with pytest.raises(ValueError, match="must take images"):
        estimate({"wrong": wrong}, images, RECIPE)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (90, "90 seconds"),
        (150, "2 minutes"),
        (5400, "90 minutes"),
        (10_000, "3 hours"),
        (600_000, "7 days"),
    ],
)
def test_durations_read_in_a_fitting_unit(seconds, words):
    assert in_words(seconds) == words
