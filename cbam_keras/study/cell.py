"""`train_cell`: the one place where a network is built, trained, measured."""

import contextlib
import dataclasses
import functools
import gc
import math
import pathlib
import statistics
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np

from cbam_keras import _checks, _files, _terminal, profiling
from cbam_keras.data import for_fit
from cbam_keras.layers._fused import gradients_forgotten, same_names
from cbam_keras.study import checkpoints, interrupts
from cbam_keras.study.checkpoints import (
    CheckpointEachEpoch,
    State,
    Stopped,
    select_epoch,
)
from cbam_keras.study.class_weights import class_weights
from cbam_keras.study.flips import CORRECT
from cbam_keras.study.measures import validation_key
from cbam_keras.study.networks import (
    build_network,
    count_macs,
    count_parameters,
    fingerprint,
)
from cbam_keras.study.stages import (
    begin_second,
    set_trainable_parts,
    trainable_parts,
)
from cbam_keras.study.study import Data, Study, Variant, batches_for

FINISHED = "finished"
OUT_OF_MEMORY = "out of memory"
ERROR = "error"
# The same call tries these again.
RETRIED = (ERROR, OUT_OF_MEMORY)
# Names of classes, since only one backend is imported, and messages of JAX,
# and of PyTorch on a CPU.
NO_MEMORY = ("ResourceExhaustedError", "OutOfMemoryError")
NO_MEMORY_MESSAGES = ("RESOURCE_EXHAUSTED", "can't allocate memory")


class ChangedError(ValueError):
    """The code builds another network than the one to resume."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of training one network: one variant with one seed.

    Attributes:
        variant: String, its name.
        seed: Integer, the seed that it was trained with.
        status: String, `"finished"`, `"diverged"` (the loss became NaN or
            infinite), `"out of memory"`, `"over budget"` or `"error"`.
        message, traceback: Strings, what went wrong and where, or `None`.
        parameters, macs: Integers, trainable parameters and
            multiply-accumulates for one image, or `None`.
        metrics: Dictionary of what was measured on the test data and in the
            best epoch. Empty unless finished.
        test_accuracy, val_accuracy, val_loss: Numbers of the best epoch, or
            `None`.
        best_epoch: Integer from 1, the epoch that was tested, see `Recipe`.
            `None` unless finished.
        selected_by: String, why that epoch: `"last epoch"` or, as an example,
            `"best val_accuracy"`. `None` unless finished.
        epochs: Integer, the epochs that were trained. They include those of a
            trial that this one continued.
        seconds_per_epoch: Number, the median after the first, or `None`.
        seconds: Number, the seconds of training and validation.
        jit_compile: Boolean, whether the last epoch was compiled, or `None`.
            See `Recipe`.
        file: String, the `.keras` file in the output folder, or `None`.
        history: List of dictionaries, one per epoch. They have `epoch` (from
            1), the metrics of the task, `seconds`.
    """

    variant: str
    seed: int
    status: str
    message: str | None = None
    traceback: str | None = dataclasses.field(default=None, repr=False)
    parameters: int | None = None
    macs: int | None = None
    metrics: dict[str, float | None] = dataclasses.field(default_factory=dict)
    best_epoch: int | None = None
    selected_by: str | None = None
    seconds_per_epoch: float | None = None
    seconds: float = 0.0
    jit_compile: bool | None = None
    file: str | None = None
    history: list[dict[str, float]] = dataclasses.field(
        default_factory=list, repr=False
    )

    def __post_init__(self) -> None:
        # It may come from a file that anybody wrote.
        path = pathlib.PurePath(self.file or "")
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                "`file` must be in the output folder. Received: "
                f"file={self.file!r}"
            )

    def as_run(self) -> _files.Json:
        """Returns what JSON holds of a training that finished."""
        return {
            "network": self.variant,
            "seed": self.seed,
            "parameters": self.parameters,
            "best_epoch": self.best_epoch,
            "best_validation_accuracy": self.val_accuracy,
            "test_accuracy": self.test_accuracy,
            "seconds_per_epoch": self.seconds_per_epoch,
            "file": self.file,
        }

    @property
    def finished(self) -> bool:
        """Whether the network was trained to the end, and measured."""
        return self.status == FINISHED

    @property
    def epochs(self) -> int:
        """The number of epochs that were trained."""
        return len(self.history)

    @property
    def test_accuracy(self) -> float | None:
        """Number in [0, 1], of the network after `best_epoch`, or `None`."""
        return self.metrics.get("test_accuracy")

    @property
    def val_accuracy(self) -> float | None:
        """Number in [0, 1], of the best epoch, or `None`."""
        return self.metrics.get("val_accuracy")

    @property
    def val_loss(self) -> float | None:
        """Number, of the best epoch, or `None`."""
        return self.metrics.get("val_loss")


