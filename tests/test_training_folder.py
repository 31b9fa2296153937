"""What a training run writes, starting it again, and who may."""

import csv
import dataclasses
import json
import math
import os
import pathlib
import shutil
import statistics

import keras
import numpy as np
import pytest
from training_checks import (
    KEYS,
    NETWORKS,
    SHORT,
    SMALL,
    linear,
    resnet,
)

from cbam_keras import _files, data, training
from cbam_keras.training import checkpoints
from cbam_keras.training import folder as training_folder

pytestmark = pytest.mark.usefixtures("few_digits")


# What a run writes and returns.


def test_the_output_folder_holds_these_files_and_no_leftovers(finished):
    assert sorted(path.name for path in finished.output.rglob("*")) == [
        "curves.png",
        "history.csv",
        "linear.keras",
        "resnet.keras",
        "results.json",
    ]


def test_results_json_holds_the_results(finished):
    content = json.loads((finished.output / "results.json").read_text())
    assert content["runs"] == [dataclasses.asdict(r) for r in finished.runs]
    assert content["history"] == finished.history


def test_results_json_tells_how_they_came_about(finished):
    content = json.loads((finished.output / "results.json").read_text())
    settings = content["settings"]
    assert (
        settings["data"].items()
        >= {
            "name": "mnist5k",
            "sizes": {"train": 70, "validation": 10, "test": 20},
            "batch_size": 16,
            "seed": 0,
            "image_shape": [28, 28, 1],
        }.items()
    )
    # As JSON has it, with lists; the data tell of the size of images.
    recipe = json.loads(json.dumps(dataclasses.asdict(SMALL)))
    del recipe["image_size"]
    assert settings["recipe"] == recipe
    assert settings["networks"] == ["linear", "resnet"]
    assert settings["backend"] == keras.backend.backend()
    assert content["versions"]["keras"] == keras.__version__
    assert keras.backend.backend() in content["versions"]


def test_history_csv_equals_the_history(finished):
    with (finished.output / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = ("epoch", *KEYS, "seconds")
    assert [
        {"network": row["network"], **{key: float(row[key]) for key in numbers}}
        for row in rows
    ] == finished.history


def test_the_history_has_a_row_per_network_and_epoch(finished):
    assert [(row["network"], row["epoch"]) for row in finished.history] == [
        (network, epoch) for network in NETWORKS for epoch in (1, 2, 3)
    ]


def test_the_curves_are_a_png_file(finished):
    content = (finished.output / "curves.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("index", [0, 1], ids=NETWORKS)
def test_a_saved_network_has_the_test_accuracy_reported(finished, index):
    run = finished.runs[index]
    model = keras.saving.load_model(finished.output / run.file)
    images, labels = data.load("mnist5k", batch_size=None).test
    predicted = model.predict(images.astype("float32"), verbose=0)
    assert np.mean(predicted.argmax(axis=1) == labels) == pytest.approx(
        run.test_accuracy
    )
    _, accuracy = model.evaluate(images.astype("float32"), labels, verbose=0)
    assert accuracy == pytest.approx(run.test_accuracy)


@pytest.mark.parametrize("index", [0, 1], ids=NETWORKS)
def test_a_saved_network_is_of_its_best_epoch(finished, index):
    run = finished.runs[index]
    row = finished.history[3 * index + run.best_epoch - 1]
    model = keras.saving.load_model(finished.output / run.file)
    images, labels = data.load("mnist5k", batch_size=None).validation
    loss, accuracy = model.evaluate(images.astype("float32"), labels, verbose=0)
    assert accuracy == pytest.approx(run.best_validation_accuracy)
    assert accuracy == pytest.approx(row["val_accuracy"])
    # Other batches, so sums in another order.
    assert loss == pytest.approx(row["val_loss"], abs=1e-5)


@pytest.mark.parametrize("index", [0, 1], ids=NETWORKS)
def test_the_best_epoch_has_the_highest_validation_accuracy(finished, index):
    run = finished.runs[index]
    own = finished.history[3 * index : 3 * index + 3]
    assert run.best_validation_accuracy == max(
        row["val_accuracy"] for row in own
    )


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.1, 2.0)], 1),
        ([(0.1, 2.0), (0.3, 3.0), (0.2, 1.0)], 2),
        ([(0.1, 1.0), (0.2, 2.0), (0.3, 3.0)], 3),
        ([(0.3, 2.0), (0.3, 1.5), (0.3, 1.7)], 2),
        ([(0.3, 2.0), (0.1, 0.5), (0.3, 2.0)], 1),
    ],
    ids=["one", "accuracy", "last", "tie_by_loss", "full_tie"],
)
def test_best_is_by_accuracy_then_by_loss(rows, best):
    history = [
        {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss}
        for epoch, (accuracy, loss) in enumerate(rows, 1)
    ]
    assert checkpoints.best_epoch(history) == best


def test_seconds_leave_out_the_first_epoch(finished):
    seconds = [row["seconds"] for row in finished.history[:3]]
    assert all(second > 0 for second in seconds)
    assert finished.runs[0].seconds_per_epoch == statistics.median(seconds[1:])


def test_parameters_are_the_trainable_ones(finished):
    model = resnet()
    assert finished.runs[0].parameters == 16 * 10 + 10
    assert finished.runs[1].parameters == sum(
        math.prod(weight.shape) for weight in model.trainable_weights
    )
    assert finished.runs[1].parameters < model.count_params()


