"""A search that runs through: its files, tables, best network, space."""

import csv

import keras
import networks
import pytest
import tuning_checks
from own_spaces import Space
from tuning_checks import TWO, search

from cbam_keras import data, study, tuning

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture(scope="module")
def trained(few_digits, tmp_path_factory):
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
        tmp_path,
        "grid",
        hypermodel=lambda hp: networks.mlp(hp.Int("units", 2, 5)),
    )
    assert found.best.values == {"units": best}


def test_values_of_many_bytes_are_cut_in_the_names_of_files(quick, tmp_path):
    letters = [letter * 200 for letter in ("𝔸", "𝔹", "a")]

    def written(hp):
        hp.Choice("letters", letters)
        return networks.mlp()

    found = search(tmp_path, "grid", hypermodel=written)
    assert {trial.status for trial in found.trials} == {"finished"}
    assert {x.values["letters"] for x in found.trials} <= {*letters}


# What a search would train.


def test_the_default_search_trains_fourteen_networks_and_twelve_again():
    found = study.estimate(tuning.Search(data="mnist5k"))
    assert [cost.network for cost in found.costs] == ["cbam-r=16-k=7"]
    assert found.trainings == 26
    assert "14 combinations, 14 trials, and 12 trainings" in str(found)


def test_a_grid_tries_all_combinations():
    planned = tuning.Search(
        hypermodel=Space(tuning_checks.mlp),
        data="mnist5k",
        recipe=tuning_checks.THREE,
        algorithm="grid",
        confirm=0,
    )
    found = study.estimate(planned)
    # Of 4 units, tanh or relu with bias or not, and 5 rates.
    assert "60 trials," in found.about
    assert found.times == 60
