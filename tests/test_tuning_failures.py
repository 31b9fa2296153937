"""Trials that fail: recorded, while the others go on."""

import contextlib
import json
import signal

import keras
import networks
import pytest
import tuning_checks

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
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    exhausted = tf.errors.ResourceExhaustedError(None, None, "OOM")
    ERRORS.append((exhausted, "out of memory", "OOM"))


def of_units(hp):
    return networks.mlp(hp.Int("units", 2, 4))


def test_trials_that_fail_are_recorded_and_end_nothing(quick, tmp_path):
    """All in a row, where KerasTuner would give up after three."""

    def build(hp):
        index = hp.Int("index", -1, len(ERRORS))
        if 0 <= index < len(ERRORS):
            raise ERRORS[index][0]
        return networks.mlp()

    count = len(ERRORS) + 2
    found = tuning_checks.search(
        tmp_path / "run", "grid", hypermodel=build, max_trials=count
    )
    first, *failed, last = found.trials
    cells = json.loads((found.output / "results.json").read_text())["cells"]
    assert first.outcome == last.outcome == "finished"
    for trial, (error, outcome, message) in zip(failed, ERRORS, strict=True):
        assert trial.outcome == outcome
        assert message in trial.message
        assert trial.val_accuracy is None
        assert type(error).__name__ in cells[trial.number - 1]["traceback"]
    assert "2 finished, 2 error, " in str(found)


def test_a_loss_that_is_no_number_is_reported(quick, tmp_path):
    def loss(model):
        return float("nan") if model.layers[-2].units == 3 else 1.0

    tuning_checks.score(quick, lambda model: 0.5, loss)
    found = tuning_checks.search(tmp_path / "run", "grid", hypermodel=of_units)
    outcomes = [trial.outcome for trial in found.trials]
    assert outcomes == ["finished", "diverged", "finished"]
    assert "nan" in found.trials[1].message
    assert found.best.number == 1


def test_a_network_over_the_budget_is_not_trained(quick, tmp_path):
    # 27 u + 10 parameters, 26 u multiply-accumulates.
    parameters, macs = (
        tuning_checks.search(
            tmp_path / name, "grid", hypermodel=of_units, **{name: most}
        ).trials
        for name, most in (("max_parameters", 91), ("max_macs", 60))
    )
    assert [trial.parameters for trial in parameters] == [64, 91, 118]
    finished = [trial.outcome == "finished" for trial in parameters]
    assert finished == [True, True, False]
    assert "118 parameters, of at most 91" in parameters[2].message
    finished, *over = macs
    assert finished.outcome == "finished"
    for trial, count in zip(over, (78, 104), strict=True):
        assert (trial.outcome, trial.epochs) == ("over budget", 0)
        assert f"{count} MACs, of at most 60" in trial.message


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
