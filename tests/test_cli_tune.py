"""The command `cbam-keras tune`."""

import dataclasses
import json
import pathlib
import sys

import keras_tuner
import pytest

from cbam_keras import cli, training, tuning


class Results:
    """In place of `SearchResults`."""

    output = pathlib.Path("nowhere")

    def __str__(self):
        return "the table"

    def json(self):
        return '{"trials": []}'


@pytest.fixture
def searched(monkeypatch):
    """Returns what `search` was called with, in place of searching."""
    calls = {}

    def search(hypermodel, images, recipe, **options):
        calls.update(
            options, hypermodel=hypermodel, images=images, recipe=recipe
        )
        print("a trial")
        return Results()

    monkeypatch.setattr(tuning, "search", search)
    monkeypatch.setattr("cbam_keras.cli.tune._complete", lambda *_: None)
    return calls


def test_tune_prints_the_result_last(searched, capsys):
    assert cli.main(["tune"]) == 0
    assert capsys.readouterr().out == "a trial\nthe table\n"
    assert searched["images"] == "crowded_mnist"
    assert searched["confirm"] == 3
    assert searched["recipe"] == tuning.default_recipe(tuning.CBAMHyperModel())
    assert isinstance(searched["hypermodel"], tuning.CBAMHyperModel)
    assert searched["hypermodel"].identity_init is True
    assert searched["output"] is None
    assert searched["overwrite"] is False
    # What is left out, `search` decides.
    assert not {"max_trials", "max_parameters", "max_macs"} & set(searched)
    # JSON is printed alone.
    assert cli.main(["tune", "--json"]) == 0
    assert capsys.readouterr() == ('{"trials": []}\n', "a trial\n")


def test_a_dry_run_estimates_and_does_not_search(monkeypatch, capsys):
    calls = []

    def estimate(hypermodel, images, recipe, **options):
        calls.append((images, recipe, options))
        return "it"

    monkeypatch.setattr(tuning, "estimate", estimate)
    monkeypatch.setattr(tuning, "search", None)
    monkeypatch.setattr(tuning, "run_workers", None)
    arguments = ["--workers", "4", "--confirm", "5", "--max-trials", "9"]
    assert cli.main(["tune", "--dry-run", *arguments]) == 0
    assert capsys.readouterr().out == "it\n"
    default = tuning.default_recipe(tuning.CBAMHyperModel())
    passed = {"max_trials": 9, "confirm": 5, "workers": 4}
    passed |= {"algorithm": "random", "data_options": {}}
    assert calls == [("crowded_mnist", default, passed)]


OPTIONS = {
    "--algorithm grid": {"algorithm": "grid"},
    "--max-trials 30": {"max_trials": 30},
    "--max-parameters 1e6": {"max_parameters": 1e6},
    "--max-macs 2e9": {"max_macs": 2e9},
    "--keep 1": {"keep": 1},
    "--confirm 0": {"confirm": 0},
    "--tensorboard": {"tensorboard": True},
    "--data cifar10": {"images": "cifar10"},
    "--download": {"data_options": {"download": True}},
    "--recipe small_images --epochs 9": {
        "recipe": dataclasses.replace(
            training.RECIPES["small_images"], epochs=9
        )
    },
    "--output here": {"output": "here"},
    "--overwrite": {"overwrite": True},
}
SPACE = {
    "--attention cbam se": {"attention": {"cbam", "se"}},
    "--reduction-ratio 2 4": {"reduction_ratio": {2, 4}},
    "--kernel-size 5": {"kernel_size": {5}},
    "--order parallel": {"order": {"parallel"}},
    "--channel-pool-types avg lp+max": {
        "channel_pool_types": {"avg", "lp+max"}
    },
    "--spatial-pool-types conv": {"spatial_pool_types": {"conv"}},
    "--learning-rate 0.1 0.2": {"learning_rate": {0.1, 0.2}},
    "--stages": {f"stage{number}": {True, False} for number in (1, 2, 3)},
}


