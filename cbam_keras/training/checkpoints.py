"""Checkpoints of one network under training, saved after each epoch."""

import dataclasses
import json
import pathlib
import shutil
import statistics
import zipfile
from collections.abc import Sequence
from typing import Any

import keras

from cbam_keras import _files
from cbam_keras._files import Damaged


@dataclasses.dataclass
class State:
    """State of one network under training, as `state.json` holds it.

    Attributes:
        network: String, the name of the network.
        fingerprint: String, see `networks.fingerprint`.
        history: List of dictionaries, one per finished epoch; see `Results`.
        latest: String, the checkpoint after the last finished epoch, or
            `None` before the first.
        best: String, the checkpoint after the best epoch, or `None`.
        random: List of nested lists of integers, the states of the random
            layers after the last finished epoch. A `.keras` file does not
            hold them.
    """

    network: str
    fingerprint: str
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    latest: str | None = None
    best: str | None = None
    random: list[Any] = dataclasses.field(default_factory=list)

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    @property
    def seconds_per_epoch(self) -> float:
        """The median over the epochs after the first, which compiles."""
        seconds = [row["seconds"] for row in self.history]
        return statistics.median(seconds[1:] or seconds)

    def write(self, path: pathlib.Path) -> None:
        """Writes the state as JSON."""
        _files.write_json(path, dataclasses.asdict(self))

    @classmethod
    def read(cls, path: pathlib.Path) -> "State":
        """Returns the state in a file.

        Raises:
            ValueError: If it is no JSON; likewise `TypeError` and `KeyError`.
        """
        state = cls(**json.loads(path.read_text()))
        best_epoch(state.history)
        return state


class Progress:
    """The folder with the state of one network under training.

    `state.json` names two checkpoints beside it, the latest and the best. It
    is written after them, so it never names a file that is not complete.

    Args:
        folder: Path of the folder.
        writes: Boolean. Of several processes in one folder, one writes.
            Defaults to `True`.
    """

    def __init__(self, folder: pathlib.Path, *, writes: bool = True):
        self.folder = folder
        self.writes = writes

    def load(self, name: str) -> State | None:
        """Returns the state of the network of that name, or `None`."""
        path = self.folder / "state.json"
        if not path.exists():
            return None
        try:
            state = State.read(path)
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(
                f'"{path}" cannot be read: {error}. {self._advice()}'
            ) from error
        return state if state.network == name else None

    def load_model(self, name: str | None) -> keras.Model:
        """Returns the model of a checkpoint, with its optimizer."""
        path = self.folder / str(name)
        try:
            return keras.saving.load_model(path)
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise Damaged(
                f'The checkpoint "{path}" cannot be read: {error}. '
                f"{self._advice()}"
            ) from error

    def save(self, state: State, model: keras.Model) -> None:
        """Saves `model` as the latest checkpoint, and as the best if it is."""
        state.latest = f"{state.network}-{state.epochs}.keras"
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
        state.write(self.folder / "state.json")
        for path in self.folder.glob("*.keras"):
            if path.name not in (state.latest, state.best):
                path.unlink()

    def clear(self) -> None:
        """Deletes the folder."""
        if self.writes:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _advice(self):
        return (
            "To train that network from the start, delete the folder "
            f'"{self.folder}" and resume again'
        )


def best_epoch(history: Sequence[dict[str, Any]]) -> int:
    """Returns the epoch with the best validation accuracy, from 1.

    The last one without validation.
    """
    if history and "val_accuracy" not in history[-1]:
        return history[-1]["epoch"]
    best = max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    return best["epoch"]


def random_states(model: keras.Model) -> list[keras.Variable]:
    """Returns the states of random layers, which are in no `.keras` file."""
    kept = {id(variable) for variable in model.weights}
    return [
        variable
        for variable in model.variables
        if id(variable) not in kept and "seed_generator" in variable.path
    ]
