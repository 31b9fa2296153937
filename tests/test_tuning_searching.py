"""Searches that run through, and what they tell."""

import contextlib
import csv
import errno
import json
import os
import signal

import keras
import pytest
import tuning_checks
from keras import layers

from cbam_keras import data, insert_attention, training, tuning
from cbam_keras.training import Recipe
from cbam_keras.tuning import trial as tuning_trial

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits")

ONE = Recipe(epochs=1, batch_size=70)


@pytest.fixture(scope="module")
def trained(few_digits, tmp_path_factory):
    """A search of three trials that were really trained."""
    output = tmp_path_factory.mktemp("trained") / "search"
    return tuning_checks.search(output, max_trials=3, keep=1)


def _disk_full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def _interrupted_within_a_call(*_, **__):
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    raise SystemError("returned a result with an exception set")


@pytest.mark.parametrize(
    ("fit", "error"),
    [
        (_disk_full, RuntimeError),
        (_interrupted_within_a_call, KeyboardInterrupt),
    ],
)
def test_what_ends_the_search_is_not_recorded_as_a_failed_trial(
    quick, tmp_path, fit, error
):
    # A shell lets what it runs in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with quick.context() as patch, pytest.raises(error):
        patch.setattr(training, "fit", fit)
        tuning_checks.search(tmp_path / "search", max_trials=1)
    signal.signal(signal.SIGINT, before)
    assert not list(tmp_path.rglob("outcome.json"))
    results = tuning_checks.search(tmp_path / "search", max_trials=1)
    assert [trial.outcome for trial in results.trials] == ["finished"]


@pytest.mark.every_backend
def test_a_search_leaves_these_files(trained):
    names = sorted(path.name for path in trained.output.iterdir())
    assert names == [
        "best.json",
        "best.keras",
        "effects.png",
        "oracle.json",
        "pareto.png",
        "results.json",
        "search.json",
        "trial_0001",
        "trial_0002",
        "trial_0003",
        "trials.csv",
    ]


@pytest.mark.every_backend
def test_the_best_model_is_the_one_that_was_tested(trained):
    images = data.load("mnist5k", batch_size=35)
    model = keras.saving.load_model(trained.output / "best.keras")
    _, validated = model.evaluate(images.validation, verbose=0)
    _, tested = model.evaluate(images.test, verbose=0)
    assert validated == pytest.approx(trained.best.val_accuracy, abs=1e-6)
    assert tested == pytest.approx(trained.test_accuracy, abs=1e-6)
    reported = json.loads((trained.output / "best.json").read_text())
    assert reported["values"] == trained.best.values
    assert reported["test_accuracy"] == trained.test_accuracy
    units = model.layers[-2].units
    assert units == trained.best.values["units"]


