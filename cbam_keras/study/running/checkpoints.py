"""Checkpoints of one network under training, saved after each epoch."""

import contextlib
import dataclasses
import io
import json
import math
import os
import pathlib
import random
import socket
import time
import zipfile
from collections.abc import Callable, Sequence

import keras
import numpy as np

from cbam_keras import _checks, _files, _graph
from cbam_keras.study.plans.measures import ACCURACY, Measure, validation_key
from cbam_keras.study.plans.recipes import Recipe
from cbam_keras.study.plans.study import Data
from cbam_keras.study.running import interrupts

# What reading a file raises that is not there, or is damaged. Other errors of
# the system may pass, and say nothing of the file.
DAMAGE = (
    *(FileNotFoundError, NotADirectoryError, IsADirectoryError),
    *(ValueError, TypeError, AttributeError, LookupError),
    *(ArithmeticError, RecursionError),
)
# The network of which the checkpoints are only the part behind frozen layers.
WHOLE = "whole.keras"
# This file of a network's folder names two checkpoints beside it, and is
# written after them, so it never names a file that is not complete.
STATE = "state.json"
# This one has a line for each process that has trained the network since the
# last finished epoch, and another one for each of them that is known to have
# died, which says how.
TRIES = "tries"
# What that line says of a death that was not the network's fault.
EXCUSED = "excused"
# This one is beside the checkpoints of a network that has ended in an error.
FAILED = "failed"
# This one holds what the task predicts by the network that is tested.
PREDICTIONS = "predictions.npz"
# What `fit` reports of the validation images.
VALIDATED = Measure(validation_key(ACCURACY))


class Stopped(Exception):
    """Ends a training with a status of its own."""

    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status = status


@dataclasses.dataclass
class State:
    """State of one network under training."""

    fingerprint: str
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    latest: str | None = None
    best: str | None = None
    # A `.keras` file does not hold the states of random layers.
    random: list[object] = dataclasses.field(default_factory=list)
    # Whether the last epoch was compiled.
    jit_compile: bool | None = None

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    def file_of(self, epoch: int) -> str:
        """Returns the checkpoint of the best epoch, or of the last one."""
        return str(self.latest if epoch == self.epochs else self.best)


def load_state(folder: pathlib.Path) -> State | None:
    """Returns the state, or `None` before the first epoch."""
    path = folder / STATE
    try:
        state = State(**json.loads(_files.read_bytes(path)))
        best_epoch(state.history)
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        _files.quarantine(path, error)
        return None
    return state


def begin_try(folder: pathlib.Path) -> list[str]:
    """Notes that this process trains, and returns how those before have died.

    The texts are empty for those of which that is not known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / TRIES
    with (
        _files.naming(path),
        path.open("a+", encoding="utf-8", errors="replace", newline="") as file,
    ):
        file.seek(0)
        lines = [line.partition(" ") for line in file.read().splitlines()]
        file.write(f"{socket.gethostname()}:{os.getpid()}\n")
    deaths = {process: how for process, _, how in lines if how}
    ends = [deaths.get(process, "") for process, _, how in lines if not how]
    return [how for how in ends if how != EXCUSED]


def note_death(folder: pathlib.Path, process: str, how: str) -> bool:
    """Notes how a process has died, `"host:number"`, if it trained here."""
    path = folder / TRIES
    # Another process may finish an epoch.
    with contextlib.suppress(FileNotFoundError):
        if process in path.read_text("utf-8", "replace").splitlines():
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(f"{process} {' '.join(how.split())}\n")
            return True
    return False


def forget_tries(folder: pathlib.Path) -> None:
    """Lets a network be tried as often as if nobody had trained it."""
    (folder / TRIES).unlink(missing_ok=True)
    # A folder with checkpoints stays.
    with contextlib.suppress(OSError):
        folder.rmdir()


def is_whole(path: pathlib.Path) -> bool:
    """Returns whether a checkpoint is there, and renames a damaged one.

    Keras raises the same errors for damage and where it cannot read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(_files.read_bytes(path))) as archive:
            for name in ("config.json", "model.weights.h5"):
                # Raises unless the checksum is right.
                archive.read(name)
    except FileNotFoundError:
        return False
    except (OSError, MemoryError):
        raise
    # Damage has many types, and nothing else fails in memory.
    except Exception as error:
        _files.quarantine(path, error)
        return False
    return True


def load_latest(folder: pathlib.Path, state: State) -> keras.Model:
    """Returns the model of the last epoch, not compiled."""
    model = _files.load_model(folder / str(state.latest))
    states = zip(_graph.random_states(model), state.random, strict=True)
    for variable, value in states:
        variable.assign(value)
    return model


