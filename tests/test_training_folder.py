"""What a training run writes, and how it resumes."""

import contextlib
import csv
import dataclasses
import functools
import itertools
import json
import math
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from keras import layers
from training_checks import (
    KEYS,
    NETWORKS,
    SHORT,
    SMALL,
    close,
    linear,
    numbers,
    resnet,
)

from cbam_keras import _files, data, plotting, training
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
def test_a_saved_network_has_the_test_accuracy_told(finished, index):
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
def told():
    """Returns results with numbers of their own."""
    return training.Results(
        [
            training.Run("none", 1234567, 3, 0.987, 0.9754, 12.34, "n.keras"),
            training.Run("cbam", 98, 1, 0.5, 0.25, 0.06, "c.keras"),
        ],
        [],
        pathlib.Path("runs/told"),
    )


@pytest.mark.parametrize(
    ("network", "numbers"),
    [
        ("none", ["1,234,567", "98.70%", "97.54%", "12.3"]),
        ("cbam", ["98", "50.00%", "25.00%", "0.1"]),
    ],
    ids=["none", "cbam"],
)
def test_results_print_each_network_with_its_numbers(told, network, numbers):
    (line,) = (line for line in str(told).splitlines() if network in line)
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == [
        network,
        *numbers,
    ]


def test_results_print_what_the_numbers_are(told):
    text = str(told)
    assert "Results in runs/told" in text
    assert "best validation accuracy" in text
    assert "test accuracy" in text
    assert "seconds per epoch" in text


@pytest.mark.parametrize("name", ["cbam[small]", "[/cbam]"])
def test_results_print_brackets_as_they_are(told, name):
    renamed = dataclasses.replace(told.runs[0], network=name)
    assert name in str(dataclasses.replace(told, runs=[renamed]))


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


# Resuming.


@pytest.fixture
def interrupt_after(monkeypatch):
    """Returns a function that arms Ctrl-C after a number of saved epochs."""

    def arm(epochs):
        save = checkpoints.Progress.save
        calls = itertools.count(1)

        def saving(session, state, model):
            save(session, state, model)
            if next(calls) == epochs:
                monkeypatch.undo()
                raise KeyboardInterrupt

        monkeypatch.setattr(checkpoints.Progress, "save", saving)

    return arm


def _counted(networks):
    """Returns the networks and a list of names that grows as they build."""
    built = []

    def building(name):
        built.append(name)
        return networks[name]()

    return {name: functools.partial(building, name) for name in networks}, built


@pytest.mark.parametrize(
    ("epochs", "rebuilt"),
    [
        (1, ["linear", "resnet"]),
        (3, ["linear", "resnet"]),
        (4, ["resnet"]),
        (5, ["resnet"]),
    ],
    ids=["first_epoch", "last_of_first", "first_of_second", "second_network"],
)
def test_a_resumed_run_ends_as_an_undisturbed_one(
    tmp_path, finished, interrupt_after, epochs, rebuilt
):
    interrupt_after(epochs)
    with pytest.raises(KeyboardInterrupt):
        training.train(NETWORKS, "mnist5k", SMALL, output=tmp_path)
    networks, built = _counted(NETWORKS)
    resumed = training.train(networks, "mnist5k", SMALL, output=tmp_path)
    assert built == rebuilt
    assert numbers(resumed) == close(finished)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in finished.output.iterdir()
    )


def test_a_resumed_run_tells_where_it_goes_on(
    tmp_path, capsys, interrupt_after
):
    interrupt_after(2)
    with pytest.raises(KeyboardInterrupt):
        training.train({"linear": linear}, "mnist5k", SMALL, output=tmp_path)
    capsys.readouterr()
    training.train({"linear": linear}, "mnist5k", SMALL, output=tmp_path)
    assert "170 parameters, after epoch 2" in capsys.readouterr().out


