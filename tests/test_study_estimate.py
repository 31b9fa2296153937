"""What a study will train, and how long what is left takes."""

import dataclasses
import json
import random

import numpy as np
import pytest
from data_checks import arrays
from networks import linear, mlp
from study_checks import planned

from cbam_keras import (
    data,
    study,
    training,
    tuning,
)
from cbam_keras.study import Cost, Estimate, comparison

LINEAR = study.Variant("linear", lambda data: linear())
MLP = study.Variant("mlp", lambda data: mlp(2))


def test_an_estimate_counts_every_network_and_leaves_all_as_it_was(
    few_digits, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    # Two batches per epoch, in another order each.
    images = data.load("mnist5k", batch_size=40)

    def seen():
        labels = [labels for _, labels in images.train]
        images.train.on_epoch_end()
        return np.concatenate(labels)

    images.set_epoch(0)
    before = seen()
    assert (seen() != before).any()
    images.set_epoch(0)
    state = random.getstate(), np.random.get_state()[1].tolist()
    options = {"task": study.Classification(images), "seeds": (0, 1)}
    three = training.Recipe(epochs=3)
    found = study.estimate(planned(LINEAR, MLP, recipe=three, **options))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state
    assert (seen() == before).all()
    assert list(tmp_path.iterdir()) == []

    # 16 inputs: 16 x 10, and 16 x 2 + 2 x 10, with biases. The pooling reads
    # 28 x 28 pixels, and no MACs are counted for it.
    assert [(c.network, c.parameters, c.macs) for c in found.costs] == [
        *(("linear", 170, 160), ("mlp", 64, 52))
    ]
    assert (found.epochs, found.times, found.trainings) == (3, 2, 4)


@pytest.mark.parametrize("plan", [comparison.plan, tuning.Search], ids="cs")
def test_default_epochs_make_200_steps_of_images_of_the_users(plan, capsys):
    # 48 training images: one step per epoch.
    images = arrays(classes=2, per_class=34, shape=(16, 16, 1))
    assert study.estimate(plan(data=images)).epochs == 200
    (line, *_) = capsys.readouterr().out.splitlines()
    assert line.endswith("14 in test; epochs by default: 200, steps: 200")
    four = plan(data=images, recipe=training.Recipe(epochs=4))
    assert study.estimate(four).epochs == 4


def test_default_epochs_of_a_run_are_recorded(tmp_path, quick):
    images = arrays(classes=10, per_class=5, shape=(28, 28, 1))
    recipe = training.Recipe(epochs=2, batch_size=10, least_steps=11)
    found = training.train({"a": linear}, images, recipe, output=tmp_path)
    # Three steps per epoch.
    assert [outcome.epochs for outcome in found.outcomes] == [4]
    recipe = training.Recipe(epochs=4, batch_size=10)
    again = training.train({"a": linear}, images, recipe, output=tmp_path)
    assert again.history == found.history


def test_an_estimate_prints_as_a_table_and_as_json():
    costs = (Cost("a", 10, None), Cost("b", 20, 3000))
    found = Estimate(costs, epochs=4, times=3)
    *_, row, _, last = str(found).splitlines()
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["b", "20", "3,000", "4", "3"]
    assert last == "6 training runs of at most 4 epochs"
    assert json.loads(found.json()) == {
        "networks": [dataclasses.asdict(cost) for cost in costs],
        "epochs": 4,
        "trainings": 6,
    }


@pytest.mark.parametrize(("weights", "steps"), [(None, 200), ("imagenet", 60)])
def test_few_images_are_trained_on_for_more_epochs(weights, steps):
    recipe = comparison.default_recipe("EfficientNetLite0", weights, "photos")
    assert recipe.least_steps == steps
    digits = comparison.default_recipe("tiny", None, "mnist5k")
    assert digits.least_steps is None
