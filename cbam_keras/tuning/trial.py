"""One trial of a search: a network trained in a folder of its own."""

import dataclasses
import math
import pathlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from cbam_keras import _files, _inspection, _process, profiling, training
from cbam_keras._files import Damaged, read_json, set_aside
from cbam_keras.training import Progress, Recipe, best_epoch
from cbam_keras.tuning.results import (
    DIVERGED,
    ERROR,
    FINISHED,
    OUT_OF_MEMORY,
    OVER_BUDGET,
    Trial,
)

# The content of outcome.json; a failed trial has a "traceback" as well.
OUTCOME_KEYS = (
    *(f.name for f in dataclasses.fields(Trial) if f.name != "number"),
    "history",
)
STATE_KEYS = ("network", "fingerprint", "latest", "best", "random", "history")
# The name of a trial's network in its folder.
NETWORK = "trial"
# Names of classes, since only one backend is imported.
NO_MEMORY = ("ResourceExhaustedError", "OutOfMemoryError")
# Messages of JAX, and of PyTorch on a CPU.
NO_MEMORY_MESSAGES = ("RESOURCE_EXHAUSTED", "can't allocate memory")


class OverBudgetError(Exception):
    """A network is larger than the budget allows."""


class ChangedError(ValueError):
    """The code builds another network than before; no trial can resume."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a trial, in a folder of its own.

    Args:
        folder: Path of the trial.
        images: An `ImageData`.
        recipe: A `Recipe`.
        build: Function that returns the network.
        compile: Function that compiles it.
        epochs: Integer, the epoch to train to.
        budget: Mapping of `"parameters"` and `"macs"` to a limit or `None`.
        past: Path of the trial that this one continues, or `None`.
        callbacks: Sequence of `keras.callbacks.Callback`s.
    """

    folder: pathlib.Path
    images: Any
    recipe: Recipe
    build: Callable[[], keras.Model]
    compile: Callable[[keras.Model], None]
    epochs: int
    budget: Mapping[str, float | None]
    past: pathlib.Path | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()

    def into(self, outcome: dict[str, Any]) -> None:
        """Trains, and puts the result or the failure into `outcome`."""
        inherited = 0
        try:
            model = self._measured(outcome)
            inherited = self._take_over()
            state = self._train(model)
            outcome.update(_best(state), outcome=FINISHED)
        except ChangedError:
            raise
        except Exception as error:
            # Neither a signal nor a full disk is a fault of the trial.
            _process.raise_if_noted()
            if _files.is_unwritable(self.folder, error):
                raise
            outcome["outcome"] = outcome_of(error)
            text = str(error).strip() or "no message"
            outcome["message"] = f"{type(error).__name__}: {text}"
            outcome["traceback"] = traceback.format_exc()
        finally:
            _forget()
        history = (state_of(self.folder) or {}).get("history", [])
        outcome["history"] = history
        outcome["epochs"] = len(history)
        outcome["seconds"] = sum(
            row["seconds"] for row in history if row["epoch"] > inherited
        )

    def retrain(self) -> tuple[keras.Model, pathlib.Path]:
        """Returns the best network, trained again, and its file."""
        progress = progress_of(self.folder)
        progress.clear()
        model = self._measured({})
        self._take_over()
        state = self._train(model)
        return (
            progress.load_model(state.best),
            progress.folder / state.best,
        )

    def _measured(self, outcome):
        """Returns the compiled network, if it is within the budget."""
        model = self.build()
        training.check_network(model, self.images)
        outcome["parameters"] = training.count_parameters(model)
        try:
            profile = profiling.profile_model(model, self.images.image_shape)
            outcome["macs"] = profile.macs
        except (TypeError, ValueError):
            if self.budget["macs"] is not None:
                raise
        over = [
            f"{outcome[key]:,} {word}, of at most {limit:,.0f}"
            for key, word in (("parameters", "parameters"), ("macs", "MACs"))
            if (limit := self.budget[key]) is not None and outcome[key] > limit
        ]
        if over:
            raise OverBudgetError("; ".join(over))
        check_loads(model)
        self.compile(model)
        return model

    def _train(self, model):
        """Trains from the last epoch, or from the start if that is damaged."""
        state = state_of(self.folder)
        if state and state["fingerprint"] != training.fingerprint(model):
            raise ChangedError(
                "A search must be resumed with the networks it was started "
                f'with. Received: output="{self.folder.parent}", changed: '
                f"the layers of {self.folder.name}"
            )
        try:
            return self._fit(model)
        except Damaged as error:
            if state is None:
                raise
            set_aside_checkpoint(self.folder, state["latest"], error)
        model = self.build()
        self.compile(model)
        return self._fit(model)

    def _fit(self, model):
        return training.fit(
            model,
            NETWORK,
            self.images,
            self.recipe,
            progress_of(self.folder),
            epochs=self.epochs,
            callbacks=self.callbacks,
            stop_if_diverged=True,
        )

    def _take_over(self):
        """Copies the checkpoints of the trial that this one continues.

        Returns how many epochs it was trained.
        """
        past = None if self.past is None else state_of(self.past)
        if past is None:
            # Training from the start gives the same network.
            return 0
        if state_of(self.folder) is None:
            source, own = progress_of(self.past), progress_of(self.folder)
            own.folder.mkdir(parents=True, exist_ok=True)
            try:
                for name in {past["latest"], past["best"]}:
                    content = (source.folder / name).read_bytes()
                    with _files.replacing(own.folder / name) as beside:
                        beside.write_bytes(content)
            except OSError:
                return 0
            _files.write_json(own.folder / "state.json", past)
        return len(past["history"])


