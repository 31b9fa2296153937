"""Checkpoints of one network under training, saved after each epoch."""

import dataclasses
import json
import math
import os
import pathlib
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import keras

from cbam_keras import _files, _process
from cbam_keras._devices import SINGLE_DEVICE, Devices

# Tells a process that it is one of several on this machine.
WORKER = "CBAM_KERAS_WORKER"
# What reading a damaged file raises.
DAMAGE = (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile)


class Diverged(ArithmeticError):
    """The loss became NaN or infinite."""


@dataclasses.dataclass
class State:
    """State of one network under training, as `state.json` holds it.

    Attributes:
        fingerprint: String, see `networks.fingerprint`.
        history: List of dictionaries, one per finished epoch: `epoch` (from
            1), the metrics of the task, and `seconds`.
        latest: String, the checkpoint after the last finished epoch, or
            `None` before the first.
        best: String, the checkpoint after the best epoch, or `None`.
        random: List of nested lists of integers, the states of the random
            layers after the last finished epoch. A `.keras` file does not
            hold them.
    """

    fingerprint: str
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    latest: str | None = None
    best: str | None = None
    random: list[Any] = dataclasses.field(default_factory=list)

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(self.history)


class Progress:
    """The folder with the checkpoints of one network under training.

    `state.json` names two checkpoints beside it, the latest and the best. It
    is written after them, so it never names a file that is not complete.

    Args:
        folder: Path of the folder.
        writes: Boolean. Of several processes that train one network, one
            writes. Defaults to `True`.
    """

    def __init__(self, folder: pathlib.Path, *, writes: bool = True):
        self.folder = folder
        self.writes = writes

    def load(self) -> State | None:
        """Returns the state, or `None` before the first epoch.

        A damaged one is reported, renamed, and treated as missing.
        """
        path = self.folder / "state.json"
        if not path.exists():
            return None
        try:
            state = State(**json.loads(path.read_text()))
            best_epoch(state.history)
        except DAMAGE as error:
            _files.quarantine(path, error)
            return None
        return state

    def load_latest(self, state: State) -> keras.Model | None:
        """Returns the model of the last epoch with its optimizer.

        `None` if the checkpoint is damaged, which is reported, and renamed.
        """
        path = self.folder / str(state.latest)
        try:
            model = keras.saving.load_model(path)
        except DAMAGE as error:
            if path.exists():
                _files.quarantine(path, error)
            return None
        states = zip(random_states(model), state.random, strict=True)
        for variable, value in states:
            variable.assign(value)
        return model

    def load_best(self, state: State) -> keras.Model:
        """Returns the model of the best epoch."""
        return keras.saving.load_model(self.folder / str(state.best))

    def save(self, state: State, model: keras.Model) -> None:
        """Saves `model` as the latest checkpoint, and as the best if it is."""
        state.latest = f"epoch-{state.epochs}.keras"
        if best_epoch(state.history) == state.epochs:
            state.best = state.latest
        if not self.writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with _files.replacing(self.folder / state.latest) as beside:
            model.save(beside)
        state.random = [
            keras.ops.convert_to_numpy(variable).tolist()
            for variable in random_states(model)
        ]
        _files.write_json(self.folder / "state.json", dataclasses.asdict(state))
        for path in self.folder.glob("*.keras"):
            if path.name not in (state.latest, state.best):
                path.unlink()


class CheckpointEachEpoch(keras.callbacks.Callback):
    """Seeds each epoch, saves the state after it, stops at a signal.

    Keras' `BackupAndRestore` does not do: it writes weights and JSON apart,
    and forgets the history, the best epoch and the states of random layers.

    Args:
        progress: A `Progress`.
        state: Its `State`, which grows by a row of history per epoch.
        data: The data that `fit` reads, for their `set_epoch`.
        seed: Integer, the seed of the run.
        metrics: Sequence of strings, the logs that the history keeps.
        after_epoch: Function that gets the state after each epoch, once it
            has been saved.
        devices: The `Devices` that share the images. Defaults to a single
            device.
    """

    def __init__(
        self,
        progress: Progress,
        state: State,
        data: Any,
        seed: int,
        metrics: Sequence[str],
        after_epoch: Callable[[State], None],
        devices: Devices = SINGLE_DEVICE,
    ):
        super().__init__()
        self.progress = progress
        self.state = state
        self.data = data
        self.seed = seed
        self.metric_names = metrics
        self.after_epoch = after_epoch
        self.devices = devices

    def on_epoch_begin(self, epoch, logs=None):
        self.data.set_epoch(epoch)
        # PyTorch's dropout draws from its global generator.
        keras.utils.set_random_seed((self.seed + epoch) % 2**32)
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        _process.raise_if_noted()

    def on_test_batch_end(self, batch, logs=None):
        _process.raise_if_noted()

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            **{name: float(logs[name]) for name in self.metric_names},
            "seconds": time.perf_counter() - self.start,
        }
        if not math.isfinite(row["loss"]):
            raise Diverged(
                f"The training loss became {row['loss']} in epoch {epoch + 1}"
            )
        self.state.history.append(row)
        with self.devices.save_scope():
            self.progress.save(self.state, self.model)
        self.after_epoch(self.state)
        # No process starts an epoch before the last one is on disk.
        self.devices.wait()


def best_epoch(history: Sequence[dict[str, Any]]) -> int:
    """Returns the epoch with the best validation accuracy, from 1.

    The last one without validation.
    """
    if history and "val_accuracy" not in history[-1]:
        return history[-1]["epoch"]
    best = max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    return best["epoch"]


def seconds_per_epoch(history: Sequence[dict[str, Any]]) -> float:
    """Returns the median over the epochs after the first, which compiles."""
    seconds = [row["seconds"] for row in history]
    return statistics.median(seconds[1:] or seconds)


def random_states(model: keras.Model) -> list[keras.Variable]:
    """Returns the states of random layers, which are in no `.keras` file."""
    kept = {id(variable) for variable in model.weights}
    return [
        variable
        for variable in model.variables
        if id(variable) not in kept and "seed_generator" in variable.path
    ]


def is_worker() -> bool:
    """Returns whether this process is one that `run_workers` started."""
    return WORKER in os.environ


def verbosity() -> int:
    """Returns `verbose` of `fit`: log files cannot show a progress bar."""
    if is_worker():
        # The epochs of several would be mixed.
        return 0
    interactive = sys.stdout.isatty() or "ipykernel" in sys.modules
    return 1 if interactive else 2
