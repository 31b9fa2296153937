"""The default output folder: its name says what another plan has."""

import pathlib
import re
import shlex
import types

import pytest

from _cbam_keras_command.parser import parse
from cbam_keras import comparison, study, training
from cbam_keras.cli.command import PLANS


def name_default(arguments, folder, monkeypatch):
    """Returns the default folder of a command line, below `runs`."""
    monkeypatch.chdir(folder)
    planned = PLANS["train"](parse(["train", *shlex.split(arguments)]))
    runs, name = study.default_output(planned).parts
    assert runs == "runs"
    return name


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Returns a folder with a folder of images, which are not read."""
    folder = tmp_path_factory.mktemp("beside")
    for name in ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("", "train-mnist5k-tiny"),
        # These are the defaults.
        ("--epochs 2 --stages all", "train-mnist5k-tiny"),
        # More seeds and networks belong to the same plan.
        ("--seeds 10 --attention none se", "train-mnist5k-tiny"),
        ("--epochs 5", "train-mnist5k-tiny-epochs-5"),
        ("--data photos", "train-photos-tiny"),
        # There is one epoch then, and at least 200 steps without it.
        ("--data photos --epochs 1", "train-photos-tiny-epochs-1"),
        (
            "--data photos --model EfficientNetLite0 --weights imagenet",
            "train-photos-EfficientNetLite0",
        ),
        (
            "--data photos --model EfficientNetLite0 --weights imagenet "
            "--stages top --frozen",
            "train-photos-EfficientNetLite0-top-frozen",
        ),
        (
            "--data photos --model EfficientNetLite0",
            "train-photos-EfficientNetLite0-weights-random",
        ),
        (
            "--data photos --augment flip crop --folds 5",
            "train-photos-tiny-flip-crop-folds-5",
        ),
        (
            "--data photos --class-weight balanced --measure auc",
            "train-photos-tiny-class-weight-balanced-auc",
        ),
        ("--reduction-ratio 8", "train-mnist5k-tiny-reduction-ratio-8"),
        # Four options, a long name, and what no path may hold.
        (
            "--epochs 3 --batch-size 4 --patience 2 --learning-rate 0.1",
            "train-mnist5k-tiny-HASH",
        ),
        (
            "--data photos --class-weight balanced --learning-rate 0.01234",
            "train-photos-tiny-HASH",
        ),
        (
            "--data photos --pattern {class}/{group}.png",
            "train-photos-tiny-HASH",
        ),
    ],
)
def test_a_default_folder_names_what_another_plan_has(
    arguments, name, photos, monkeypatch
):
    folder = name_default(arguments, photos, monkeypatch)
    pattern = re.escape(name).replace("HASH", "[0-9a-f]{6}")
    assert re.fullmatch(pattern, folder)
    assert len(folder) <= 60


def test_plans_that_cannot_be_read_have_folders_of_their_own(
    photos, monkeypatch
):
    options = "--data photos --patience 2 --batch-size 4 --learning-rate 0.1"
    names = [
        name_default(f"{options} --epochs {epochs}", photos, monkeypatch)
        for epochs in (3, 4, 3)
    ]
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize(
    ("task", "settings", "name"),
    [
        ("my photos/small", {"model": "tiny"}, "study-my-photos-small-tiny"),
        ("photos", {}, "study-photos"),
    ],
)
def test_names_of_data_become_parts_of_a_path(task, settings, name):
    plan = types.SimpleNamespace(
        task=types.SimpleNamespace(name=task),
        kind="study",
        settings=settings,
        options={},
        folds=None,
    )
    assert study.default_output(plan) == pathlib.Path("runs", name)


def test_a_task_without_a_name_needs_a_folder():
    plan = types.SimpleNamespace(task=types.SimpleNamespace(name=None))
    with pytest.raises(ValueError, match="`output` must be a folder for a tas"):
        study.default_output(plan)


@pytest.mark.usefixtures("quick_programs")
def test_a_run_of_version_0_7_is_resumed_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def planned(rate):
        recipe = training.Recipe(epochs=1, learning_rate=rate)
        return comparison.plan(data="mnist5k", seeds=1, recipe=recipe)

    earlier = pathlib.Path("runs/train-mnist5k-tiny")
    study.run(planned(0.01), earlier)
    assert study.run(planned(0.01)).output == earlier
    # Another plan, whose folder holds nothing yet.
    assert study.run(planned(0.02)).output != earlier
