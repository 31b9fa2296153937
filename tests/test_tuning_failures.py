"""Trials that fail, and searches that are interrupted."""

import json

import keras
import pytest
import tuning_checks
from keras import layers

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits")


def failing(error):
    def build(hp):
        units = hp.Choice("units", [2, 3, 4, 5, 6, 7])
        if units % 2:
            raise error
        return tuning_checks.network(units)

    return build


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "error, outcome, message",
    [
        (ZeroDivisionError("by zero"), "error", "ZeroDivisionError: by zero"),
        (MemoryError(), "out of memory", "MemoryError: no message"),
        (RuntimeError("RESOURCE_EXHAUSTED: ..."), "out of memory", "..."),
        (
            type("OutOfMemoryError", (RuntimeError,), {})("CUDA"),
            "out of memory",
            "CUDA",
        ),
        (keras_tuner.errors.FatalError("stop"), "error", "stop"),
    ],
    ids=["exception", "memory", "jax", "torch", "fatal"],
)
def test_a_trial_that_fails_is_recorded(
    quick, tmp_path, error, outcome, message
):
    found = tuning_checks.search(
        tmp_path / "run", "grid", hypermodel=failing(error)
    )
    assert [trial.outcome for trial in found.trials] == [
        "finished",
        outcome,
    ] * 3
    assert message in found.trials[1].message
    assert found.trials[1].val_accuracy is None
    reported = json.loads(
        (found.output / "trial_0002/outcome.json").read_text()
    )
    assert type(error).__name__ in reported["traceback"]
    assert f"3 {outcome}" in str(found)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="an error of TensorFlow"
)
def test_tensorflow_out_of_memory_is_reported_as_such(quick, tmp_path):
    import tensorflow as tf

    error = tf.errors.ResourceExhaustedError(None, None, "OOM")
    found = tuning_checks.search(
        tmp_path / "run", "grid", hypermodel=failing(error), max_trials=2
    )
    assert found.trials[1].outcome == "out of memory"


def test_five_failures_in_a_row_end_nothing(quick, tmp_path):
    def build(hp):
        units = hp.Int("units", 2, 8)
        if 2 < units < 8:
            raise ZeroDivisionError("by zero")
        return tuning_checks.network(units)

    found = tuning_checks.search(
        tmp_path / "run", "grid", hypermodel=build, max_trials=7
    )
    assert [trial.outcome for trial in found.trials] == [
        "finished",
        *["error"] * 5,
        "finished",
    ]


@pytest.mark.every_backend
def test_a_loss_that_is_no_number_is_reported(tmp_path):
    def build(hp):
        units = hp.Choice("units", [2, 3])
        model = tuning_checks.network(units)
        if units == 3:
            model.add(layers.Rescaling(float("nan")))
        return model

    found = tuning_checks.search(tmp_path / "run", hypermodel=build)
    assert [trial.outcome for trial in found.trials] == ["finished", "diverged"]
    assert "nan" in found.trials[1].message
    assert found.best.number == 1


@pytest.mark.parametrize(
    "limit, value", [("max_parameters", 90), ("max_macs", 80)]
)
def test_a_network_over_the_budget_is_not_trained(
    quick, tmp_path, limit, value
):
    found = tuning_checks.search(
        tmp_path / "run",
        "grid",
        hypermodel=lambda hp: tuning_checks.network(hp.Int("units", 2, 5)),
        **{limit: value},
    )
    # 27 u + 10 parameters, 26 u multiply-accumulates.
    assert (
        [trial.outcome for trial in found.trials]
        == [
            "finished",
            *["over budget"] * 3,
        ]
        if limit == "max_parameters"
        else ["finished", "finished"]
    )
    over = [trial for trial in found.trials if trial.outcome == "over budget"]
    assert all(trial.epochs == 0 for trial in over)
    assert [trial.parameters for trial in found.trials] == [64, 91, 118, 145]


def test_a_search_in_which_nothing_finished_says_why(quick, tmp_path):
    with pytest.raises(RuntimeError, match="None of the 4 trials finished"):
        tuning_checks.search(
            tmp_path / "run",
            max_trials=4,
            max_parameters=10,
        )
    reported = json.loads((tmp_path / "run/results.json").read_text())
    assert [trial["outcome"] for trial in reported["trials"]] == [
        "over budget"
    ] * 4
    with (tmp_path / "run/trials.csv").open() as file:
        assert len(file.readlines()) == 5


def test_ctrl_c_ends_a_search_which_then_resumes(quick, tmp_path):
    pretend, calls = tuning_checks.pretend, []

    def interrupted(*arguments, **options):
        calls.append(options)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return pretend(*arguments, **options)

    quick.setattr("cbam_keras.training.fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuning_checks.search(tmp_path / "run")
    found = tuning_checks.search(tmp_path / "run")
    assert [trial.outcome for trial in found.trials] == ["finished"] * 6
    assert len(calls) == 7
