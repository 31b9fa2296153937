"""The folder of one network: its state, saved after each epoch.

`state.json` is the one file that says how far a network is trained and how
that has ended. It names the files beside it, and is written after them.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _files, _graph
from cbam_keras._files import PREDICTIONS
from cbam_keras.study.files import interrupts
from cbam_keras.study.files.fields import DataFields, check_fields
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.plans.measures import Measure, validated_by
from cbam_keras.study.plans.recipes import Recipe
from cbam_keras.study.plans.study import Data, Run

# What reading a file raises that is not there, or is damaged. Other errors of
# the system may pass, and say nothing of the file.
NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
NO_STATE = (ValueError, TypeError, AttributeError, LookupError)
DAMAGE = (*NO_FILE, *NO_STATE, ArithmeticError, RecursionError)
STATE = "state.json"
# What was measured in each epoch.
History = Sequence[dict[str, float]]


class Diverged(Exception):
    """Ends a training whose loss is not finite."""


@dataclasses.dataclass
class State:
    """How far a network is trained, and how that has ended.

    A call that resumes must agree in `options` and `data`. `ended` has the
    fields of the `Outcome` but for the history, `call` is that of its end.
    """

    variant: str
    seed: int
    fold: int | None
    options: _files.Json
    data: _files.Json
    fingerprint: str = ""
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    latest: str | None = None
    best: str | None = None
    # A `.keras` file does not hold the states of random layers.
    random: list[object] = dataclasses.field(default_factory=list)
    ended: _files.Json | None = None
    call: str = ""

    @property
    def run(self) -> Run:
        """Its seed and fold."""
        return Run(self.seed, self.fold)

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    @property
    def outcome(self) -> Outcome | None:
        """How the training has ended, if it has."""
        if self.ended is None:
            return None
        return Outcome(
            self.variant,
            self.seed,
            fold=self.fold,
            history=self.history,
            **self.ended,
        )

    def file_of(self, epoch: int) -> str:
        """Returns the checkpoint of the best epoch, or of the last one."""
        return str(self.latest if epoch == self.epochs else self.best)


def folder_name(variant: str, run: Run) -> str:
    """Returns the name of a network's folder, and of the network in it."""
    return f"{variant}-{run.name}"


def read_state(folder: pathlib.Path) -> State | None:
    """Returns the state, `None` without one, or raises one of `DAMAGE`."""
    path = folder / STATE
    try:
        values = json.loads(path.read_bytes())
        check_fields(values, State)
        state = State(**values)
        check_fields(state.data, DataFields, "data")
        if state.ended is not None:
            check_fields(state.ended, Outcome, "ended")
            # It must have all that there is no default of.
            _ = state.outcome
        # It names files that are written and deleted.
        if folder_name(state.variant, state.run) != folder.name:
            raise ValueError(f"it is of {state.variant!r}, {state.run}")
        whole = pathlib.PurePath(folder.name, f"{folder.name}.keras")
        files = {None, str(whole), str(whole.with_suffix(PREDICTIONS))}
        ended = state.ended or {}
        if not {ended.get("file"), ended.get("predictions")} <= files:
            raise ValueError("it names files of other networks")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        raise
    except DAMAGE as error:
        raise ValueError(
            f'"{path}" is damaged: {error}. Delete its folder to train the '
            "network again"
        ) from error
    return state


def peek_state(folder: pathlib.Path) -> State | None:
    """Returns the state, `None` also for one that is damaged."""
    with contextlib.suppress(*DAMAGE):
        return read_state(folder)
    return None


