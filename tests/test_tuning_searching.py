"""Searches: their files, tables, best network, trials, errors, workers."""

import csv
import itertools
import json

import keras
import networks
import numpy as np
import pytest
import tuning_checks
from keras import layers
from tuning_checks import TWO, search

from cbam_keras import data, study, tuning

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits", "eagerly")


@pytest.fixture(scope="module")
def trained(few_digits, eagerly, tmp_path_factory):
    """A search of two trials that are really trained, with all files."""
    before = keras.config.is_interactive_logging_enabled()
    keras.config.disable_interactive_logging()
    found = search(
        tmp_path_factory.mktemp("trained") / "search",
        recipe=TWO,
        max_trials=2,
        confirm=1,
    )
    # Each trial forgets the network before, not what the user has set.
    assert not keras.config.is_interactive_logging_enabled()
    if before:
        keras.config.enable_interactive_logging()
    return found


def test_a_search_leaves_these_files(trained):
    names = {path.name for path in trained.output.iterdir()}
    assert names >= {"best.keras", "results.json", "trials.csv"}
    assert "comparison.png" in names


def test_the_best_model_is_the_one_that_was_tested(trained):
    images = data.load("mnist5k", batch_size=35, seed=1)
    model = keras.saving.load_model(trained.output / "best.keras")
    _, validated = model.evaluate(images.validation, verbose=0)
    _, tested = model.evaluate(images.test, verbose=0)
    (row,) = trained.confirmation
    assert validated == pytest.approx(row.validation, abs=1e-6)
    assert tested == pytest.approx(trained.test_accuracy, abs=1e-6)
    assert model.layers[-2].units == trained.best.values["units"]


def test_tables_tell_the_trials(trained):
    with (trained.output / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == [1, 2]
    accuracies = [trial.val_accuracy for trial in trained.trials]
    assert [float(row["val_accuracy"]) for row in rows] == accuracies
    assert {"units", "activation", "learning_rate"} <= set(rows[0])
    assert list(trained.to_dataframe()["val_accuracy"]) == accuracies
    text = str(trained)
    *_, trials = trained.tables()
    assert trials.rows[0]["trial"] == str(trained.ranked[0].number)
    assert "2 trials: 2 finished." in text
    assert f"best.keras: {trained.best.label}, validation accuracy" in text


@pytest.mark.parametrize(
    ("accuracies", "losses", "best"),
    [
        ((0.5, 0.7, 0.6, 0.6), (1.0, 1.0, 1.0, 0.1), 3),
        ((0.5, 0.5, 0.5, 0.5), (1.0, 0.5, 0.4, 0.7), 4),
        ((0.5, 0.5, 0.5, 0.5), (1.0, 0.5, 0.5, 0.7), 3),
    ],
)
def test_the_best_has_the_highest_accuracy_then_the_lowest_loss_then_is_small(
    quick, tmp_path, accuracies, losses, best
):
    def of(numbers):
        return lambda model: numbers[model.layers[-2].units - 2]

    tuning_checks.score(quick, of(accuracies), of(losses))
    found = search(
        tmp_path, hypermodel=lambda hp: networks.mlp(hp.Int("units", 2, 5))
    )
    assert found.best.values == {"units": best}


# What a search would train.


def test_the_default_search_trains_fourteen_networks_and_twelve_again():
    found = study.estimate(tuning.Search(data="mnist5k"))
    assert [cost.network for cost in found.costs] == ["cbam-r=16-k=7"]
    assert found.trainings == 26
    assert "14 combinations, 14 trials, and 12 runs of the" in str(found)


# Which trials a search runs.


def space(**options):
    """Returns a space of kinds of attention over one and the same network."""
    return tuning.CBAMHyperModel(
        model=lambda attention: networks.linear(), **options
    )


def values(output, hypermodel, **options):
    found = search(output, hypermodel=hypermodel, **options)
    return [trial.values for trial in found.trials]


def test_the_default_search_is_all_of_its_space(quick, tmp_path):
    names = "attention", "reduction_ratio", "kernel_size"
    found = values(tmp_path, space(), max_trials=14)
    points = [tuple(map(own.get, names)) for own in found]
    first = [("none", None, None), ("se", 4, None), ("cbam", 16, 7)]
    assert points[:3] == first
    cbam = [("cbam", r, k) for r in (2, 4, 8, 16) for k in (3, 5, 7)]
    assert sorted(points[2:]) == cbam


def small(hp):
    units = hp.Choice("units", [2, 3])
    return networks.mlp(units, use_bias=hp.Boolean("bias", default=True))


def test_a_small_space_is_searched_to_its_end_without_repetition(
    quick, tmp_path
):
    found = values(tmp_path, small, max_trials=50)
    handed = [(own["units"], own["bias"]) for own in found]
    # The defaults come first.
    assert handed[0] == (2, True)
    assert sorted(handed) == sorted(itertools.product([2, 3], [False, True]))


# Wrong arguments, and trials that fail.


def lambda_model(hp):
    own, rest = layers.Lambda(lambda x: x + 1), small(hp)
    return keras.Sequential([keras.Input((28, 28, 1)), own, rest])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"hypermodel": lambda hp: networks.linear(classes=7)},
            ValueError,
            "must take images of shape .* begins with keras.Input",
        ),
        (
            {"hypermodel": lambda_model},
            ValueError,
            "can save and load.*register_keras_serializable",
        ),
        (
            {"measure": keras_tuner.Objective("val_auc", "max")},
            ValueError,
            "`measure` must be one of .*Received: measure=.*Objective",
        ),
        ({"epochs": 3}, TypeError, r"e recipe=training.Recipe\(epochs=3\)"),
        (
            {"momentum": np.ones(3)},
            TypeError,
            r"Recipe\(momentum=an array of shape \(3,\)\)",
        ),
    ],
)
def test_wrong_arguments_are_reported(tmp_path, options, error, message):
    given = {"hypermodel": tuning_checks.mlp, **options}
    with pytest.raises(error, match=message):
        search(tmp_path / "run", **given)
    assert not list(tmp_path.iterdir())


class OwnFit(tuning.CBAMHyperModel):
    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, **kwargs)


@pytest.mark.parametrize("own", [3, tuning_checks.mlp, OwnFit()])
def test_a_hypermodel_of_ones_own_is_for_keras_tuner(own, tmp_path):
    with pytest.raises(TypeError, match=r"RandomSearch.*attention_for\(hp\)"):
        tuning.search(own, "mnist5k", output=tmp_path / "run")
    assert not list(tmp_path.iterdir())


# Trials that fail are recorded, while the others go on.

# KerasTuner would end its search with the last one.
ERRORS = (
    *(ZeroDivisionError("by zero"), KeyError("none left")),
    keras_tuner.errors.FatalError("stop"),
)


def test_trials_that_fail_are_recorded_and_end_nothing(quick, tmp_path):
    def build(hp):
        index = hp.Int("index", -1, len(ERRORS))
        if 0 <= index < len(ERRORS):
            raise ERRORS[index]
        return networks.mlp()

    found = search(tmp_path, hypermodel=build)
    trials = sorted(found.trials, key=lambda x: x.values["index"])
    statuses = [trial.status for trial in trials]
    assert statuses == ["finished", *["error"] * 3, "finished"]
    trained = json.loads((found.output / "results.json").read_text())[
        "networks"
    ]
    for trial, error in zip(trials[1:4], ERRORS, strict=True):
        assert trial.message == f"{type(error).__name__}: {error}"
        assert trial.val_accuracy is None
        assert type(error).__name__ in trained[trial.number - 1]["traceback"]
    assert "2 finished, 3 error." in str(found)
