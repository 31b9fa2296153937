"""Training runs that are interrupted, killed, changed or damaged."""

import csv
import dataclasses
import functools
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from keras import layers
from training_checks import (
    NETWORKS,
    SHORT,
    SMALL,
    close,
    linear,
    numbers,
)

from cbam_keras import _files, cli, plotting, training

pytestmark = pytest.mark.usefixtures("few_digits")


# Resuming.


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


def test_a_resumed_run_prints_where_it_resumes(
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
    ("change", "reported"),
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
def test_a_changed_recipe_is_reported_on_resuming(finished, change, reported):
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
    assert reported in str(e.value)
    assert (finished.output / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "reported"),
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
def test_a_changed_call_is_reported_on_resuming(finished, options, reported):
    call = {"networks": NETWORKS, "images": "mnist5k", "recipe": SMALL}
    with pytest.raises(
        ValueError, match="with the settings it was started"
    ) as e:
        training.train(**{**call, **options}, output=finished.output)
    assert reported in str(e.value)


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


def test_changed_layers_are_reported_on_resuming(tmp_path, interrupt_after):
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
def test_a_damaged_results_file_is_reported_on_resuming(tmp_path, content):
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


def test_a_damaged_checkpoint_is_reported_on_resuming(
    tmp_path, interrupt_after
):
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


def test_a_damaged_state_is_reported_on_resuming(tmp_path, interrupt_after):
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


def test_a_changed_model_is_reported_when_it_is_finished(tmp_path):
    training.train(linear(), "mnist5k", SHORT, output=tmp_path)
    with pytest.raises(ValueError, match="changed: layers was '"):
        training.train(
            linear(activation=None), "mnist5k", SHORT, output=tmp_path
        )


# A process that is killed.


OPTIONS = (
    *("train", "--data", "mnist5k", "--epochs", "3", "--batch-size", "35"),
    *("--attention", "none", "--attention", "se"),
)


def _script(output, count):
    """Returns the status of the command that dies at the nth file."""
    script = pathlib.Path(__file__).with_name("train_script.py")
    command = [sys.executable, script, str(count), *OPTIONS]
    return subprocess.run(
        [*command, "--output", output], stdout=subprocess.DEVNULL
    ).returncode


def _under_way(output):
    """Returns the network under training and its finished epochs."""
    state = json.loads((output / ".resume" / "state.json").read_text())
    return state["network"], len(state["history"])


@pytest.mark.slow
def test_a_killed_process_resumes(tmp_path, tiny):
    output = tmp_path / "run"
    # While the checkpoint of the second epoch is written.
    assert _script(output, 5) == -signal.SIGKILL
    assert _under_way(output) == ("none", 1)
    assert list(output.rglob(f"{_files.UNFINISHED}*"))
    # While the history after the first epoch of the second network is.
    assert _script(output, 13) == -signal.SIGKILL
    assert _under_way(output) == ("se", 1)
    assert _script(output, 0) == 0

    whole = tmp_path / "whole"
    assert cli.main([*OPTIONS, "--output", str(whole)]) == 0
    resumed, expected = (
        json.loads((folder / "results.json").read_text())
        for folder in (output, whole)
    )
    assert numbers(_results(resumed)) == close(_results(expected))
    assert resumed["settings"] == expected["settings"]
    assert sorted(path.name for path in output.iterdir()) == [
        "curves.png",
        "explain",
        "history.csv",
        "none.keras",
        "report.html",
        "results.json",
        "se.keras",
    ]


def _results(content):
    runs = [training.Run(**run) for run in content["runs"]]
    return training.Results(runs, content["history"], None)