def save_state(
    folder: pathlib.Path, state: State, changes: Mapping[str, Any]
) -> None:
    """Writes a changed state whole, then deletes what it does not name.

    `state` itself is changed only once the file is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    after = dataclasses.replace(state, **changes)
    _files.write_json(folder / STATE, dataclasses.asdict(after))
    vars(state).update(vars(after))
    for path in leftovers(folder, state):
        path.unlink(missing_ok=True)


def leftovers(folder: pathlib.Path, state: State) -> list[pathlib.Path]:
    """Returns the files that a state does not name."""
    kept: set[str | None] = {STATE, _files.LOCK}
    # Files of a candidate stay until its run has chosen.
    if state.ended is None or not state.ended["file"]:
        kept |= {state.latest, state.best}
    else:
        whole = pathlib.PurePath(state.ended["file"])
        kept |= {whole.name, whole.with_suffix(PREDICTIONS).name}
    files = (path for path in folder.iterdir() if path.is_file())
    return [path for path in files if path.name not in kept]


def load_values(
    model: keras.Model, folder: pathlib.Path, state: State, file: str
) -> keras.Model:
    """Returns a network that code has built, with the values of a checkpoint.

    A file does not hold all that code sets, as single frozen weights.
    """
    loaded = _files.load_model(folder / file)
    for variable, value in zip(model.weights, loaded.weights, strict=True):
        variable.assign(value)
    if file == state.latest:
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
            raise Diverged(
                f"The training loss became {row['loss']} in epoch {epoch + 1}"
            )
        state = self.state
        latest = f"epoch-{epoch + 1}.keras"
        self.folder.mkdir(parents=True, exist_ok=True)
        with _files.replacing(self.folder / latest) as beside:
            self.model.save(beside)
        history = [*state.history, row]
        is_best = best_epoch(history, self.measure) == len(history)
        save_state(
            self.folder,
            state,
            {
                "history": history,
                "latest": latest,
                "best": latest if is_best else state.best,
                "random": [
                    keras.ops.convert_to_numpy(variable).tolist()
                    for variable in _graph.random_states(self.model)
                ],
            },
        )
        if lost_patience(state.history, self.recipe, self.measure):
            self.model.stop_training = True


def _seed_generators(seed, epoch):
    """Seeds the generators from which PyTorch and layers of users draw.

    Not by `keras.utils.set_random_seed`: it makes TensorFlow forget what it
    has compiled, which takes a ResNet18 seven seconds in each epoch.
    """
    # Keras makes its own generator at the first draw: in a resumed network that
    # may be later than in one that was never killed.
    keras.random.uniform(())
    # With their sum, a seed would draw as the next one in the epoch before.
    seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    if (own := _graph.global_random_state()) is not None:
        # Its dtype may have a sign.
        own.assign([seed % 2**31, 0])
    if keras.backend.backend() == "torch":
        _checks.require("torch", extra="torch").manual_seed(seed)


def best_epoch(history: History, measure: Measure) -> int:
    """Returns the best epoch, from 1, the last one without validation."""
    by = validated_by(history, measure)
    rows = history if by.key in history[-1] else history[-1:]

    def merit(row):
        return by.merit(row.get(by.key, 0)), -row.get("val_loss", 0)

    return int(max(rows, key=merit)["epoch"])


def select_epoch(
    history: History, recipe: Recipe, measure: Measure, images: int
) -> tuple[int, str]:
    """Returns the epoch whose network is tested, from 1, and why.

    With a learning rate that ends at zero it is the last one, unless that is
    worse than the best by more than a standard error of the validation images.
    """
    best, last = best_epoch(history, measure), int(history[-1]["epoch"])
    measure = validated_by(history, measure)
    if best == last or measure.key not in history[-1]:
        return last, "last epoch"
    value, final = history[best - 1][measure.key], history[-1][measure.key]
    is_fraction = 0 <= value <= 1 and measure.unit == "%"
    variance = value * (1 - value) if is_fraction else math.inf
    error = math.sqrt(variance / images) if images else 0.0
    ends_at_zero = recipe.patience is None and recipe.schedule == "cosine"
    if ends_at_zero and abs(value - final) <= error:
        return last, "last epoch"
    return best, f"best {measure.key}"


def lost_patience(history: History, recipe: Recipe, measure: Measure) -> bool:
    """Returns whether a training is to end, as it has not become better."""
    if recipe.patience is None or not history:
        return False
    # The frozen epochs are all trained.
    since = max(best_epoch(history, measure), recipe.frozen_epochs)
    return len(history) - since >= recipe.patience
