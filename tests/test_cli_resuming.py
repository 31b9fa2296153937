"""Python and the command find and resume each other's runs."""

import contextlib
import json
import pathlib
import resource

import pytest
import tuning_checks
from networks import linear

from cbam_keras import _files, ablation, cli, comparison, training, tuning
from cbam_keras.models import by_name

pytestmark = pytest.mark.usefixtures("few_digits")

# With the default learning rate of the network.
SHORT = training.Recipe(epochs=1, batch_size=35, learning_rate=0.03)


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
            *("--batch-size", "35", "--no-report", *OPTIONS[name], *more),
        ]
    )


@pytest.fixture
def here(tiny, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    tuning_checks.without_training(monkeypatch)
    return tmp_path


@pytest.fixture
def small(few_digits, monkeypatch):
    """Puts a network of one layer in the place of the default one."""
    monkeypatch.setitem(by_name.NETWORKS, "tiny", lambda *_, **__: linear())


@contextlib.contextmanager
def files_up_to(size):
    """Context in which the system lets no file become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.every_backend
@pytest.mark.parametrize("size", [0, 100, 4000, 30_000])
def test_a_full_disk_ends_in_one_line_and_the_run_resumes(
    small, tmp_path, capsys, size
):
    output = tmp_path / "run"
    with files_up_to(size):
        assert command("train", "--output", str(output)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f'cbam-keras train: error: "{output}" can no longer be written to '
        "(File too large). What is in it is whole. Make room"
    )
    assert "the same call resumes" in line
    assert not list(output.rglob(f"{_files.UNFINISHED}*"))
    assert command("train", "--output", str(output)) == 0


def test_an_output_folder_may_be_a_link(small, tmp_path):
    folder, link = tmp_path / "disk", tmp_path / "link"
    folder.mkdir()
    link.symlink_to("disk")
    assert command("train", "--output", str(link)) == 0
    before = modified(folder)
    assert before
    assert command("train", "--output", str(link)) == 0
    assert modified(folder) == before
    assert command("train", "--output", str(link), "--overwrite") == 0
    assert link.is_symlink()
    assert modified(folder) != before


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
