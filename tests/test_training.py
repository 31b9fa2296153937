"""Real trainings: what they write, and that they resume exactly."""

import csv
import dataclasses
import functools
import itertools
import json
import math
import statistics

import digits
import keras
import numpy as np
import pretended
import pytest
from keras import layers
from training_checks import KEYS, NETWORKS, SMALL, close, linear, numbers

from cbam_keras import data, training

pytestmark = pytest.mark.every_backend

SGD = dataclasses.replace(
    SMALL, optimizer="sgd", learning_rate=0.5, schedule="step", step_epochs=2
)

HALF = dataclasses.replace(SGD, mixed_precision="float16", learning_rate=0.05)


@pytest.fixture(scope="module", autouse=True)
def few():
    """Puts 116 made-up digits in place of MNIST's 5,000."""
    with pytest.MonkeyPatch.context() as patch:
        digits.replace(digits.brighter_by_class, patch.setattr)
        yield


@pytest.fixture(scope="module")
def finished(few, tmp_path_factory):
    """Returns the results of a run of two networks."""
    output = tmp_path_factory.mktemp("finished") / "run"
    return training.train(NETWORKS, "mnist5k", SGD, output=output)


# What a run writes and returns.


def test_the_folder_holds_networks_history_results_and_curves(finished):
    assert sorted(path.name for path in finished.output.rglob("*")) == [
        "curves.png",
        "history.csv",
        "linear.keras",
        "resnet.keras",
        "results.json",
    ]
    curves = (finished.output / "curves.png").read_bytes()
    assert curves.startswith(b"\x89PNG\r\n\x1a\n")
    assert [(row["network"], row["epoch"]) for row in finished.history] == [
        (network, epoch) for network in NETWORKS for epoch in (1, 2, 3)
    ]
    with (finished.output / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ("epoch", *KEYS, "seconds")
    assert [
        {"network": row["network"], **{key: float(row[key]) for key in columns}}
        for row in rows
    ] == finished.history


def test_results_json_holds_the_results_and_how_they_came_about(finished):
    content = json.loads((finished.output / "results.json").read_text())
    assert (content["format"], content["kind"]) == (2, "train")
    outcomes = finished.outcomes
    assert content["cells"] == [dataclasses.asdict(one) for one in outcomes]
    settings = content["settings"]
    expected = {
        "name": "mnist5k",
        "sizes": {"train": 82, "validation": 11, "test": 23},
        "batch_size": 16,
        "seed": 0,
        "image_shape": [28, 28, 1],
    }
    assert settings["data"]["0"].items() >= expected.items()
    # As JSON has it, with lists; the data tell of seed and size of images.
    recipe = json.loads(json.dumps(dataclasses.asdict(SGD)))
    del recipe["image_size"], recipe["seed"]
    assert settings["recipe"] == recipe
    assert settings["variants"] == {"linear": {}, "resnet": {}}
    assert settings["backend"] == keras.backend.backend()
    assert content["versions"]["keras"] == keras.__version__
    assert keras.backend.backend() in content["versions"]


def test_parameters_are_trainable_and_seconds_leave_out_the_first_epoch(
    finished,
):
    model = NETWORKS["resnet"]()
    trainable = sum(math.prod(w.shape) for w in model.trainable_weights)
    assert [run.parameters for run in finished.runs] == [170, trainable]
    assert trainable < model.count_params()
    seconds = [row["seconds"] for row in finished.history[:3]]
    assert all(second > 0 for second in seconds)
    assert finished.runs[0].seconds_per_epoch == statistics.median(seconds[1:])


def test_a_saved_network_is_of_its_best_epoch(finished):
    run, own = finished.runs[1], finished.history[3:]
    row = own[run.best_epoch - 1]
    assert row["val_accuracy"] == max(other["val_accuracy"] for other in own)
    model = keras.saving.load_model(finished.output / run.file)
    splits = data.load("mnist5k", batch_size=None)

    def judged(split):
        images, labels = getattr(splits, split)
        outputs = model.predict(images.astype("float32"), verbose=0)
        chosen = outputs[np.arange(len(labels)), labels]
        accuracy = np.mean(outputs.argmax(axis=1) == labels)
        return -np.log(chosen).mean(), accuracy

    loss, accuracy = judged("validation")
    assert accuracy == pytest.approx(row["val_accuracy"])
    assert accuracy == pytest.approx(run.best_validation_accuracy)
    # Other batches, so sums in another order.
    assert loss == pytest.approx(row["val_loss"], abs=1e-5)
    assert judged("test")[1] == pytest.approx(run.test_accuracy)


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.3, 2.0), (0.3, 1.5), (0.2, 1.0)], 2),
        ([(0.3, 2.0), (0.1, 0.5), (0.3, 2.0)], 1),
        ([(0.0, 1.0), (1.0, 1.0), (0.0, 1.0), (0.0, 1.0)], 2),
    ],
    ids=["tie_by_loss", "full_tie", "later_ones_worse"],
)
def test_the_best_network_is_kept_by_accuracy_then_by_loss(
    rows, best, tmp_path, monkeypatch
):
    pretended.install(monkeypatch)
    monkeypatch.setattr(
        pretended,
        "numbers",
        lambda _, *key: (
            rows[key[-1]][::-1] if key[0] == "validation" else (1.0, 0.5)
        ),
    )
    save, saved = keras.Model.save, []

    def saving(model, *arguments, **options):
        saved.append(model.get_weights()[0])
        return save(model, *arguments, **options)

    monkeypatch.setattr(keras.Model, "save", saving)
    recipe = training.Recipe(epochs=len(rows), batch_size=100)
    found = training.train(
        {"linear": linear}, "mnist5k", recipe, output=tmp_path
    )
    assert found.runs[0].best_epoch == best
    kept = keras.saving.load_model(tmp_path / "linear.keras").get_weights()[0]
    np.testing.assert_array_equal(kept, saved[best - 1])


