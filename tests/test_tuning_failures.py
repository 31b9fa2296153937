"""Trials that fail: recorded, while the others go on."""

import contextlib
import json
import signal

import keras
import networks
import pytest
import tuning_checks
from keras import layers

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits")

ERRORS = [
    (ZeroDivisionError("by zero"), "error", "ZeroDivisionError: by zero"),
    (MemoryError(), "out of memory", "MemoryError: no message"),
    # As JAX and PyTorch report it.
    (RuntimeError("RESOURCE_EXHAUSTED: ..."), "out of memory", "EXHAUSTED"),
    (
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA"),
        "out of memory",
        "CUDA",
    ),
    (keras_tuner.errors.FatalError("stop"), "error", "stop"),
]


def of_units(hp):
    return networks.mlp(hp.Int("units", 2, 4))


def test_trials_that_fail_are_recorded_and_end_nothing(quick, tmp_path):
    """Five in a row, where KerasTuner would give up after three."""

    def build(hp):
        units = hp.Int("units", 2, 8)
        if 2 < units < 8:
            raise ERRORS[units - 3][0]
        return networks.mlp(units)

    found = tuning_checks.search(
        tmp_path / "run", "grid", hypermodel=build, max_trials=7
    )
    first, *failed, last = found.trials
    assert first.outcome == last.outcome == "finished"
    for trial, (error, outcome, message) in zip(failed, ERRORS, strict=True):
        assert trial.outcome == outcome
        assert message in trial.message
        assert trial.val_accuracy is None
        reported = json.loads(
            (
                found.output / f"trial_{trial.number:04d}/outcome.json"
            ).read_text()
        )
        assert type(error).__name__ in reported["traceback"]
    assert "2 finished, 2 error, 3 out of memory" in str(found)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="an error of TensorFlow"
)
def test_tensorflow_out_of_memory_is_reported_as_such(quick, tmp_path):
    import tensorflow as tf

    def fit(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    quick.setattr(keras.Model, "fit", fit)
    with pytest.raises(RuntimeError, match=r"trial 1: out of memory .*OOM"):
        tuning_checks.search(tmp_path / "run", max_trials=1)


def test_a_loss_that_is_no_number_is_reported(quick, tmp_path):
    def loss(model):
        return float("nan") if model.layers[-2].units == 3 else 1.0

    tuning_checks.score(quick, lambda model: 0.5, loss)
    found = tuning_checks.search(tmp_path / "run", "grid", hypermodel=of_units)
    outcomes = [trial.outcome for trial in found.trials]
    assert outcomes == ["finished", "diverged", "finished"]
    assert "nan" in found.trials[1].message
    assert found.best.number == 1


@pytest.mark.parametrize(
    ("limit", "over"),
    [
        # 27 u + 10 parameters, 26 u multiply-accumulates.
        ({"max_parameters": 91}, {4: "118 parameters, of at most 91"}),
        (
            {"max_macs": 60},
            {3: "78 MACs, of at most 60", 4: "104 MACs, of at most 60"},
        ),
    ],
)
def test_a_network_over_the_budget_is_not_trained(quick, tmp_path, limit, over):
    found = tuning_checks.search(
        tmp_path / "run", "grid", hypermodel=of_units, **limit
    )
    assert [trial.parameters for trial in found.trials] == [64, 91, 118]
    for trial in found.trials:
        message = over.get(trial.values["units"])
        if message is None:
            assert trial.outcome == "finished"
        else:
            assert (trial.outcome, trial.epochs) == ("over budget", 0)
            assert message in trial.message


def test_a_search_in_which_nothing_finished_says_why(quick, tmp_path):
    with pytest.raises(RuntimeError, match="None of the 3 trials finished"):
        tuning_checks.search(tmp_path / "run", max_trials=3, max_parameters=10)
    reported = json.loads((tmp_path / "run/results.json").read_text())
    outcomes = [trial["outcome"] for trial in reported["trials"]]
    assert outcomes == ["over budget"] * 3
    with (tmp_path / "run/trials.csv").open() as file:
        assert len(file.readlines()) == 4


def test_a_trial_whose_network_cannot_be_loaded_is_recorded(quick, tmp_path):
    def build(hp):
        inner = networks.mlp(hp.Choice("units", [2, 3]))
        if hp.get("units") == 2:
            return inner
        own = layers.Lambda(lambda x: x + 1)
        return keras.Sequential([keras.Input((28, 28, 1)), own, inner])

    found = tuning_checks.search(tmp_path / "run", hypermodel=build)
    reported = {t.values["units"]: t.outcome for t in found.trials}
    assert reported == {2: "finished", 3: "error"}


def test_ctrl_c_ends_the_search_whatever_a_call_makes_of_it(quick, tmp_path):
    def interrupted(*_, **__):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise SystemError("returned a result with an exception set")

    # A shell lets what it runs in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with quick.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(keras.Model, "fit", interrupted)
        tuning_checks.search(tmp_path / "run", max_trials=1)
    signal.signal(signal.SIGINT, before)
    found = tuning_checks.search(tmp_path / "run", max_trials=1)
    assert [trial.outcome for trial in found.trials] == ["finished"]
