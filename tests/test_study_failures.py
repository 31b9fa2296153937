"""Runs that end in errors, and files that cannot be read for a moment."""

import builtins
import contextlib
import dataclasses
import errno
import io
import shutil
import weakref

# Programs that are pretended replace the function in its module.
from gc import collect

import keras
import networks
import pytest
from folder_checks import (
    TWO,
    call,
    epochs,
    files,
    killed_at,
    weights,
)
from networks import linear
from study_checks import NARROW, at_call, content_of, narrow, planned

from cbam_keras import study

pytestmark = [
    pytest.mark.usefixtures("quick_programs"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

# Ended by an error.

# What fails, at which call, by which error, and how many epochs are left.
CallbackList = keras.callbacks.CallbackList
MOMENTS = {
    "epoch": (CallbackList, "on_epoch_end", 2, MemoryError(), 1),
    "saving": (keras.Model, "save", 2, RuntimeError("bug"), 1),
    "test": (keras.Model, "evaluate", 1, OSError(errno.ESTALE, "away"), 0),
}


def call_failing(moment, name, output, **options):
    """Calls a program in which a function fails once; what is left to train."""
    *where, error, left = MOMENTS[moment]

    def fail():
        raise error

    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, *where, fail)
        call(name, output, **options)
    return left


@pytest.mark.filterwarnings("ignore:A network is left out")
@pytest.mark.parametrize(
    ("name", "moment"),
    [
        *(("train", moment) for moment in MOMENTS),
        *(("tune", moment) for moment in ("test", "saving")),
    ],
)
def test_a_run_goes_on_after_an_error_as_an_unbroken_one(
    name, moment, whole, tmp_path
):
    output, (folder, expected) = tmp_path / "run", whole(name)
    left = call_failing(moment, name, output)
    with epochs() as trained:
        assert call(name, output) == expected
    # The confirmation of a search may have been of another trial before.
    is_other = (name, moment) == ("tune", "saving")
    assert len(trained) == left or is_other
    assert weights(folder).items() <= weights(output).items()
    assert set(files(output)) == set(files(folder)) or is_other
    # They have the order of training, not that in which they have ended.
    ended, unbroken = (
        [(x.variant, x.seed, x.epochs) for x in content_of(each)["outcomes"]]
        for each in (output, folder)
    )
    assert ended == unbroken


ONE = {"networks": {"linear": linear}}


def test_layers_that_mend_an_error_are_trained_from_the_start(tmp_path):
    mended = {"networks": {"linear": networks.mlp}}
    with pytest.raises(RuntimeError, match="bug"):
        call_failing("saving", "train", tmp_path / "run", **ONE)
    with pytest.raises(ValueError, match='"linear". Delete that folder'):
        call("train", tmp_path / "run", **mended)
    shutil.rmtree(tmp_path / "run/linear-seed0")
    results = call("train", tmp_path / "run", **mended)
    assert results == call("train", tmp_path / "whole", **mended)


def test_what_never_began_may_begin_with_other_settings(tmp_path):
    with killed_at("epoch-1.keras", tmp_path):
        call("train", tmp_path, **ONE)
    shorter = {**ONE, "recipe": dataclasses.replace(TWO, epochs=1)}
    with epochs() as trained:
        call("train", tmp_path, **shorter)
    assert trained == [0]


# Files that cannot be read for a moment.


@contextlib.contextmanager
def at_reading(output, act):
    """Calls `act` with the path of each file of a folder that is opened."""
    opened = io.open

    def opening(file, mode="r", *arguments, **options):
        if str(file).startswith(str(output)) and mode in ("r", "rb", "a+"):
            act(str(file))
        return opened(file, mode, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opening)
        patch.setattr(builtins, "open", opening)
        yield


def test_a_run_whose_only_state_cannot_be_read_is_not_forgotten(tmp_path):
    with pytest.raises(RuntimeError, match="bug"):
        call_failing("saving", "train", tmp_path, **ONE)

    def deny(path):
        if path.endswith("state.json"):
            raise PermissionError(errno.EACCES, "Permission denied")

    with at_reading(tmp_path, deny):
        with pytest.raises(PermissionError, match="Permission denied"):
            call("train", tmp_path, **ONE)
    with pytest.raises(ValueError, match="recipe.epochs was 2, is 3"):
        call(
            "train", tmp_path, **ONE, recipe=dataclasses.replace(TWO, epochs=3)
        )


# What is left of a network that failed.


@pytest.mark.filterwarnings("ignore:A network is left out")
def test_a_network_that_fails_is_freed(tmp_path, monkeypatch):
    built = []

    def watched(data):
        model = narrow(data)
        built.append(weakref.ref(model))
        return model

    def fail():
        raise RuntimeError("a bug")

    at_call(monkeypatch, keras.Model, "save", 1, fail)
    plan = planned(study.Variant("watched", watched), NARROW)
    results = study.run(plan, tmp_path / "run")
    assert [x.status for x in results.outcomes] == ["error", "finished"]
    # It was built to be checked, and to be trained.
    assert len(built) == 2
    collect()
    assert [reference() for reference in built] == [None, None]