def check_loads(model):
    """Raises unless Keras can load the model from its configuration."""
    try:
        config = keras.saving.serialize_keras_object(model)
        keras.saving.deserialize_keras_object(config)
    except Exception as error:
        cause = str(error).strip().split("\n")[0]
        raise ValueError(
            "A network of a search must be one that Keras can save and load. "
            f'Received: model "{model.name}" ({type(error).__name__}: '
            f"{cause}). Decorate your own layers and functions with "
            "@keras.saving.register_keras_serializable(), and give the "
            "layers a get_config that returns their arguments"
        ) from error


def progress_of(folder):
    """Returns the progress of the trial in this folder."""
    return Progress(folder / "checkpoints")


def state_of(folder):
    """Returns the saved state of a trial, `None` before the first epoch."""
    return read_json(progress_of(folder).folder / "state.json", STATE_KEYS)


def set_aside_checkpoint(folder, name, error):
    """Renames a damaged checkpoint, so that the trial starts again."""
    progress = progress_of(folder)
    if (progress.folder / name).exists():
        set_aside(progress.folder / name, error)
    (progress.folder / "state.json").unlink(missing_ok=True)


def outcome_of(error):
    """Returns the outcome of a trial that raised this error."""
    if isinstance(error, OverBudgetError):
        return OVER_BUDGET
    if isinstance(error, training.Diverged):
        return DIVERGED
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ in NO_MEMORY
        or any(message in str(error) for message in NO_MEMORY_MESSAGES)
    ):
        return OUT_OF_MEMORY
    return ERROR


def _best(state):
    row = state.history[best_epoch(state.history) - 1]
    if not math.isfinite(row["val_loss"]):
        raise training.Diverged(
            f"The validation loss was {row['val_loss']} in the best epoch"
        )
    return {
        "best_epoch": row["epoch"],
        "val_accuracy": row["val_accuracy"],
        "val_loss": row["val_loss"],
    }


def _forget():
    """Frees the memory of the last network, and keeps the user's settings."""
    interactive = keras.config.is_interactive_logging_enabled()
    with _inspection.dtype_policy():
        keras.utils.clear_session()
    if not interactive:
        keras.config.disable_interactive_logging()
