"""`train_network`: the one place where a network is built and trained."""

import dataclasses
import math
import pathlib
import statistics
import sys
import traceback
from collections.abc import Callable, Sequence

import keras
import numpy as np

from cbam_keras import _checks, _files, _terminal
from cbam_keras.data import for_fit
from cbam_keras.study.plans.class_weights import class_weights
from cbam_keras.study.plans.measures import (
    Measure,
    outputs_kept,
    validation_key,
)
from cbam_keras.study.plans.recipes import Recipe
from cbam_keras.study.plans.stages import (
    begin_second,
    describe_trained,
    set_trainable_parts,
    trainable_parts,
)
from cbam_keras.study.plans.study import (
    Data,
    Study,
    Variant,
    batches_for,
    member,
)
from cbam_keras.study.running import checkpoints, interrupts
from cbam_keras.study.running.checkpoints import (
    CheckpointEachEpoch,
    State,
    Stopped,
)
from cbam_keras.study.running.frozen import FrozenNetworks, Parts
from cbam_keras.study.running.machine import name_device
from cbam_keras.study.running.networks import (
    count_macs,
    count_parameters,
    fingerprint,
)
from cbam_keras.study.running.options import CallbackMakers
from cbam_keras.study.running.outcomes import (
    ERROR,
    FINISHED,
    OUT_OF_MEMORY,
    Outcome,
)

# Names of classes, since only one backend is imported, and messages of JAX,
# and of PyTorch on a CPU.
NO_MEMORY = ("ResourceExhaustedError", "OutOfMemoryError")
NO_MEMORY_MESSAGES = ("RESOURCE_EXHAUSTED", "can't allocate memory")
# From so many networks on, XLA saves more than it takes to compile a head.
MANY_NETWORKS = 10


class ChangedError(ValueError):
    """The code builds another network than the one to resume."""