def test_trials_are_printed_in_a_table(trained):
    with (trained.output / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == [1, 2, 3]
    assert [float(row["val_accuracy"]) for row in rows] == [
        trial.val_accuracy for trial in trained.trials
    ]
    assert {"units", "activation", "learning_rate"} <= set(rows[0])
    reported = json.loads((trained.output / "results.json").read_text())
    assert reported["best"] == trained.best.number
    assert len(reported["trials"]) == 3


def test_results_print_the_best_first_and_what_became_of_the_rest(trained):
    text = str(trained)
    numbers = [
        line.split("│")[1].strip()
        for line in text.splitlines()
        if line.startswith("│")
    ]
    assert int(numbers[0]) == trained.best.number
    assert "3 trials: 3 finished." in text
    assert f"{trained.test_accuracy:.2%}" in text


@pytest.mark.every_backend
def test_weights_count_as_numpy_counts_them(trained):
    for trial in trained.trials:
        units = trial.values["units"]
        bias = trial.values.get("bias", True)
        # 16 averages of 7 x 7, then units, then 10 classes.
        wanted = 16 * units + units * bias + units * 10 + 10
        assert trial.parameters == wanted
        assert trial.macs == 16 * units + units * 10


@pytest.mark.every_backend
def test_only_the_best_trials_keep_weights(trained):
    kept = tuning_checks.checkpoints(trained.output)
    best = f"trial_{trained.best.number:04d}"
    assert kept.pop(best) == [f"trial-{trained.best.best_epoch}.keras"]
    assert all(files == [] for files in kept.values())


def test_a_finished_search_returns_its_results_at_once(trained, monkeypatch):
    def never(*_, **__):
        raise AssertionError("Nothing is left to do.")

    monkeypatch.setattr("cbam_keras.training.fit", never)
    monkeypatch.setattr(keras.Model, "evaluate", never)
    before = {
        path: path.stat().st_mtime_ns for path in trained.output.rglob("*")
    }
    again = tuning_checks.search(trained.output, max_trials=3, keep=1)
    assert again == trained
    assert before == {
        path: path.stat().st_mtime_ns for path in trained.output.rglob("*")
    }


@pytest.mark.parametrize(
    "name", ["trials.csv", "pareto.png", "effects.png", "results.json"]
)
def test_a_finished_search_writes_again_what_is_missing(quick, tmp_path, name):
    output = tmp_path / "run"
    tuning_checks.search(output, max_trials=2)
    (output / name).unlink()
    tuning_checks.search(output, max_trials=2)
    assert (output / name).exists()


def test_a_best_model_that_is_damaged_is_written_again(quick, tmp_path):
    output = tmp_path / "run"
    results = tuning_checks.search(output, max_trials=2)
    whole = (output / "best.keras").read_bytes()
    (output / "best.keras").write_bytes(whole[: len(whole) // 2])
    again = tuning_checks.search(output, max_trials=2)
    keras.saving.load_model(output / "best.keras")
    assert again.test_accuracy == results.test_accuracy


def test_the_learning_rate_is_that_of_the_trial(quick, tmp_path):
    rates = {}
    pretend = tuning_checks.pretend

    def noting(model, name, images, recipe, progress, **options):
        schedule = model.optimizer.get_config()["learning_rate"]
        rates[progress.folder.parent.name] = schedule["config"]["warmup_target"]
        return pretend(model, name, images, recipe, progress, **options)

    quick.setattr("cbam_keras.training.fit", noting)
    found = tuning_checks.search(tmp_path / "run")
    assert rates == {
        f"trial_{trial.number:04d}": trial.values["learning_rate"]
        for trial in found.trials
    }


@pytest.mark.every_backend
def test_a_model_that_comes_compiled_keeps_optimizer_and_loss(tmp_path):
    def compiled(hp):
        model = tuning_checks.network(hp.Choice("units", [2, 3]))
        loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=3)
        model.compile(keras.optimizers.SGD(0.125), loss)
        return model

    found = tuning_checks.search(
        tmp_path / "run", hypermodel=compiled, recipe=ONE, max_trials=1
    )
    model = keras.saving.load_model(found.output / "best.keras")
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert float(model.optimizer.learning_rate) == 0.125
    assert model.loss.ignore_class == 3


def test_a_hypermodel_of_keras_tuner_is_searched(quick, tmp_path):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return tuning_checks.network(hp.Choice("units", [2, 3]))

    found = tuning_checks.search(tmp_path / "run", hypermodel=Own())
    assert [trial.values for trial in found.trials] == [
        {"units": 2},
        {"units": 3},
    ]
    assert found.verdict == ""


def own_network(attention):
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 3, strides=4, name="first")(inputs)
    x = layers.Conv2D(8, 3, name="second")(x)
    x = layers.GlobalAveragePooling2D()(x)
    backbone = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    if attention is None:
        return backbone
    return insert_attention(backbone, attention, after="first|second")


def test_a_network_of_ones_own_is_searched_for_its_attention(quick, tmp_path):
    hypermodel = tuning.CBAMHyperModel(
        model=own_network,
        attention=("none", "spatial"),
        kernel_size=(3, 5),
        spatial_pool_types="avg+max",
    )
    found = tuning_checks.search(
        tmp_path / "run", "grid", hypermodel=hypermodel, max_trials=3
    )
    plain, *others = found.trials
    assert plain.values["attention"] == "none"
    # Two layers of k x k over two maps, without bias but normalized.
    assert [
        (trial.values["kernel_size"], trial.parameters - plain.parameters)
        for trial in others
    ] == [(5, 2 * (2 * 25 + 2)), (3, 2 * (2 * 9 + 2))]
    assert "attention" in found.verdict


@pytest.mark.every_backend
@pytest.mark.slow
def test_hyperband_continues_from_the_epochs_of_another_trial(tmp_path):
    found = tuning_checks.search(
        tmp_path / "run", "hyperband", tuning_checks.THREE
    )
    assert [trial.epochs for trial in found.trials] == [1, 1, 1, 3, 3, 3]
    reported = [
        json.loads(
            (found.output / f"trial_{number:04d}" / "outcome.json").read_text()
        )
        for number in range(1, 7)
    ]
    past = int(reported[3]["values"]["tuner/trial_id"])
    assert reported[3]["history"][0] == reported[past - 1]["history"][0]
    assert [row["epoch"] for row in reported[3]["history"]] == [1, 2, 3]
    own = sum(row["seconds"] for row in reported[3]["history"][1:])
    assert found.trials[3].seconds == pytest.approx(own)
    best = max(trial.val_accuracy for trial in found.trials[:3])
    assert found.trials[past - 1].val_accuracy == best


# What ends a trial never ends a search.


def test_of_equals_the_lower_loss_then_the_smaller_is_best(quick, tmp_path):
    pretend = tuning_checks.pretend
    losses = {2: 1.0, 3: 0.5, 4: 0.5, 5: 0.7}

    def level(model, *arguments, **options):
        state = pretend(model, *arguments, **options)
        for row in state.history:
            row["val_accuracy"] = 0.5
            row["val_loss"] = losses[model.layers[-2].units]
        return state

    quick.setattr("cbam_keras.training.fit", level)
    found = tuning_checks.search(
        tmp_path / "run",
        "grid",
        hypermodel=lambda hp: tuning_checks.network(hp.Int("units", 2, 5)),
    )
    assert found.best.values == {"units": 3}


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorBoard is its"
)
def test_logs_for_tensorboard_are_written_for_each_trial(tmp_path):
    pytest.importorskip("tensorboard")
    found = tuning_checks.search(
        tmp_path / "run", recipe=ONE, max_trials=2, tensorboard=True
    )
    logs = found.output / "tensorboard"
    assert sorted(path.name for path in logs.iterdir()) == [
        "trial_0001",
        "trial_0002",
    ]
    for trial in found.trials:
        own = hparams_of(logs / f"trial_{trial.number:04d}")
        assert own == (trial.values, trial.val_accuracy)