def test_the_history_of_an_interrupted_run_is_on_disk(
    tmp_path, interrupt_after
):
    interrupt_after(3)
    with pytest.raises(KeyboardInterrupt):
        training.train({"linear": linear}, "mnist5k", SMALL, output=tmp_path)
    with (tmp_path / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def _fail_at(monkeypatch, owner, name, matches):
    """Makes a function fail once, on the first arguments that match."""
    function = getattr(owner, name)

    def failing(*arguments, **options):
        if matches(*arguments):
            monkeypatch.undo()
            raise KeyboardInterrupt
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize(
    ("owner", "name", "matches"),
    [
        (
            _files,
            "write_json",
            lambda path, state: (
                path.name == "state.json" and len(state["history"]) == 1
            ),
        ),
        (
            _files,
            "write_json",
            lambda path, state: (
                path.name == "state.json" and len(state["history"]) == 2
            ),
        ),
        (plotting, "plot_history", lambda *arguments: True),
        (
            _files,
            "write_json",
            lambda path, content: (
                path.name == "results.json" and content["runs"] != []
            ),
        ),
        (shutil, "rmtree", lambda path: pathlib.Path(path).name == ".resume"),
    ],
    ids=[
        "before_the_first_state",
        "before_the_second_state",
        "before_the_curves",
        "before_the_results",
        "before_tidying_up",
    ],
)
def test_a_run_killed_between_two_files_resumes(
    tmp_path, monkeypatch, finished, owner, name, matches
):
    _fail_at(monkeypatch, owner, name, matches)
    networks = {"linear": linear}
    with pytest.raises(KeyboardInterrupt):
        training.train(networks, "mnist5k", SMALL, output=tmp_path)
    resumed = training.train(networks, "mnist5k", SMALL, output=tmp_path)
    expected = dataclasses.replace(
        finished, runs=finished.runs[:1], history=finished.history[:3]
    )
    assert numbers(resumed) == close(expected)
    assert not (tmp_path / ".resume").exists()


def _dropout():
    return linear(layers.Dropout(0.5), layers.Dense(10), activation="relu")


def _resumes_exactly(interrupt_after, folder, build, recipe):
    networks = {"network": build}
    whole = training.train(networks, "mnist5k", recipe, output=folder / "whole")
    interrupt_after(1)
    with pytest.raises(KeyboardInterrupt):
        training.train(networks, "mnist5k", recipe, output=folder / "cut")
    resumed = training.train(networks, "mnist5k", recipe, output=folder / "cut")
    return numbers(resumed) == close(whole)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_mixed_precision_resumes_exactly(tmp_path, interrupt_after, precision):
    recipe = dataclasses.replace(SMALL, mixed_precision=precision)
    assert _resumes_exactly(interrupt_after, tmp_path, linear, recipe)


def test_dropout_resumes_exactly(tmp_path, interrupt_after):
    assert _resumes_exactly(interrupt_after, tmp_path, _dropout, SMALL)


def test_resuming_a_finished_run_trains_nothing(finished):
    networks, built = _counted(NETWORKS)
    before = (finished.output / "results.json").read_bytes()
    again = training.train(networks, "mnist5k", SMALL, output=finished.output)
    assert built == []
    assert again == finished
    assert (finished.output / "results.json").read_bytes() == before


@pytest.mark.parametrize("make", [False, True], ids=["absent", "empty"])
def test_resuming_where_there_is_nothing_starts_afresh(tmp_path, make):
    output = tmp_path / "run"
    if make:
        output.mkdir()
    results = training.train(
        {"linear": linear}, "mnist5k", SHORT, output=output
    )
    assert [run.network for run in results.runs] == ["linear"]


def test_a_run_killed_at_its_very_first_file_resumes(tmp_path):
    # What SIGKILL leaves of _files.replacing.
    (tmp_path / ".unfinished-results.json").write_text("{")
    training.train({"linear": linear}, "mnist5k", SHORT, output=tmp_path)
    assert not list(tmp_path.glob(".unfinished*"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs": 4}, "recipe.epochs was 3, is 4"),
        ({"seed": 1}, "data.seed was 0, is 1; recipe.seed was 0, is 1"),
        ({"batch_size": 8}, "data.batch_size was 16, is 8"),
        (
            {"mixed_precision": "float16"},
            "recipe.mixed_precision was None, is 'float16'",
        ),
    ],
    ids=["epochs", "seed", "batch_size", "precision"],
)
def test_a_changed_recipe_is_told_on_resuming(finished, change, told):
    before = (finished.output / "results.json").read_bytes()
    with pytest.raises(
        ValueError, match="with the settings it was started"
    ) as e:
        training.train(
            NETWORKS,
            "mnist5k",
            dataclasses.replace(SMALL, **change),
            output=finished.output,
        )
    assert told in str(e.value)
    assert (finished.output / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"images": "cluttered_mnist"}, "data.name was 'mnist5k'"),
        (
            {"networks": {"linear": linear}},
            r"networks was ['linear', 'resnet'], is ['linear']",
        ),
        ({"settings": {"note": 1}}, "note was None, is 1"),
    ],
    ids=["images", "networks", "settings"],
)
def test_a_changed_call_is_told_on_resuming(finished, options, told):
    call = {"networks": NETWORKS, "images": "mnist5k", "recipe": SMALL}
    with pytest.raises(
        ValueError, match="with the settings it was started"
    ) as e:
        training.train(**{**call, **options}, output=finished.output)
    assert told in str(e.value)


def test_settings_equal_after_reading_them_back(tmp_path):
    call = {
        "networks": {"linear": linear},
        "images": "mnist5k",
        "recipe": SHORT,
        "output": tmp_path,
        "settings": {"pools": ("avg", "max"), "rate": 0.1},
    }
    first = training.train(**call)
    assert training.train(**call) == first