@dataclasses.dataclass
class _Training:
    """One network of a study under training.

    With frozen layers, `data` become those of what is trained of it.
    """

    study: Study
    variant: Variant
    recipe: Recipe
    data: Data
    folder: pathlib.Path
    # How many epochs it is to have, of all stages.
    epochs: int
    frozen: FrozenNetworks
    parts: Parts = dataclasses.field(init=False)

    @property
    def measure(self) -> Measure:
        return self.study.measured_by[0]

    def has_ended(self, state: State) -> bool:
        return state.epochs >= self.epochs or checkpoints.lost_patience(
            state.history, self.recipe, self.measure
        )

    def select_epoch(self, state: State) -> tuple[int, str]:
        """Returns the epoch that is tested, from 1, and why."""
        images = self.data.sizes.get("validation", 0)
        return checkpoints.select_epoch(
            state.history, self.recipe, self.measure, images
        )

    def jit_compile(self, model: keras.Model) -> bool | str:
        """Returns whether XLA compiles the steps of a model, or `"auto"`.

        On features a step takes a third less time, with TensorFlow, too.
        """
        chosen, parts = self.recipe.jit_compile, self.parts
        is_head = parts.base is not None and model is parts.head
        is_worth_it = is_head and len(self.study.runs) >= MANY_NETWORKS
        if chosen == "auto" and keras.backend.backend() == "tensorflow":
            return is_worth_it or chosen
        return chosen

    def validate(self, model: keras.Model, data: Data) -> dict[str, float]:
        """Returns further measures of an epoch, which it takes longer with."""
        if self.recipe.patience is None:
            return {}
        return member(self.study.task, "validate")(model, data)

    def prepare(
        self, seed: int, fields: _files.Json
    ) -> tuple[keras.Model, State]:
        """Returns what is trained, and how far it has been trained."""
        arguments = self.study, self.variant, seed, self.data
        parts = self.parts = self.frozen.parts(*arguments)
        network = parts.network
        if not parts.counts:
            parts.counts = {
                "parameters": count_parameters(network, self.recipe),
                "macs": count_macs(network, self.data.image_shape),
            }
        fields |= parts.counts
        model, self.data = self.frozen.trained(parts, self.recipe, self.data)
        model, state = _resume(self, model)
        # It grows with each epoch.
        fields["history"] = state.history
        return model, state

    def fit(
        self,
        model: keras.Model,
        state: State,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        """Trains the epochs that are missing, stage by stage."""
        task, data = self.study.task, self.data
        is_interactive = sys.stdout.isatty() or "ipykernel" in sys.modules
        checkpoint = CheckpointEachEpoch(
            state,
            data,
            self.recipe,
            task.metrics,
            self.folder,
            measure=self.measure,
            validate=self.validate,
        )
        weights = None
        # The loss of masks has weights of its own.
        if getattr(data, "ignore_index", None) is None:
            weights = class_weights(data, self.recipe)
        last = 0
        for stage in self.recipe.stages:
            # The numbers of the epoch before the stage, and of its last one.
            before, last = last, min(last + stage.epochs, self.epochs)
            if state.epochs >= last or self.has_ended(state):
                continue
            if before > 0:
                begin_second(model, self.recipe.unfreeze)
                if self.recipe.unfreeze is not None:
                    trained = describe_trained(model)
                    _terminal.say(f"After epoch {before}: {trained} trained")
            self.parts.compile(task, model, stage, data)
            if state.epochs > before:
                checkpoints.load_optimizer(model, self.folder, state)
            _fit(
                model,
                self.jit_compile(model),
                state,
                x=for_fit(data.train),
                class_weight=weights,
                validation_data=for_fit(data.validation),
                epochs=last,
                initial_epoch=state.epochs,
                callbacks=[*callbacks, checkpoint],
                # The data shuffle themselves, by seed and epoch.
                shuffle=False,
                # Log files cannot show a progress bar.
                verbose=1 if is_interactive else 2,
            )
            if model.stop_training:
                return

    def test(
        self, model: keras.Model, state: State, is_trained: bool
    ) -> _files.Json:
        """Returns what is known of the network after the selected epoch.

        If it `is_trained` by this process, the model is that of the last epoch.
        """
        tested, reason = self.select_epoch(state)
        row = state.history[tested - 1]
        if not math.isfinite(row.get("val_loss", 0)):
            raise Stopped(
                "diverged",
                f"The validation loss was {row['val_loss']} in epoch {tested}",
            )
        key = validation_key(self.measure.key)
        best_metrics = dict.fromkeys(["val_accuracy", key, "val_loss"])
        metrics = {name: row[name] for name in best_metrics if name in row}
        if is_trained and tested != state.epochs:
            model = _files.load_model(self.folder / state.file_of(tested))
        if not model.compiled:
            self.study.task.compile(model, self.recipe.stages[-1], self.data)
        with outputs_kept():
            metrics |= self.study.task.evaluate(model, self.data)
            arrays = member(self.study.task, "predict")(model, self.data)
        if arrays:
            _files.write_arrays(self.folder / checkpoints.PREDICTIONS, arrays)
        if self.parts.base is not None:
            network = self.parts.with_weights_of(model)
            self.study.task.compile(network, self.recipe.stages[-1], self.data)
            with _files.replacing(self.folder / checkpoints.WHOLE) as beside:
                network.save(beside)
        return {
            "best_epoch": tested,
            "selected_by": reason,
            "jit_compile": state.jit_compile,
            "metrics": _keep_numbers(metrics, self.variant),
            "status": FINISHED,
        }


def train_network(
    study: Study,
    variant: Variant,
    seed: int,
    data: Data,
    folder: pathlib.Path,
    frozen: FrozenNetworks,
    *,
    title: str = "",
    epochs: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    make_callbacks: CallbackMakers = (),
    on_error: Callable[[Exception], object] = lambda error: None,
) -> Outcome:
    """Trains one network, from its last finished epoch on, and measures it.

    A network that cannot be built, diverges or runs out of memory gives an
    outcome with that status, and no error. A signal and a full disk are
    errors. A `title` is printed before the training. `frozen` keeps what frozen
    layers return from one network to the next.
    """
    recipe = study.recipe_for(variant, seed)
    if epochs is None:
        epochs = recipe.total_epochs
    data = batches_for(variant, data)
    training = _Training(study, variant, recipe, data, folder, epochs, frozen)
    # What becomes known of the outcome, whenever the training ends.
    fields: _files.Json = {}
    try:
        model, state = training.prepare(seed, fields)
        if title:
            done = state.epochs
            begin = f"after epoch {done}" if done else "from the start"
            parameters = f"{fields['parameters']:,} parameters"
            if recipe.frozen:
                parameters += (
                    f", trained {describe_trained(training.parts.network)}"
                )
            _terminal.say(f"{title}, {parameters}, {begin}")
        is_trained = not training.has_ended(state)
        made = [make() for make in make_callbacks]
        training.fit(model, state, [*callbacks, *made])
        if made and is_trained:
            # They may have changed it at the end.
            model = _files.load_model(folder / str(state.latest))
        fields |= training.test(model, state, is_trained)
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
        device=name_device(),
    )


def _fit(model, jit_compile, state, **arguments):
    """Trains a network, without XLA if that cannot compile its first step."""
    if jit_compile != "auto":
        model.jit_compile = jit_compile and state.jit_compile is not False
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


def _resume(training, model):
    """Returns the network to go on with, and its state."""
    start, folder = State(fingerprint(model)), training.folder
    state = checkpoints.load_state(folder)
    # Another trial, of more epochs, may have gone on from one that failed.
    if state is None or state.epochs > training.epochs:
        return model, start
    if state.fingerprint != start.fingerprint:
        changed = f'the layers of network "{training.variant.name}"'
        if (folder / checkpoints.FAILED).exists():
            # That may be what has mended it.
            _checks.warn(f"Training starts from scratch, changed: {changed}")
            return model, start
        raise ChangedError(
            "A run must be resumed with the networks it was started with. "
            f'Received: folder="{folder}", changed: {changed}'
        )
    is_finished = training.has_ended(state)
    needed = {state.best, state.latest}
    if is_finished:
        needed = {state.file_of(training.select_epoch(state)[0])}
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