def history_of(
    outcomes: Iterable[Outcome], seeds: Sequence[int]
) -> list[dict[str, object]]:
    """Returns a dictionary per network and epoch."""
    rows = []
    for outcome in outcomes:
        seed = {"seed": outcome.seed} if len(seeds) > 1 else {}
        network = {**seed, "network": outcome.variant}
        rows += [{**network, **row} for row in outcome.history]
    return rows


def train_cell(
    study: Study,
    variant: Variant,
    seed: int,
    data: Data,
    folder: pathlib.Path,
    *,
    title: str = "",
    epochs: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_error: Callable[[Exception], object] = lambda error: None,
) -> Outcome:
    """Trains one network, from its last finished epoch on, and measures it.

    A network that cannot be built, diverges, runs out of memory or is over
    the budget gives an outcome with that status, and no error. A signal and a
    full disk are errors. A `title` is printed before the training.
    """
    recipe = study.recipe_for(variant, seed)
    data = batches_for(variant, data)
    epochs = recipe.total_epochs if epochs is None else epochs
    measure = study.measured_by[0]
    select = functools.partial(
        select_epoch,
        recipe=recipe,
        measure=measure,
        images=data.sizes.get("validation", 0),
    )
    # Each epoch takes longer with it.
    validate = getattr(study.task, "validate", None)
    if recipe.patience is None or validate is None:
        validate = _validate_nothing
    is_interactive = sys.stdout.isatty() or "ipykernel" in sys.modules
    # What becomes known of the outcome, whenever the training ends.
    fields: _files.Json = {}

    def has_ended(state):
        is_over = state.epochs >= epochs
        return is_over or checkpoints.lost_patience(
            state.history, recipe, measure
        )

    try:
        model = build_network(study, variant, seed, data)
        fields["parameters"] = count_parameters(model, recipe)
        fields["macs"] = count_macs(model, data.image_shape)
        _check_budget(study.budget, model, data, fields)
        start = State(fingerprint(model))
        model, state = _resume(
            model, start, variant, folder, epochs, has_ended, select
        )
        # It grows with each epoch.
        fields["history"] = state.history
        if title:
            done = state.epochs
            begin = f"after epoch {done}" if done else "from the start"
            parameters = f"{fields['parameters']:,} parameters"
            _terminal.say(f"{title}, {parameters}, {begin}")
        is_trained = not has_ended(state)
        checkpoint = CheckpointEachEpoch(
            *(state, data, recipe, study.task.metrics, folder),
            measure=measure,
            validate=validate,
        )
        last = 0
        for stage in recipe.stages:
            # The numbers of the epoch before the stage, and of its last one.
            before, last = last, min(last + stage.epochs, epochs)
            if state.epochs >= last or has_ended(state):
                continue
            if before > 0:
                begin_second(model)
            study.task.compile(model, stage, data)
            if state.epochs > before:
                checkpoints.load_optimizer(model, folder, state)
            _fit(
                *(model, stage, state),
                x=for_fit(data.train),
                # The loss of masks has weights of its own.
                class_weight=None
                if getattr(data, "ignore_index", None) is not None
                else class_weights(data, recipe),
                validation_data=for_fit(data.validation),
                epochs=last,
                initial_epoch=state.epochs,
                callbacks=[*callbacks, checkpoint],
                # The data shuffle themselves, by seed and epoch.
                shuffle=False,
                # Log files cannot show a progress bar.
                verbose=1 if is_interactive else 2,
            )
        tested, reason = select(state.history)
        row = state.history[tested - 1]
        if not math.isfinite(row.get("val_loss", 0)):
            raise Stopped(
                "diverged",
                f"The validation loss was {row['val_loss']} in epoch {tested}",
            )
        key = validation_key(measure.key)
        best_metrics = dict.fromkeys(["val_accuracy", key, "val_loss"])
        metrics = {name: row[name] for name in best_metrics if name in row}
        if is_trained and tested != state.epochs:
            model = _files.load_model(folder / state.file_of(tested))
        if not model.compiled:
            study.task.compile(model, recipe.stages[-1], data)
        metrics |= study.task.evaluate(model, data)
        find_correct = getattr(study.task, "find_correct", lambda *_: None)
        if (correct := find_correct(model, data)) is not None:
            with _files.replacing(folder / CORRECT) as beside:
                np.save(beside, np.packbits(correct))
        metrics = _keep_numbers(metrics, variant)
        fields |= {"best_epoch": tested, "selected_by": reason}
        fields["jit_compile"] = state.jit_compile
        fields["metrics"] = metrics
        fields["status"] = FINISHED
    except ChangedError:
        raise
    except Exception as error:
        # Neither a signal nor a full disk is a fault of the network.
        interrupts.raise_if_noted()
        if _files.is_unwritable(folder.parent, error):
            raise
        fields["status"] = _status_of(error)
        text = str(error).strip() or "no message"
        fields["message"] = f"{type(error).__name__}: {text}"
        fields["traceback"] = traceback.format_exc()
        if fields["status"] == ERROR:
            on_error(error)
    seconds = [row["seconds"] for row in fields.get("history", ())]
    return Outcome(
        variant=variant.name,
        seed=seed,
        **fields,
        # The first epoch compiles.
        seconds_per_epoch=(
            statistics.median(seconds[1:] or seconds) if seconds else None
        ),
        seconds=sum(seconds),
    )


