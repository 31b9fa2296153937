"""Which epoch of a training is tested."""

import math

import pytest

from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.plans.recipes import Recipe
from cbam_keras.study.running.checkpoints import select_epoch

ACCURACY = Measure("test_accuracy")
ERROR = math.sqrt(0.9 * 0.1 / 200)
CASES = {
    "within a standard error": (Recipe(), 0.9 - ERROR + 1e-9, 3),
    "beyond a standard error": (Recipe(), 0.9 - ERROR - 1e-9, 2),
    "steps": (Recipe(schedule="step"), 0.899, 2),
    "patience": (Recipe(patience=1), 0.899, 2),
    "the last is the best": (Recipe(schedule="step"), 0.901, 3),
}


def history_of(key, *values):
    return [
        {"epoch": epoch, key: value, "val_loss": 1.0}
        for epoch, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize("case", CASES)
def test_the_last_epoch_is_tested_unless_it_is_clearly_worse(case):
    recipe, last, epoch = CASES[case]
    history = history_of("val_accuracy", 0.5, 0.9, last)
    reason = "last epoch" if epoch == 3 else "best val_accuracy"
    assert select_epoch(history, recipe, ACCURACY, 200) == (epoch, reason)


def test_patience_selects_by_the_measure_in_its_direction():
    history = history_of("val_rmse", 3.0, 2.0, 2.5)
    for row, accuracy in zip(history, (0.9, 0.5, 0.6), strict=True):
        row["val_accuracy"] = accuracy
    recipe = Recipe(patience=1)
    lower = Measure("test_rmse", lower_is_better=True)
    assert select_epoch(history, recipe, lower, 200) == (2, "best val_rmse")
    higher = Measure("test_rmse")
    assert select_epoch(history, recipe, higher, 200) == (1, "best val_rmse")
    # The history lacks this one.
    other = Measure("test_auc")
    assert select_epoch(history, recipe, other, 200) == (
        1,
        "best val_accuracy",
    )


def test_without_validation_the_last_epoch_is_tested():
    history = [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 2.0}]
    for recipe in (Recipe(), Recipe(patience=1), Recipe(schedule="step")):
        assert select_epoch(history, recipe, ACCURACY, 0) == (2, "last epoch")
