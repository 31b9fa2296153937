"""Programs that write output folders, called as users do; killed at files."""

import contextlib
import functools
import importlib
import io
import itertools
import json
import os
import pathlib
import shutil
import zipfile
from typing import NamedTuple

import digits
import h5py
import keras
import networks
import pretended
import pytest
from networks import linear

from cbam_keras import comparison, models, training, tuning

TWO = training.Recipe(epochs=2, batch_size=35)
# What differs from run to run.
VARYING = {"written", "command", "seconds", "seconds_per_epoch", "output"}


def units(hp):
    """Returns a network with one hidden layer, for a search."""
    return networks.mlp(
        hp.Choice("units", [2, 3, 4, 5, 6, 7]),
        activation=hp.Choice("activation", ["tanh", "relu"]),
    )


BOTH = {"linear": linear, "mlp": networks.mlp}
SEARCH = {"hypermodel": units, "max_trials": 2, "confirm": 2}
PROGRAMS = {
    "train": (training.train, {"networks": BOTH}),
    "compare": (comparison.compare, {"attentions": ["none", "se"], "seeds": 2}),
    "tune": (tuning.search, SEARCH),
}
COMMAND = (
    *("train", "--data", "mnist5k", "--epochs", "2", "--batch-size", "35"),
    *("--attention", "none", "se", "--no-report"),
)
every_program = pytest.mark.parametrize("name", PROGRAMS)


def quicken(patch):
    """Few digits, small networks, pretended training, figures not drawn."""
    pytest.importorskip("matplotlib")
    digits.replace(digits.few, patch.setattr)
    # Attention makes no difference here, and takes time to build.
    patch.setitem(models.NETWORKS, "tiny", lambda *_, **__: linear())
    pretended.install(patch)


def call(name, output, **options):
    """Calls a program as a user does, and returns what it answers."""
    program, arguments = PROGRAMS[name]
    arguments = {"data": "mnist5k", "recipe": TWO, **arguments, **options}
    if arguments.get("hypermodel") is units:
        arguments["hypermodel"] = importlib.import_module("own_spaces").Space(
            units
        )
    results = program(**arguments, output=output)
    return without(json.loads(results.json()))


def without(value):
    """Returns results without what differs from run to run."""
    if isinstance(value, dict):
        return {k: without(v) for k, v in value.items() if k not in VARYING}
    if isinstance(value, list | tuple):
        return [without(v) for v in value]
    return value


def files(folder):
    """Returns the files below a folder, with their content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def weights(folder):
    """Returns all that the saved networks hold, as bytes."""
    networks = {}
    for path in folder.rglob("*.keras"):
        content = zipfile.ZipFile(path).read("model.weights.h5")
        values = networks[str(path.relative_to(folder))] = {}

        def note(name, item, values=values):
            if isinstance(item, h5py.Dataset):
                values[name] = item[()].tobytes()

        with h5py.File(io.BytesIO(content)) as file:
            file.visititems(note)
    return networks


@contextlib.contextmanager
def epochs():
    """Gives a list that grows by each epoch that is trained."""
    trained, fit = [], keras.Model.fit
    note = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: trained.append(epoch)
    )

    @functools.wraps(fit)
    def noting(model, *arguments, callbacks=(), **options):
        return fit(model, *arguments, callbacks=[note, *callbacks], **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", noting)
        yield trained


class Killed(BaseException):
    """In place of the signal that ends a process."""


class Kill(NamedTuple):
    """What SIGKILL leaves when a file is about to be put in its place."""

    folder: pathlib.Path
    epochs: int


@contextlib.contextmanager
def at_files(output, act):
    """Calls `act` with a count before each file of a folder gets its name."""
    replace, counts = os.replace, itertools.count(1)

    def replacing(source, target, **options):
        if pathlib.Path(target).is_relative_to(output):
            act(next(counts), pathlib.Path(source))
        replace(source, target, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replacing)
        yield


def leave(output, source, copy):
    """Copies a folder as a process leaves it that is killed at a file."""
    shutil.copytree(output, copy, symlinks=True)
    half = copy / source.relative_to(output)
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])


def die(output, copy, count, source):
    """Kills at the eleventh file."""
    if count == 11:
        leave(output, source, copy)
        raise Killed


@contextlib.contextmanager
def killed_at(ending, output):
    """Context that ends when a file of such a name is to get its place."""

    def stop(count, source):
        if source.name.endswith(ending):
            raise Killed

    with pytest.raises(Killed), at_files(output, stop):
        yield


def killed_before(ending, output, name="train"):
    """Trains until a file of such a name is about to be put in its place."""
    with killed_at(ending, output):
        call(name, output)


def kills(name, folder, **options):
    """Returns an answer, and what a kill at each written file leaves."""
    output, left = folder / "whole", []
    with epochs() as trained:

        def act(count, source):
            left.append(Kill(folder / f"killed-{count}", len(trained)))
            leave(output, source, left[-1].folder)

        with at_files(output, act):
            whole = call(name, output, **options)
    return whole, left, len(trained)


def few(left):
    """Returns kills at the beginning, in the middle and at the end."""
    count = len(left)
    return [left[i] for i in sorted({0, 2, count // 3, 2 * count // 3, -1})]