def test_each_option_reaches_its_argument(searched):
    given = " ".join([*OPTIONS, *SPACE, "--no-identity-init"])
    assert cli.main(["tune", *given.split()]) == 0
    for option, passed in OPTIONS.items():
        assert searched.items() >= passed.items(), option
    hypermodel = searched["hypermodel"]
    assert hypermodel.identity_init is False
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    found = {own.name: set(own.values) for own in hp.space}
    for option, values in SPACE.items():
        assert found.items() >= values.items(), option


def test_tune_takes_functions_of_the_users(searched, tmp_path, monkeypatch):
    (tmp_path / "mine_for_cli.py").write_text("def build(x):\n    return x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["tune", "--hypermodel", "mine_for_cli:build"]) == 0
    assert searched["hypermodel"]("it") == "it"
    assert cli.main(["tune", "--model", "mine_for_cli:build"]) == 0
    assert searched["hypermodel"].model("it") == "it"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model nowhere:build", "No module named 'nowhere'"),
        ("--hypermodel json:build", "no attribute 'build'"),
        ("--kernel-size 4", "`kernel_size` must be an odd positive"),
        ("--workers 0", "`workers` must be a positive integer"),
        ("--worker", "`address` must be that of the chief"),
        ("--chief --address here", "`address` must be host:port"),
        ("--max-trials 0", "`max_trials` must be a positive integer"),
        ("--data mnist6k", 'Did you mean "mnist5k"?'),
    ],
)
def test_tune_tells_a_mistake_in_one_line(
    monkeypatch, tmp_path, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tune", *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cbam-keras tune: error: ")
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.fixture
def workers(monkeypatch):
    """Returns what workers were asked for, in place of running them."""
    asked = []
    monkeypatch.setattr(
        tuning, "run_workers", lambda *given: asked.extend(given) or 7
    )
    return asked


def test_workers_get_the_command_as_it_was_given(
    workers, searched, monkeypatch, tmp_path
):
    arguments = ["tune", "--output", str(tmp_path), "--workers=2", "--seed=1"]
    assert cli.main(arguments) == 7
    command = [sys.executable, "-m", "cbam_keras", *arguments]
    assert workers == [command, 2, tmp_path / "logs"]
    assert not searched
    # A process that was started by it searches.
    monkeypatch.setattr(tuning, "end_with_starter", lambda: True)
    assert cli.main(arguments) == 0
    assert len(workers) == 3
    assert searched["output"] == str(tmp_path)


def test_a_worker_of_a_cluster_joins_its_chief(searched, monkeypatch):
    joined = []
    monkeypatch.setattr(tuning, "join", lambda *given: joined.append(given))
    command = ["tune", "--worker", "--address", "node17:8765"]
    assert cli.main([*command, "--id", "worker-7"]) == 0
    assert cli.main(["tune", "--chief", *command[2:]]) == 0
    assert joined == [("worker-7", "node17:8765"), ("chief", "node17:8765")]


def test_logs_of_workers_are_in_the_default_folder_of_search(
    workers, monkeypatch, tmp_path
):
    here = tmp_path / "flowers"
    here.mkdir()
    monkeypatch.chdir(here)
    for arguments, folder in (
        ("", "tune-crowded_mnist-tiny"),
        ("--data imagenette/160px-v2", "tune-imagenette-160px-v2-tiny"),
        ("--data .", "tune-flowers-tiny"),
        ("--hypermodel json:loads", "tune-crowded_mnist-loads"),
    ):
        cli.main(["tune", "--workers", "2", *arguments.split()])
        assert workers[-1] == pathlib.Path("runs") / folder / "logs"


def test_a_search_without_a_finished_trial_gives_1(tiny, tmp_path, capsys):
    budget = ["--max-parameters", "1", "--max-trials", "2"]
    output = tmp_path / "search"
    assert cli.main(["tune", *budget, "--output", str(output)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("cbam-keras tune: error: ")
    assert "None of the 2 trials finished" in line
    assert "over budget" in line
    reported = json.loads((output / "results.json").read_text())["trials"]
    assert [own["outcome"] for own in reported] == ["over budget"] * 2
    assert len((output / "trials.csv").read_text().splitlines()) == 3
