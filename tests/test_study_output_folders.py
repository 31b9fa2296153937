"""Output folders: what else is in them, overwriting, locks, links, names."""

import contextlib
import re
import shutil
import time

import keras
import pytest
from folder_checks import Killed, call, epochs, files, weights
from networks import linear
from study_checks import at_call, content_of, rewrite

from cbam_keras import _files, training
from cbam_keras.study.files.folder import StudyFolder

pytestmark = [
    pytest.mark.usefixtures("quick_programs"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def killed(*_):
    raise Killed


# What else may be in the folder.


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("mine", ["thesis.tex", "report.html"])
def test_a_folder_with_other_files_is_left_alone(mine, overwrite, tmp_path):
    (tmp_path / mine).write_text("mine")
    with pytest.raises(ValueError, match=f"other files: {mine}"):
        call("train", tmp_path, overwrite=overwrite)
    assert files(tmp_path) == {mine: b"mine"}


def test_another_kind_of_run_is_left_alone(whole):
    output, _ = whole("tune")
    before = files(output)
    with pytest.raises(ValueError, match="holds another run"):
        call("compare", output)
    assert files(output) == before


# Overwriting.


@pytest.mark.parametrize("name", ["train", "tune"])
def test_overwriting_renames_the_run_before(name, whole, tmp_path, capsys):
    output = shutil.copytree(whole(name)[0], tmp_path / "run")
    (output / "notes.txt").write_text("mine")
    (tmp_path / "run.old-1").mkdir()
    before = files(output)
    options = {"recipe": training.Recipe(epochs=1, batch_size=20)}
    if name == "train":
        options["networks"] = {"other": linear}
    call(name, output, **options, overwrite=True)
    assert files(tmp_path / "run.old-2") == before
    assert f'is now in "{output}.old-2"' in capsys.readouterr().out
    call(name, tmp_path / "new", **options)
    assert set(files(output)) == set(files(tmp_path / "new"))
    assert weights(output) == weights(tmp_path / "new")


def test_a_process_killed_after_the_renaming_leaves_the_run_whole(
    whole, tmp_path, monkeypatch
):
    output = shutil.copytree(whole("train")[0], tmp_path / "run")
    before = files(output)
    with monkeypatch.context() as patch:
        patch.setattr(_files, "write_json", killed)
        with pytest.raises(Killed):
            call("train", output, overwrite=True)
    assert files(tmp_path / "run.old-1") == before
    assert call("train", output) == whole("train")[1]


@pytest.mark.parametrize("below", [".", "explain"])
def test_the_current_folder_is_not_renamed(below, whole, tmp_path, monkeypatch):
    output = shutil.copytree(whole("train")[0], tmp_path / "run")
    before = files(output)
    (output / below).mkdir(exist_ok=True)
    monkeypatch.chdir(output / below)
    with pytest.raises(ValueError, match="in which this process runs"):
        call("train", output, overwrite=True)
    assert files(output) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": {"a/b": linear}}, "must be valid file names"),
        ({"networks": {"a": lambda: linear(classes=9)}}, "must take images"),
    ],
)
def test_nothing_is_overwritten_for_a_mistake(options, message, whole):
    output, _ = whole("train")
    before = files(output)
    with pytest.raises(ValueError, match=message):
        call("train", output, **options, overwrite=True)
    assert files(output) == before


# Several processes. A lock belongs to an open file, so a call within another
# one stands for another process, which a subprocess shows in test_files.py.


def within_a_training(name, output, act, number=1):
    """Calls a program, which calls `act` when it begins the nth training."""
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, keras.Model, "fit", number, act)
        return call(name, output)


# The third training of a search is one of its confirmation.
@pytest.mark.parametrize(
    ("name", "number"), [("train", 1), ("tune", 1), ("tune", 3)]
)
def test_a_run_is_not_overwritten_while_a_process_works_there(
    name, number, tmp_path
):
    refused = []

    def overwrite():
        with pytest.raises(ValueError, match="in use by another"):
            call(name, tmp_path / "run", overwrite=True)
        refused.append(name)

    within_a_training(name, tmp_path / "run", overwrite, number)
    assert refused


def test_a_run_is_not_overwritten_while_a_worker_trains(whole, tmp_path):
    output = shutil.copytree(whole("train")[0], tmp_path / "run")
    with _files.locked(output / "linear-seed0" / _files.LOCK):
        with pytest.raises(ValueError, match="in use by another"):
            call("train", output, overwrite=True)


def test_processes_share_the_networks_of_a_run(
    whole, tmp_path, monkeypatch, capsys
):
    def share():
        # Trains what is left, then waits for the network under training.
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(time, "sleep", killed)
            call("compare", tmp_path / "run")

    with epochs() as trained:
        found = within_a_training("compare", tmp_path / "run", share)
    output, expected = whole("compare")
    assert found == expected
    assert weights(tmp_path / "run") == weights(output)
    assert len(trained) == 2 * len(weights(output))
    assert re.search(
        "Waiting for .* in use by another", capsys.readouterr().out
    )


every_search = pytest.mark.parametrize("name", ["compare", "tune"])


def forget_last(output):
    """Forgets that the last network has ended; returns its state."""
    last = content_of(output)["outcomes"][-1]
    file = output / f"{last.variant}-seed{last.seed}/state.json"
    whole = file.read_text()
    rewrite(file, lambda content: content.pop("ended"))
    return file, whole


@every_search
def test_what_another_process_trains_meanwhile_is_not_trained_again(
    name, tmp_path, monkeypatch
):
    output = tmp_path / "run"
    expected = call(name, output)
    file, whole = forget_last(output)
    stack = contextlib.ExitStack()
    stack.enter_context(_files.locked(file.with_name(".lock")))

    def end(seconds):
        file.write_text(whole)
        stack.close()

    with epochs() as trained, monkeypatch.context() as patch:
        patch.setattr(time, "sleep", end)
        assert call(name, output) == expected
    # Or between the look for one and the lock of it.
    forget_last(output)
    with epochs() as again, monkeypatch.context() as patch:
        at_call(patch, StudyFolder, "claim", 1, lambda: file.write_text(whole))
        assert call(name, output) == expected
    assert trained == again == []


@every_search
def test_what_killed_processes_left_is_deleted(name, tmp_path):
    output = tmp_path / "run"
    call(name, output)
    before = set(files(output))
    first, *_, last = content_of(output)["outcomes"]
    (output / f"{first.variant}-seed{first.seed}" / _files.LOCK).touch()
    place = output / f"{last.variant}-seed{last.seed}"
    for path in (output, place):
        (path / ".unfinished-0123abcd-results.json").touch()
    (place / "epoch-1.keras").touch()
    call(name, output)
    assert set(files(output)) == before


def test_an_output_folder_may_be_a_link(tmp_path, whole):
    output, expected = whole("train")
    folder = shutil.copytree(output, tmp_path / "disk")
    (tmp_path / "link").symlink_to("disk")
    assert call("train", tmp_path / "link", overwrite=True) == expected
    assert set(files(folder)) == set(files(output))
    assert (tmp_path / "link").is_symlink()
    assert set(files(tmp_path / "disk.old-1")) == set(files(output))


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_an_output_that_is_no_folder_is_refused(output, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="`output` must be a folder"):
        call("train", tmp_path / output)
    assert files(tmp_path) == {"file": b"mine"}
