"""How far the training of one network has come, kept in a folder."""

import json
import pathlib
import shutil
import zipfile

import keras

from cbam_keras import _files


class Damaged(ValueError):
    """A file that tells how far a training has come cannot be read."""


class Progress:
    """The state of one network under training, in a folder of its own.

    `state.json` names the network, the epoch it has reached, its history, and
    two checkpoints beside it: the latest and the best. Each file is written
    before the one that names it, so at any moment the folder tells one
    consistent story.
    """

    def __init__(self, folder: pathlib.Path, *, writes: bool = True):
        self.folder = folder
        # Of several processes in one folder, one writes.
        self.writes = writes

    def load(self, name):
        """Returns the state of the network of that name, or `None`."""
        path = self.folder / "state.json"
        if not path.exists():
            return None
        try:
            state = json.loads(path.read_text())
            return state if state["network"] == name else None
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(
                f'"{path}" cannot be read: {error}. {self._advice()}'
            ) from error

    def load_model(self, name):
        """Returns the model of a checkpoint, with its optimizer."""
        path = self.folder / name
        try:
            return keras.saving.load_model(path)
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise Damaged(
                f'The checkpoint "{path}" cannot be read: {error}. '
                f"{self._advice()}"
            ) from error

    def save(self, state, model):
        """Keeps `model` as the latest state, and as the best if it is."""
        epoch = len(state["history"])
        state["latest"] = f"{state['network']}-{epoch}.keras"
        if best_epoch(state["history"]) == epoch:
            state["best"] = state["latest"]
        if not self.writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with _files.replacing(self.folder / state["latest"]) as beside:
            model.save(beside)
        state["random"] = [
            keras.ops.convert_to_numpy(variable).tolist()
            for variable in random_states(model)
        ]
        _files.write_json(self.folder / "state.json", state)
        for path in self.folder.glob("*.keras"):
            if path.name not in (state["latest"], state["best"]):
                path.unlink()

    def clear(self):
        """Deletes the folder."""
        if self.writes:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _advice(self):
        return (
            "To train that network from the start, delete the folder "
            f'"{self.folder}" and resume again'
        )


def best_epoch(history):
    """Returns the epoch with the best validation accuracy, from 1."""
    best = max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    return best["epoch"]


def random_states(model):
    """Returns the variables of random layers, which no file keeps."""
    kept = {id(variable) for variable in model.weights}
    return [
        variable
        for variable in model.variables
        if id(variable) not in kept and "seed_generator" in variable.path
    ]