def test_logs_for_tensorboard_hold_the_curves(tmp_path, monkeypatch):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    pretended.install(monkeypatch)
    train = functools.partial(
        *(training.train, {"linear": linear}, "mnist5k", SMALL),
        output=tmp_path / "run",
        tensorboard=True,
    )
    if keras.backend.backend() != "tensorflow":
        with pytest.raises(ValueError, match="needs the TensorFlow backend"):
            train()
        return
    folder = train().output / "tensorboard/linear-seed0/train"
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    assert "epoch_loss" in events.Tags()["tensors"]


# Resuming; more in test_resuming.py.


STATE = ".cells/network-seed0/state.json"


def _interrupt(networks, recipe, output):
    """Trains until the second epoch would be saved."""
    save, saves = keras.Model.save, itertools.count(1)

    def saving(*arguments, **options):
        if next(saves) == 2:
            raise KeyboardInterrupt
        return save(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "save", saving)
        with pytest.raises(KeyboardInterrupt):
            training.train(networks, "mnist5k", recipe, output=output)
    state = json.loads((output / STATE).read_text())
    assert len(state["history"]) == 1
    with (output / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [(SMALL, "float32"), (HALF, "float16")],
    ids=["adamw", "sgd_in_float16"],
)
def test_dropout_resumes_exactly(tmp_path, recipe, dtype):
    def build():
        return linear(layers.Dropout(0.5), layers.Dense(10), activation="relu")

    networks = {"network": build}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = training.train(networks, "mnist5k", recipe, output=whole)
    _interrupt(networks, recipe, cut)
    resumed = training.train(networks, "mnist5k", recipe, output=cut)
    assert numbers(resumed) == close(expected)
    saved = keras.saving.load_model(cut / "network.keras")
    assert saved.layers[-1].compute_dtype == dtype
    assert saved.layers[-1].variable_dtype == "float32"
