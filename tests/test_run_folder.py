"""Output folders: named, and runs in them started, resumed or overwritten."""

import errno
import json
import os
import pathlib

import pytest

from cbam_keras import _files, _run_folder
from cbam_keras._run_folder import RunFolder

SETTINGS = {"data": {"name": "mnist5k"}, "pools": ("avg", "max")}


class Walk(RunFolder):
    """A kind of run with few files."""

    kind = "walk"

    def new_content(self):
        return {"steps": []}

    def check_content(self, content):
        list(content["steps"])

    def patterns(self, content):
        return ["notes.csv", "step_*/state.json"]


class Swim(Walk):
    kind = "swim"
    file = "search.json"


def walk(path, kind=Walk, settings=SETTINGS, **options):
    """Opens the folder, takes a step, and returns the content."""
    folder = kind(path, settings)
    with folder.opened(**options):
        number = len(folder.content["steps"]) + 1
        folder.content["steps"].append(number)
        (folder.path / f"step_{number}").mkdir(exist_ok=True)
        _files.write_json(folder.path / f"step_{number}/state.json", number)
        (folder.path / "notes.csv").write_text("a,b")
        folder.write()
    return folder.content


def everything(path):
    return {
        file.relative_to(path): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }


# Written to.


@pytest.mark.parametrize(
    ("number", "writable"),
    [
        (errno.ENOSPC, True),
        (errno.EDQUOT, True),
        (errno.EROFS, False),
        (errno.EACCES, False),
    ],
    ids=errno.errorcode.get,
)
def test_a_folder_that_cannot_be_written_to_is_named(
    tmp_path, monkeypatch, number, writable
):
    monkeypatch.setattr(os, "access", lambda *_: writable)
    with pytest.raises(
        RuntimeError, match=f'"{tmp_path}" can no longer be written to.*resumes'
    ):
        with Walk(tmp_path, SETTINGS).opened():
            raise OSError(number, os.strerror(number))
    assert walk(tmp_path)["steps"] == [1]


def test_other_errors_of_the_system_stay_as_they_are(tmp_path):
    with pytest.raises(PermissionError, match="photo.png"):
        with Walk(tmp_path, SETTINGS).opened():
            raise PermissionError(errno.EACCES, "denied", "photo.png")


# Begun and resumed.


@pytest.mark.parametrize("make", [False, True], ids=["absent", "empty"])
def test_a_new_folder_is_begun(tmp_path, make):
    if make:
        (tmp_path / "run").mkdir()
    content = walk(tmp_path / "run")
    stored = json.loads((tmp_path / "run/results.json").read_text())
    assert stored == content
    assert stored["kind"] == "walk"
    assert stored["settings"] == {**SETTINGS, "pools": ["avg", "max"]}
    assert "keras" in stored["versions"]
    assert stored["steps"] == [1]


def test_the_same_run_is_resumed(tmp_path):
    walk(tmp_path)
    assert walk(tmp_path)["steps"] == [1, 2]


def test_no_lock_is_left(tmp_path):
    walk(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [
        *("notes.csv", "results.json", "step_1"),
    ]


def test_what_a_killed_process_left_does_not_count(tmp_path):
    (tmp_path / ".unfinished-results.json").write_text("{")
    (tmp_path / _files.LOCK).write_text("")
    assert walk(tmp_path)["steps"] == [1]


def test_each_changed_setting_is_named(tmp_path):
    walk(tmp_path)
    other = {"data": {"name": "cifar10"}, "pools": ("avg",), "note": 1}
    before = everything(tmp_path)
    with pytest.raises(ValueError) as caught:
        walk(tmp_path, settings=other)
    assert (
        "changed: data.name was 'mnist5k', is 'cifar10'; pools was "
        "['avg', 'max'], is ['avg']; note was None, is 1"
    ) in str(caught.value)
    assert everything(tmp_path) == before


def test_resume_may_be_forbidden(tmp_path):
    walk(tmp_path)
    with pytest.raises(ValueError, match="unless the walk in it is resumed"):
        walk(tmp_path, resume=False)


# Refused.


def test_other_files_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="holds other files: thesis.tex"):
        walk(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kinds", [(Walk, Swim), (Swim, Walk)])
def test_another_kind_of_run_is_refused(tmp_path, kinds, overwrite):
    walk(tmp_path, kinds[0])
    before = everything(tmp_path)
    with pytest.raises(ValueError, match=rf"run \({kinds[0].kind}\)"):
        walk(tmp_path, kinds[1], overwrite=overwrite)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"kind": "walk"}', '{"kind": "walk", "settings": 1}'],
)
def test_a_damaged_run_is_refused_until_it_is_overwritten(tmp_path, content):
    walk(tmp_path)
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(_files.Damaged, match="results.json is damaged"):
        walk(tmp_path)
    assert walk(tmp_path, overwrite=True)["steps"] == [1]


# Overwritten.