@pytest.fixture
def reported():
    """Returns results with numbers of their own."""
    return training.Results(
        [
            training.Run("none", 1234567, 3, 0.987, 0.9754, 12.34, "n.keras"),
            training.Run("cbam", 98, 1, 0.5, 0.25, 0.06, "c.keras"),
        ],
        [],
        pathlib.Path("runs/reported"),
    )


@pytest.mark.parametrize(
    ("network", "numbers"),
    [
        ("none", ["1,234,567", "98.70%", "97.54%", "12.3"]),
        ("cbam", ["98", "50.00%", "25.00%", "0.1"]),
    ],
    ids=["none", "cbam"],
)
def test_results_print_each_network_with_its_numbers(
    reported, network, numbers
):
    (line,) = (line for line in str(reported).splitlines() if network in line)
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == [
        network,
        *numbers,
    ]


def test_results_print_what_the_numbers_are(reported):
    text = str(reported)
    assert "Results in runs/reported" in text
    assert "best validation accuracy" in text
    assert "test accuracy" in text
    assert "seconds per epoch" in text


@pytest.mark.parametrize("name", ["cbam[small]", "[/cbam]"])
def test_results_print_brackets_as_they_are(reported, name):
    renamed = dataclasses.replace(reported.runs[0], network=name)
    assert name in str(dataclasses.replace(reported, runs=[renamed]))


def test_training_tells_where_it_is(tmp_path, capsys):
    training.train(
        {"first": linear, "second": linear},
        "mnist5k",
        SHORT,
        output=tmp_path,
    )
    printed = capsys.readouterr().out
    assert "first (1 of 2), 170 parameters, from the start" in printed
    assert "second (2 of 2), 170 parameters, from the start" in printed


# Starting again.


def test_overwriting_leaves_nothing_of_the_run_before(
    tmp_path, interrupt_after
):
    interrupt_after(4)
    with pytest.raises(KeyboardInterrupt):
        training.train(NETWORKS, "mnist5k", SMALL, output=tmp_path)
    assert (tmp_path / "linear.keras").exists()
    results = training.train(
        {"other": linear}, "mnist5k", SHORT, output=tmp_path, overwrite=True
    )
    assert [run.network for run in results.runs] == ["other"]
    assert len(results.history) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "curves.png",
        "history.csv",
        "other.keras",
        "results.json",
    ]


def _contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"networks": {"good": linear, "bad": lambda: linear(classes=9)}},
            "must take images of shape",
        ),
        ({"images": "mnist6k"}, 'Did you mean "mnist5k"'),
        ({"networks": {"a/b": linear}}, "must be valid file names"),
    ],
    ids=["network", "images", "name"],
)
def test_nothing_is_overwritten_for_a_mistake(finished, options, message):
    before = _contents(finished.output)
    call = {"networks": NETWORKS, "images": "mnist5k", "recipe": SMALL}
    with pytest.raises(ValueError, match=message):
        training.train(
            **{**call, **options}, output=finished.output, overwrite=True
        )
    assert _contents(finished.output) == before


def test_a_run_with_a_file_of_the_users_is_not_overwritten(finished, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(finished.output, output)
    (output / "pretrained.keras").write_text("mine")
    before = _contents(output)
    with pytest.raises(ValueError, match="also holds pretrained.keras"):
        training.train(
            NETWORKS, "mnist5k", SMALL, output=output, overwrite=True
        )
    assert _contents(output) == before


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_resume_and_overwrite_are_booleans(tmp_path, option):
    with pytest.raises(TypeError, match=f"`{option}` must be True or False"):
        training.train(
            {"linear": linear},
            "mnist5k",
            SHORT,
            output=tmp_path / "run",
            **{option: 1},
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_use_is_refused(finished, overwrite):
    before = _contents(finished.output)
    with _files.locked(finished.output):
        with pytest.raises(ValueError, match=f"by process {os.getpid()} on"):
            training.train(
                NETWORKS,
                "mnist5k",
                SMALL,
                output=finished.output,
                overwrite=overwrite,
            )
    assert _contents(finished.output) == before


def test_a_process_that_does_not_write_is_not_locked_out(finished):
    content = json.loads((finished.output / "results.json").read_text())
    folder = training_folder.TrainingFolder(
        finished.output, content["settings"], writes=False
    )
    with _files.locked(finished.output):
        folder.join()
        folder.reread()
    assert folder.finished == list(NETWORKS)


# A process that does not write.


def test_a_folder_that_processes_do_not_share_is_reported(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(training_folder, "SECONDS_TO_APPEAR", 1)
    with pytest.raises(ValueError, match="one folder that all processes share"):
        training_folder.TrainingFolder(tmp_path, {}, writes=False).join()
    assert list(tmp_path.iterdir()) == []


def test_a_process_with_other_settings_is_reported(finished):
    with pytest.raises(ValueError, match="backend was .*, is 'other'"):
        training_folder.TrainingFolder(
            finished.output, {"backend": "other"}, writes=False
        ).join()


def test_a_process_that_does_not_write_leaves_all_as_it_is(finished):
    content = json.loads((finished.output / "results.json").read_text())
    folder = training_folder.TrainingFolder(
        finished.output, content["settings"], writes=False
    )
    folder.join()
    before = {path: path.read_bytes() for path in finished.output.rglob("*.*")}
    state = checkpoints.State(
        "linear",
        "",
        history=[{"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}],
    )
    folder.write_history()
    folder.finish(finished.runs[0], state)
    folder.progress.save(state, linear())
    assert folder.results() == finished
    assert before == {
        path: path.read_bytes() for path in finished.output.rglob("*.*")
    }