def load_optimizer(
    model: keras.Model, folder: pathlib.Path, state: State
) -> None:
    """Gives a compiled model the optimizer's state of the last epoch."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    model.load_weights(folder / str(state.latest))


@dataclasses.dataclass(eq=False)
class CheckpointEachEpoch(keras.callbacks.Callback):
    """Seeds each epoch, saves the state after it, and stops at a signal.

    Keras' `BackupAndRestore` does not do: it writes weights and JSON apart,
    and forgets the history, the best epoch and the states of random layers.
    """

    state: State
    data: Data
    recipe: Recipe
    metric_names: Sequence[str]
    folder: pathlib.Path
    measure: Measure
    # It measures the validation images beside `fit`.
    validate: Callable[..., dict[str, float]]

    def __post_init__(self):
        super().__init__()

    def on_epoch_begin(self, epoch, logs=None):
        self.data.set_epoch(epoch)
        _seed_generators(self.recipe.seed, epoch)
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        interrupts.raise_if_noted()

    on_test_batch_end = on_train_batch_end

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            **{name: float(logs[name]) for name in self.metric_names},
            **self.validate(self.model, self.data),
            "seconds": time.perf_counter() - self.start,
        }
        if not math.isfinite(row["loss"]):
            raise Stopped(
                "diverged",
                f"The training loss became {row['loss']} in epoch {epoch + 1}",
            )
        self.state.history.append(row)
        self.save()
        if lost_patience(self.state.history, self.recipe, self.measure):
            self.model.stop_training = True

    def save(self) -> None:
        """Saves the latest checkpoint, which may be the best as well."""
        state, folder = self.state, self.folder
        state.latest = f"epoch-{state.epochs}.keras"
        if best_epoch(state.history, self.measure) == state.epochs:
            state.best = state.latest
        folder.mkdir(parents=True, exist_ok=True)
        with _files.replacing(folder / state.latest) as beside:
            self.model.save(beside)
        state.random = [
            keras.ops.convert_to_numpy(variable).tolist()
            for variable in _graph.random_states(self.model)
        ]
        state.jit_compile = bool(self.model.jit_compile)
        _files.write_json(folder / STATE, dataclasses.asdict(state))
        forget_tries(folder)
        for path in folder.glob("*.keras"):
            if path.name not in (state.latest, state.best):
                path.unlink()


def _seed_generators(seed, epoch):
    """Seeds the global generators, from which PyTorch's dropout draws.

    A sum of the two would let one seed draw in an epoch as the next one has
    drawn in the epoch before.

    Not by `keras.utils.set_random_seed`: it makes TensorFlow forget what it
    has compiled, which takes a ResNet18 seven seconds in each epoch.
    """
    seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    if keras.backend.backend() == "torch":
        _checks.require("torch", extra="torch").manual_seed(seed)


def best_epoch(
    history: Sequence[dict[str, float]], measure: Measure = VALIDATED
) -> int:
    """Returns the epoch with the best validation images, from 1.

    By the measure of the study if the history has it, else by the accuracy.
    Without either it is the last one.
    """
    measure = _validated(history, measure)
    rows = history if measure.key in history[-1] else history[-1:]
    best = max(
        rows,
        key=lambda row: (
            measure.merit(row.get(measure.key, 0)),
            -row.get("val_loss", 0),
        ),
    )
    return int(best["epoch"])


def select_epoch(
    history: Sequence[dict[str, float]],
    recipe: Recipe,
    measure: Measure,
    images: int,
) -> tuple[int, str]:
    """Returns the epoch whose network is tested, from 1, and why.

    With a learning rate that ends at zero it is the last one, unless that is
    worse than the best by more than a standard error of so many validation
    images: few images would choose by chance. With patience, and with a
    learning rate that does not end at zero, it is the best.
    """
    best, last = best_epoch(history, measure), int(history[-1]["epoch"])
    measure = _validated(history, measure)
    if best == last or measure.key not in history[-1]:
        return last, "last epoch"
    value, final = history[best - 1][measure.key], history[-1][measure.key]
    variance = value * (1 - value) if 0 <= value <= 1 else math.inf
    error = math.sqrt(variance / images) if images else 0.0
    if (
        recipe.patience is None
        and recipe.schedule == "cosine"
        and abs(value - final) <= error
    ):
        return last, "last epoch"
    return best, f"best {measure.key}"


def _validated(history, measure):
    """Returns a measure of the validation images that a history may have."""
    measure = dataclasses.replace(measure, key=validation_key(measure.key))
    has_it = history and measure.key in history[-1]
    return measure if has_it else VALIDATED


def lost_patience(
    history: Sequence[dict[str, float]], recipe: Recipe, measure: Measure
) -> bool:
    """Returns whether a training is to end, as it has not become better."""
    if recipe.patience is None or not history:
        return False
    # The frozen epochs are all trained.
    since = max(best_epoch(history, measure), recipe.frozen_epochs)
    return len(history) - since >= recipe.patience