def test_changed_layers_are_told_on_resuming(tmp_path, interrupt_after):
    interrupt_after(1)
    with pytest.raises(KeyboardInterrupt):
        training.train({"net": linear}, "mnist5k", SMALL, output=tmp_path)
    with pytest.raises(ValueError, match='the layers of network "net"'):
        training.train(
            {"net": lambda: linear(activation=None)},
            "mnist5k",
            SMALL,
            output=tmp_path,
        )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"settings": {',
        b"[]",
        b"{}",
        b"\xff",
        b'{"kind": "training run", "settings": 5, "runs": [], "history": []}',
    ],
    ids=["empty", "cut_short", "list", "no_settings", "bytes", "wrong_kind"],
)
def test_a_damaged_results_file_is_told_on_resuming(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(ValueError, match="results.json is damaged"):
        training.train(linear(), "mnist5k", SHORT, output=tmp_path)


@pytest.mark.parametrize("key", ["runs", "history"])
def test_a_results_file_without_results_is_damaged(tmp_path, key):
    call = {
        "networks": {"linear": linear},
        "images": "mnist5k",
        "recipe": SHORT,
        "output": tmp_path,
    }
    training.train(**call)
    content = json.loads((tmp_path / "results.json").read_text())
    del content[key]
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="results.json is damaged"):
        training.train(**call)


def test_a_damaged_checkpoint_is_told_on_resuming(tmp_path, interrupt_after):
    interrupt_after(1)
    call = {
        "networks": {"linear": linear},
        "images": "mnist5k",
        "recipe": SMALL,
        "output": tmp_path,
    }
    with pytest.raises(KeyboardInterrupt):
        training.train(**call)
    (checkpoint,) = (tmp_path / ".resume").glob("*.keras")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match='checkpoint ".*cannot be read'):
        training.train(**call)
    # The advice that the error gives.
    shutil.rmtree(tmp_path / ".resume")
    assert len(training.train(**call).history) == 3


def test_a_damaged_state_is_told_on_resuming(tmp_path, interrupt_after):
    interrupt_after(1)
    call = {
        "networks": {"linear": linear},
        "images": "mnist5k",
        "recipe": SMALL,
        "output": tmp_path,
    }
    with pytest.raises(KeyboardInterrupt):
        training.train(**call)
    (tmp_path / ".resume" / "state.json").write_text("{")
    with pytest.raises(ValueError, match="state.json.*delete the folder"):
        training.train(**call)


# A process that is killed, on the true data.


COMMAND = (
    *(sys.executable, "-m", "cbam_keras", "train", "--data", "mnist5k"),
    *("--epochs", "3", "--batch-size", "200"),
    *("--attention", "none", "--attention", "se"),
)


def _state(folder):
    """Returns the network under training and its finished epochs."""
    # Absent before the first epoch and between two networks.
    with contextlib.suppress(FileNotFoundError):
        state = json.loads((folder / ".resume" / "state.json").read_text())
        return state["network"], len(state["history"])
    return None, 0


def _kill_after(folder, network, epoch):
    """Starts the command, kills it after an epoch, returns its status."""
    process = subprocess.Popen(
        [*COMMAND, "--output", folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and _state(folder) != (network, epoch):
        time.sleep(0.02)
    process.kill()
    return process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run([*COMMAND, "--output", output], check=True)
    return json.loads((output / "results.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "epoch", "done"),
    [("none", 2, []), ("se", 1, ["none"])],
    ids=["first_network", "second_network"],
)
def test_a_killed_process_resumes(tmp_path, undisturbed, network, epoch, done):
    output = tmp_path / "run"
    assert _kill_after(output, network, epoch) == -signal.SIGKILL
    killed = json.loads((output / "results.json").read_text())
    assert [run["network"] for run in killed["runs"]] == done
    whole = [
        path
        for path in output.rglob("*.keras")
        if not path.name.startswith(".unfinished")
    ]
    assert {path.parent.name for path in whole} >= {".resume"}
    assert all(keras.saving.load_model(path).built for path in whole)

    subprocess.run([*COMMAND, "--output", output], check=True)
    content = json.loads((output / "results.json").read_text())
    resumed, expected = (
        training.Results(
            [training.Run(**run) for run in told["runs"]],
            told["history"],
            output,
        )
        for told in (content, undisturbed)
    )
    assert numbers(resumed) == close(expected)
    assert content["settings"] == undisturbed["settings"]
    assert sorted(path.name for path in output.iterdir()) == [
        "curves.png",
        "history.csv",
        "none.keras",
        "results.json",
        "se.keras",
    ]


# A process that does not write.


def test_a_folder_that_processes_do_not_share_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(training_folder, "SECONDS_TO_APPEAR", 1)
    with pytest.raises(ValueError, match="one folder that all processes share"):
        training_folder.TrainingFolder(tmp_path, {}, writes=False).join()
    assert list(tmp_path.iterdir()) == []


def test_a_process_with_other_settings_is_told(finished):
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
