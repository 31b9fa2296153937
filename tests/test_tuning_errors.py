"""Wrong arguments, reported before any work; trials that fail."""

import json

import keras
import networks
import numpy as np
import pytest
import tuning_checks
from keras import layers
from tuning_checks import fail, of_units, search

from cbam_keras import tuning

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits")


def lambda_model(hp):
    own = layers.Lambda(lambda x: x + 1)
    return keras.Sequential([keras.Input((28, 28, 1)), own, networks.mlp()])


@pytest.mark.parametrize(
    "options, error, message",
    [
        (
            {"algorithm": "bayesian"},
            ValueError,
            '`algorithm` must be one of "random", "grid".*BayesianOptimization',
        ),
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
    given = {"hypermodel": tuning_checks.mlp, "max_trials": None, **options}
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
    *(ZeroDivisionError("by zero"), MemoryError("none left")),
    keras_tuner.errors.FatalError("stop"),
)


def test_trials_that_fail_are_recorded_and_end_nothing(quick, tmp_path):
    def build(hp):
        index = hp.Int("index", -1, len(ERRORS))
        if 0 <= index < len(ERRORS):
            raise ERRORS[index]
        return networks.mlp()

    found = search(tmp_path, "grid", hypermodel=build, max_trials=5)
    statuses = [trial.status for trial in found.trials]
    failed = ["error", "out of memory", "error"]
    assert statuses == ["finished", *failed, "finished"]
    trained = json.loads((found.output / "results.json").read_text())[
        "networks"
    ]
    for trial, error in zip(found.trials[1:4], ERRORS, strict=True):
        assert trial.message == f"{type(error).__name__}: {error}"
        assert trial.val_accuracy is None
        assert type(error).__name__ in trained[trial.number - 1]["traceback"]
    assert "2 finished, 2 error, " in str(found)


def test_failed_trials_are_tried_again(quick, tmp_path):
    def run():
        options = {"max_trials": 3, "hypermodel": of_units}
        trained = []
        with pytest.MonkeyPatch.context() as patch:
            tuning_checks.before_fit(patch, lambda *_: trained.append(1))
            try:
                found = search(tmp_path, "grid", **options)
            except KeyboardInterrupt:
                return None, len(trained)
        return [trial.status for trial in found.trials], len(trained)

    with pytest.MonkeyPatch.context() as patch:
        fail(patch, lambda number: number == 2, KeyboardInterrupt)
        fail(patch, lambda number: number == 1)
        # A failure, a success, an interruption.
        assert run() == (None, 3)
    with pytest.MonkeyPatch.context() as patch:
        # The first one succeeds now.
        fail(patch, lambda number: number == 2)
        outcomes, _ = run()
    assert outcomes[:2] == ["finished", "finished"]
    assert "error" in outcomes
    assert run() == (["finished"] * 3, 1)
    assert run() == (["finished"] * 3, 0)
