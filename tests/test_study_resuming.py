"""Runs killed, resumed, changed and damaged: the same call given again."""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import resource
import shutil

import networks
import pretended
import pytest
from data_checks import write_tree
from folder_checks import (
    BOTH,
    COMMAND,
    TWO,
    Killed,
    at_files,
    call,
    die,
    epochs,
    every_program,
    few,
    files,
    killed_at,
    killed_before,
    kills,
    weights,
    without,
)
from networks import linear

import cbam_keras
from cbam_keras import study
from cbam_keras.study.files.checkpoints import read_state

pytestmark = [
    pytest.mark.usefixtures("quick_programs"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

# Killed.


def kill_and_resume(name, choose, folder, **options):
    """Kills a program at files, and returns how many epochs one trains."""
    whole, left, total = kills(name, folder, **options)
    expected = weights(folder / "whole")
    assert len(left) > 8
    for kill in choose(left):
        folders = [path.parent for path in kill.folder.rglob("state.json")]
        saved = sum(read_state(folder).epochs for folder in folders)
        with epochs() as trained:
            assert call(name, kill.folder, **options) == whole
        # The epoch whose checkpoint was under way is trained again.
        assert saved + len(trained) == total
        assert weights(kill.folder) == expected
        assert set(files(kill.folder)) == set(files(folder / "whole"))
    return total


@pytest.mark.parametrize(
    ("name", "choose", "options"),
    [
        ("train", list, {"networks": {"linear": linear}}),
        pytest.param("compare", few, {}, marks=pytest.mark.exhaustive),
        ("tune", few, {}),
    ],
)
def test_a_run_killed_at_a_file_ends_as_an_unbroken_one(
    name, choose, options, tmp_path
):
    kill_and_resume(name, choose, tmp_path, **options)


def test_a_run_that_loses_patience_ends_as_early_after_a_kill(
    tmp_path, monkeypatch
):
    of_weights = pretended.numbers

    def numbers(model, *key):
        if key == ("test",):
            return of_weights(model, *key)
        # The best epoch is the second.
        return 1.0, 0.9 if key[-1] == 1 else 0.5

    monkeypatch.setattr(pretended, "numbers", numbers)

    def at_its_end(left):
        # Before and after the last state, and where the network is saved.
        return [left[2], *[kill for kill in left if kill.epochs == 4][:4]]

    recipe = dataclasses.replace(TWO, epochs=9, patience=2)
    options = {"networks": {"linear": linear}, "recipe": recipe}
    assert kill_and_resume("train", at_its_end, tmp_path, **options) == 4


def test_a_search_killed_again_and_again_ends_as_an_unbroken_one(tmp_path):
    options = {"max_trials": 4, "confirm": 0}
    expected = call("tune", tmp_path / "whole", **options)
    output = tmp_path / "life-0"
    for lives in itertools.count(1):
        copy = tmp_path / f"life-{lives}"
        act = functools.partial(die, output, copy)
        with contextlib.suppress(Killed), at_files(output, act):
            assert call("tune", output, **options) == expected
            break
        output = copy
    assert lives > 3


# Given again.


@every_program
def test_a_finished_run_is_not_trained_again(name, whole):
    output, expected = whole(name)
    # Tables are written again, and the best network copied.
    kept = {
        path: path.stat().st_mtime_ns for path in output.rglob("*-seed*.keras")
    }
    with epochs() as trained:
        assert call(name, output) == expected
    assert not trained
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.parametrize(
    ("name", "first", "second", "count"),
    [
        ("train", {"networks": {"mlp": networks.mlp}}, {}, 2),
        ("compare", {"seeds": [0, 1]}, {"seeds": [1]}, 0),
        ("compare", {"seeds": 1}, {"seeds": [2, 0]}, 4),
        ("tune", {"confirm": 0}, {"max_trials": 3, "confirm": 0}, 2),
        ("tune", {"confirm": 1}, {"confirm": 2}, 2),
        (
            *("tune", {"max_trials": 3, "confirm": 2}),
            *({"max_trials": 3, "confirm": 0}, 0),
        ),
    ],
)
def test_a_later_call_trains_what_is_missing(
    name, first, second, count, tmp_path
):
    call(name, tmp_path / "run", **first)
    with epochs() as trained:
        answer = call(name, tmp_path / "run", **second)
    assert len(trained) == count
    assert answer == call(name, tmp_path / "whole", **second)
    every = weights(tmp_path / "run").items()
    assert weights(tmp_path / "whole").items() <= every
    results = study.Results.read(tmp_path / "run")
    assert without(json.loads(results.json())) == answer


OTHER = dataclasses.replace(TWO, epochs=3)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("train", {"recipe": OTHER}, "recipe.epochs was 2, is 3"),
        ("train", {"data": "cluttered_mnist"}, "data.name was 'mnist5k'"),
        (
            "compare",
            {"layer_options": {"reduction_ratio": 2}},
            "variants.se.reduction_ratio was 4, is 2",
        ),
        ("compare", {"model": linear}, "model was 'tiny', is 'linear'"),
        ("tune", {"recipe": OTHER}, "recipe.epochs was 2, is 3"),
        ("train", {"resume": False}, "which holds one, resume=False"),
    ],
)
def test_a_change_is_named_and_nothing_is_touched(
    name, changed, message, whole
):
    output, _ = whole(name)
    before = files(output)
    with pytest.raises(ValueError, match=message):
        call(name, output, **changed)
    assert files(output) == before