def test_overwriting_deletes_the_run_and_begins_another(tmp_path):
    walk(tmp_path)
    walk(tmp_path)
    (tmp_path / "notes.csv.damaged").write_text("set aside")
    content = walk(tmp_path, settings={"other": 1}, overwrite=True)
    assert content["steps"] == [1]
    assert content["settings"] == {"other": 1}
    assert sorted(os.listdir(tmp_path)) == [
        *("notes.csv", "results.json", "step_1"),
    ]


def test_a_new_folder_may_be_overwritten(tmp_path):
    assert walk(tmp_path / "run", overwrite=True)["steps"] == [1]


@pytest.mark.parametrize(
    "name", ["thesis.tex", "step_1/thesis.tex", "mine/state.json"]
)
def test_a_run_beside_other_files_is_not_overwritten(tmp_path, name):
    walk(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(ValueError, match=f"which also holds {name}"):
        walk(tmp_path, overwrite=True)
    assert everything(tmp_path) == before


def test_a_linked_folder_is_not_emptied(tmp_path):
    walk(tmp_path / "run")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "state.json").write_text("mine")
    (tmp_path / "run" / "step_2").symlink_to(tmp_path / "photos")
    with pytest.raises(ValueError, match="which also holds step_2"):
        walk(tmp_path / "run", overwrite=True)
    assert (tmp_path / "photos" / "state.json").read_text() == "mine"


def test_only_a_run_is_overwritten(tmp_path):
    (tmp_path / "notes.csv").write_text("mine")
    with pytest.raises(ValueError, match="holds other files: notes.csv"):
        walk(tmp_path, overwrite=True)
    assert (tmp_path / "notes.csv").read_text() == "mine"


def test_an_interrupted_overwrite_is_not_taken_for_a_run(tmp_path, monkeypatch):
    walk(tmp_path)

    def interrupted(path, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "rmdir", interrupted)
        with pytest.raises(KeyboardInterrupt):
            walk(tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="was being overwritten when"):
        walk(tmp_path)
    assert walk(tmp_path, overwrite=True)["steps"] == [1]


# One process at a time; more in test_files.py.


def test_a_second_use_in_one_process_is_refused(tmp_path):
    with _files.locked(tmp_path):
        with pytest.raises(ValueError, match=f"process {os.getpid()} on"):
            walk(tmp_path)
    walk(tmp_path)


# Names.


@pytest.mark.parametrize(
    ("data", "model", "name"),
    [
        ("mnist5k", "small", "train-mnist5k-small"),
        (
            "imagenette/160px-v2",
            "resnet18",
            "train-imagenette-160px-v2-resnet18",
        ),
        (
            "imagewoof/160px-v2",
            "resnet18",
            "train-imagewoof-160px-v2-resnet18",
        ),
        ("cifar10:3.0.2", "small", "train-cifar10-3.0.2-small"),
        ("my photos", "<lambda>", "train-my-photos-lambda"),
    ],
)
def test_the_default_folder_is_one_below_runs(data, model, name):
    folder = _run_folder.default_output("train", data, model)
    assert folder.parts == ("runs", name)


# Started by a command.


def test_a_command_is_noted_and_its_report_written_however_it_ends(tmp_path):
    reported = []
    with _run_folder.started_by("cbam-keras walk", reported.append):
        walk(tmp_path / "a")
        with pytest.raises(KeyboardInterrupt):
            with Walk(tmp_path / "b", SETTINGS).opened():
                # A part of it.
                walk(tmp_path / "b" / "part")
                raise KeyboardInterrupt
    walk(tmp_path / "c")
    assert reported == [tmp_path / "a", tmp_path / "b"]
    contents = {
        name: json.loads((tmp_path / name / "results.json").read_text())
        for name in ("a", "b", "b/part", "c")
    }
    assert contents["a"]["command"] == "cbam-keras walk"
    assert contents["b"]["command"] == "cbam-keras walk"
    assert "command" not in contents["b/part"]
    assert "command" not in contents["c"]


def test_a_folder_that_is_refused_gets_no_report(tmp_path):
    walk(tmp_path)
    reported = []
    with _run_folder.started_by("cbam-keras swim", reported.append):
        with pytest.raises(ValueError, match="another run"):
            walk(tmp_path, Swim)
    assert not reported


def test_a_report_belongs_to_its_run(tmp_path):
    walk(tmp_path)
    (tmp_path / _run_folder.REPORT).write_text("a page")
    (tmp_path / _run_folder.LOOKS).mkdir()
    (tmp_path / _run_folder.LOOKS / "explain.json").write_text("{}")
    walk(tmp_path, overwrite=True)
    assert not (tmp_path / _run_folder.REPORT).exists()
    (tmp_path / "results.json").unlink()
    # Nor does it keep a run from beginning, after one that trained nothing.
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / _run_folder.REPORT).write_text("a page")
    walk(tmp_path / "new")