def _fit(model, recipe, state, **arguments):
    """Trains a network, without XLA if that cannot compile its first step."""
    if recipe.jit_compile != "auto":
        model.jit_compile = (
            recipe.jit_compile and state.jit_compile is not False
        )
    steps = int(model.optimizer.iterations)
    try:
        model.fit(**arguments)
    except Exception as error:
        causes = [line for line in str(error).splitlines() if "XLA" in line]
        is_first = int(model.optimizer.iterations) == steps
        if not (model.jit_compile and is_first and causes):
            raise
        _checks.warn(
            f'Network "{model.name}" is trained without jit_compile, as XLA '
            f"cannot compile it: {causes[0][:200]}"
        )
        model.jit_compile = False
        # Keras would keep what it could not compile.
        model.train_function = model.test_function = None
        model.fit(**arguments)


def _check_budget(budget, model, data, counts):
    """Stops a network that costs more than a budget, if there is one."""
    if budget is None:
        return
    if counts["macs"] is None and budget.macs is not None:
        # Raises where nothing can be counted.
        profile = profiling.profile_model(model, data.image_shape)
        raise ValueError(
            "A budget of MACs is for networks of layers that are counted. "
            f"Received: {_checks.first_few(profile.uncounted)} of other kinds"
        )
    over = [
        f"{counts[key]:,} {key.replace('mac', 'MAC')}, of at most {limit:,.0f}"
        for key, limit in vars(budget).items()
        if limit is not None and counts[key] > limit
    ]
    if over:
        raise Stopped("over budget", "; ".join(over))


def _validate_nothing(model, data):
    return {}


def _resume(model, start, variant, folder, epochs, has_ended, select):
    """Returns the network to go on with, and its state, at first `start`."""
    state = checkpoints.load_state(folder)
    # Another trial, of more epochs, may have gone on from one that failed.
    if state is None or state.epochs > epochs:
        return model, start
    if state.fingerprint != start.fingerprint:
        changed = f'the layers of network "{variant.name}"'
        if (folder / checkpoints.FAILED).exists():
            # That may be what has mended it.
            _checks.warn(f"Training starts from scratch, changed: {changed}")
            return model, start
        raise ChangedError(
            "A run must be resumed with the networks it was started with. "
            f'Received: folder="{folder}", changed: {changed}'
        )
    is_finished = has_ended(state)
    needed = {state.best, state.latest}
    if is_finished:
        needed = {state.file_of(select(state.history)[0])}
    if not all(checkpoints.is_whole(folder / str(name)) for name in needed):
        return model, start
    if is_finished:
        loaded = _files.load_model(folder / needed.pop())
    else:
        loaded = checkpoints.load_latest(folder, state)
    # The file does not say which layers inside another one are frozen.
    set_trainable_parts(loaded, trainable_parts(model))
    if model.compiled:
        loaded.compile_from_config(model.get_compile_config())
    return loaded, state


def _keep_numbers(metrics, variant):
    """Returns the metrics that can be written, and warns of the others."""
    numbers = {}
    for name, value in metrics.items():
        if keras.ops.is_tensor(value):
            value = keras.ops.convert_to_numpy(value)
        is_one = isinstance(value, np.number | np.ndarray | int | float)
        array = np.asarray(value if is_one else None)
        if array.ndim == 0 and array.dtype.kind in "iuf" and np.isfinite(array):
            numbers[name] = array.item()
        elif value is None:
            numbers[name] = None
        else:
            _checks.warn(
                f'The metric "{name}" of "{variant.name}" is left out: it must '
                f"be a finite number. Received: {str(value)[:100]}"
            )
    return numbers


def _status_of(error):
    """Returns the status of a network whose training raised this error."""
    if isinstance(error, Stopped):
        return error.status
    is_memory = (
        isinstance(error, MemoryError)
        or type(error).__name__ in NO_MEMORY
        or any(message in str(error) for message in NO_MEMORY_MESSAGES)
    )
    return OUT_OF_MEMORY if is_memory else ERROR


@contextlib.contextmanager
def free_memory() -> Iterator[None]:
    """Context after which the memory of its networks is freed.

    Not by Keras' `clear_session`, which frees no more, and forgets what the
    user has set, such as scopes of custom objects and distributions.
    """
    try:
        # TensorFlow would keep their graphs otherwise.
        with same_names(), gradients_forgotten():
            yield
    finally:
        gc.collect()
        if keras.backend.backend() == "torch":
            # PyTorch would compile nothing more after eight networks.
            _checks.require("torch", extra="torch").compiler.reset()
