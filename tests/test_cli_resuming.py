"""Python and the command find and resume each other's runs."""

import json
import pathlib

import pytest
import tuning_checks

from cbam_keras import ablation, cli, comparison, training, tuning

pytestmark = pytest.mark.usefixtures("few_digits")

SHORT = training.Recipe(epochs=1, batch_size=35)


def train(**options):
    return comparison.compare(
        ["none"], images="mnist5k", recipe=SHORT, **options
    )


def ablate(**options):
    return ablation.run("mnist5k", tables=[4], seeds=1, recipe=SHORT, **options)


def tune(**options):
    hypermodel = tuning.CBAMHyperModel(attention=["none"])
    return tuning.search(hypermodel, "mnist5k", SHORT, max_trials=1, **options)


CALLS = {"train": train, "ablate": ablate, "tune": tune}
OPTIONS = {
    "train": ["--attention", "none"],
    "ablate": ["--tables", "4", "--seeds", "1"],
    "tune": ["--attention", "none", "--max-trials", "1"],
}


def command(name, *more):
    return cli.main(
        [
            *(name, "--data", "mnist5k", "--epochs", "1"),
            *("--batch-size", "35", *OPTIONS[name], *more),
        ]
    )


@pytest.fixture
def here(tiny, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    tuning_checks.without_training(monkeypatch)
    return tmp_path


def modified(folder):
    # What lists the results may be written again, with the same content.
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.suffix == ".keras" or path.name == "history.csv"
    }


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("first", ["python", "command"])
def test_python_and_the_command_resume_each_other(here, name, first, capsys):
    if first == "python":
        CALLS[name]()
    else:
        assert command(name) == 0
    folder = pathlib.Path("runs", f"{name}-mnist5k-tiny")
    before = modified(folder)
    assert before
    assert command(name) == 0
    assert CALLS[name]().output == folder
    assert [path.name for path in here.glob("runs/*")] == [folder.name]
    assert modified(folder) == before
    capsys.readouterr()
    assert command(name, "--seed", "1", "--resume") in (
        # An ablation sets the seeds itself.
        [0] if name == "ablate" else [2]
    )
    if name != "ablate":
        error = capsys.readouterr().err
        assert "recipe.seed was 0, is 1" in error
        assert "overwrite" in error
        assert command(name, "--seed", "1", "--overwrite") == 0
        file = "search.json" if name == "tune" else "results.json"
        content = json.loads((folder / file).read_text())
        assert content["settings"]["recipe"]["seed"] == 1