def hparams_of(folder):
    """Returns the values and the accuracy of a trial from its event file."""
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.plugins.hparams import plugin_data_pb2
    from tensorboard.util import tensor_util

    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info")
    data = plugin_data_pb2.HParamsPluginData()
    data.ParseFromString(content.plugin_data.content)
    (accuracy,) = events.Tensors("val_accuracy")
    values = {
        key: getattr(value, value.WhichOneof("kind"))
        for key, value in data.session_start_info.hparams.items()
    }
    number = tensor_util.make_ndarray(accuracy.tensor_proto)
    return values, pytest.approx(float(number), abs=1e-6)


# Wrong arguments.


def test_the_default_folder_is_named_after_data_and_model(
    quick, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = tuning.search(tuning_checks.mlp, "mnist5k", ONE, max_trials=1)
    assert os.fspath(found.output) == os.path.join("runs", "tune-mnist5k-mlp")


@pytest.mark.every_backend
@pytest.mark.parametrize("interactive", [True, False])
def test_forgetting_a_network_keeps_how_keras_logs(interactive):
    before = keras.config.is_interactive_logging_enabled()
    switch = {
        True: keras.config.enable_interactive_logging,
        False: keras.config.disable_interactive_logging,
    }
    switch[interactive]()
    try:
        tuning_trial._forget()
        assert keras.config.is_interactive_logging_enabled() is interactive
    finally:
        switch[before]()