def test_changed_layers_are_named(tmp_path):
    output = tmp_path / "run"
    killed_before("-2.keras", output)
    changed = {**BOTH, "linear": networks.mlp}
    with pytest.raises(ValueError, match='the layers of "linear"'):
        call("train", output, networks=changed)
    call("train", output)


# What version 0.7 wrote of 20 images, and of as many with a copy of each.
OF_0_7 = {
    "name": "photos",
    "input_shape": [28, 28, 1],
    "classes": 2,
    "batch_size": 35,
    "seed": 0,
    "augment": [],
}
ALONE_IN_0_7 = {
    **OF_0_7,
    "sizes": {"train": 14, "validation": 2, "test": 4},
    "fingerprint": "8254021d11ccf400",
}
COPIED_IN_0_7 = {
    **OF_0_7,
    "sizes": {"train": 28, "validation": 4, "test": 8},
    "fingerprint": "8093b17a2e495961",
}


def _begin_in_0_7(output, described):
    """Rewrites a run of two epochs as one that version 0.7 began."""
    study_file = output / "study.json"
    content = json.loads(study_file.read_text())
    content["settings"]["data"] = {"seed0": described}
    study_file.write_text(json.dumps(content))
    (state_file,) = output.glob("*/state.json")
    state = json.loads(state_file.read_text()) | {"data": described}
    state_file.write_text(json.dumps(state))


def test_a_run_of_version_0_7_with_copies_of_images_is_not_resumed(tmp_path):
    written = write_tree(tmp_path / "photos", "<ant|bee>/#.png", 10)
    network = functools.partial(linear, classes=2)
    options = {
        "networks": {"linear": network},
        "data": str(tmp_path / "photos"),
        "recipe": dataclasses.replace(TWO, image_size=28),
    }
    alone, copied = tmp_path / "alone", tmp_path / "copied"
    with killed_at("-2.keras", alone):
        call("train", alone, **options)
    _begin_in_0_7(alone, ALONE_IN_0_7)
    with epochs() as trained:
        call("train", alone, **options)
    assert len(trained) == 1
    for path in written:
        shutil.copy(path, path.with_name(f"copy_{path.name}"))
    with killed_at("-2.keras", copied):
        call("train", copied, **options)
    _begin_in_0_7(copied, COPIED_IN_0_7)
    before = files(copied)
    message = "changed: data.copies was None, is 'kept in one split, as of"
    with pytest.raises(ValueError, match=message):
        call("train", copied, **options)
    assert files(copied) == before


# Damaged.


@every_program
def test_a_damaged_run_is_named_until_it_is_overwritten(name, whole, tmp_path):
    copy = shutil.copytree(whole(name)[0], tmp_path / "run")
    (copy / "study.json").write_bytes(b"{")
    before = files(copy)
    with pytest.raises(ValueError, match="study.json is damaged"):
        call(name, copy)
    assert files(copy) == before
    assert call(name, copy, overwrite=True) == whole(name)[1]


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("*.keras", pytest.warns(UserWarning, match="left out: .*zip file")),
        ("state.json", pytest.raises(ValueError, match="Delete its folder")),
    ],
)
def test_a_damaged_network_is_named_and_trained_once_it_is_deleted(
    file, told, whole, tmp_path
):
    output = tmp_path / "run"
    # In the second epoch.
    killed_before("-2.keras", output)
    (path,) = (path for path in output.rglob(file) if path.parent != output)
    path.write_bytes(path.read_bytes()[:40])
    with told:
        call("train", output)
    shutil.rmtree(path.parent)
    assert call("train", output) == whole("train")[1]


def test_files_are_written_through_in_the_order_of_their_names(
    tmp_path, monkeypatch
):
    fsync, replace, calls = os.fsync, os.replace, []

    def noting_fsync(descriptor):
        inode = os.fstat(descriptor)
        paths = [*tmp_path.rglob("*"), tmp_path]
        calls.extend(
            ("sync", path)
            for path in paths
            if os.path.samestat(path.stat(), inode)
        )
        fsync(descriptor)

    def noting_replace(source, target):
        calls.append(("replace", pathlib.Path(source), pathlib.Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    call("train", tmp_path / "run")
    replaced = [call for call in calls if call[0] == "replace"]
    assert calls == [
        step
        for _, source, target in replaced
        for step in (
            ("sync", source),
            ("replace", source, target),
            ("sync", target.parent),
        )
    ]
    names = [target.name for _, _, target in replaced]
    # A state names its checkpoints, and results their networks.
    for named, naming in (
        ("epoch-1.keras", "state.json"),
        ("linear-seed0.keras", "state.json"),
    ):
        assert naming in names[names.index(named) :][:3]


# A disk that is full, and the command.


@pytest.mark.parametrize("size", [0, 4000])
def test_a_full_disk_ends_in_one_line_and_the_run_resumes(
    size, tmp_path, capsys
):
    output = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system lets no file become larger.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        assert cbam_keras.cli.main([*COMMAND, "--output", str(output)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f'cbam-keras train: error: "{output}" can no longer be written to '
        "(File too large). Files written so far are intact. Free some"
    )
    assert not any(name.startswith(".unf") for name in files(output))
    assert cbam_keras.cli.main([*COMMAND, "--output", str(output)]) == 0
