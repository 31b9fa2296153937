"""`Training`: the one place that builds, trains and measures."""

import dataclasses
import math
import pathlib
import shutil
import statistics
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence

import keras

from cbam_keras import _checks, _files, _terminal
from cbam_keras.data import for_fit
from cbam_keras.study.files import checkpoints, interrupts
from cbam_keras.study.files.checkpoints import State
from cbam_keras.study.files.outcomes import DIVERGED, ERROR, FINISHED
from cbam_keras.study.plans.measures import Measure, validation_key
from cbam_keras.study.plans.networks import fingerprint, is_by_name
from cbam_keras.study.plans.recipes import Recipe, class_weights
from cbam_keras.study.plans.stages import begin_second
from cbam_keras.study.plans.study import Data, Study, Variant
from cbam_keras.study.results.kept import write_predictions
from cbam_keras.study.running.compiled import CompiledNetworks
from cbam_keras.study.running.frozen import FrozenNetworks, FrozenParts
from cbam_keras.study.running.progress import EpochsOfAllStages, FirstSteps


class ChangedError(ValueError):
    """The code builds another network than the one to resume."""


@dataclasses.dataclass
class Training:
    """One network of a study under training, on data that may be features."""

    study: Study
    variant: Variant
    state: State
    data: Data
    folder: pathlib.Path
    frozen: FrozenNetworks
    compiled: CompiledNetworks
    # Where its checkpoints are: of a chosen network, with the candidate.
    trained_in: pathlib.Path
    # The training runs that are left, this one included, if it says how long
    # they may take; else 0.
    runs_to_estimate: int = 0
    parts: FrozenParts = dataclasses.field(init=False)

    def run(
        self,
        title: str,
        callbacks: Iterable[Callable[[], keras.callbacks.Callback]],
        is_timed: bool,
    ) -> None:
        """Trains the network, from its last finished epoch on, and measures it.

        How that ends is in its state; only signals and full disks are errors. A
        candidate is not tested, unless it becomes the network of its run.
        """
        # What becomes known of the outcome, whenever the training ends.
        fields: _files.Json = {"file": None}
        is_candidate = self.variant.name != self.variant.original
        if is_candidate:
            fields["learning_rate"] = self.variant.learning_rate
        try:
            model = self.prepare(fields)
            _terminal.say(f"{title}, {self.describe(fields)}")
            model = self.fit(model, [make() for make in callbacks])
            if is_candidate and self.trained_in == self.folder:
                fields |= self.validate(model)
            else:
                fields |= self.test(model)
        except ChangedError:
            raise
        except Exception as error:
            # Neither a signal nor a full disk is a fault of the network.
            interrupts.raise_if_noted()
            if _files.is_unwritable(self.folder.parent, error):
                raise
            has_diverged = isinstance(error, checkpoints.Diverged)
            fields["status"] = DIVERGED if has_diverged else ERROR
            text = str(error).strip() or "no message"
            fields["message"] = f"{type(error).__name__}: {text}"
            fields["traceback"] = traceback.format_exc()
        seconds = [row["seconds"] for row in self.state.history]
        if seconds and is_timed:
            # The first epoch compiles.
            median = statistics.median(seconds[1:] or seconds)
            fields["seconds_per_epoch"] = median
        changed: _files.Json = {"ended": {**fields, "seconds": sum(seconds)}}
        if fields["file"] is not None or fields["status"] == DIVERGED:
            changed |= {"latest": None, "best": None}
        checkpoints.save_state(self.folder, self.state, changed)

    @property
    def recipe(self) -> Recipe:
        return self.study.recipe_for(self.variant, self.state.run)

    @property
    def measure(self) -> Measure:
        return self.study.task.measures[0]

    @property
    def has_ended(self) -> bool:
        return (
            self.state.epochs >= self.recipe.total_epochs
            or checkpoints.lost_patience(
                self.state.history, self.recipe, self.measure
            )
        )

    def select_epoch(self) -> tuple[int, str]:
        """Returns the epoch that is tested, from 1, and why."""
        images = self.data.sizes.get("validation", 0)
        return checkpoints.select_epoch(
            self.state.history, self.recipe, self.measure, images
        )

    def describe(self, fields: _files.Json) -> str:
        """Returns what is printed when the training begins."""
        text = f"{fields['parameters']:,} parameters"
        if self.state.epochs:
            text += f", resumed from epoch {self.state.epochs + 1}"
        return text

    def prepare(self, fields: _files.Json) -> keras.Model:
        """Returns what is trained, with the weights of the last epoch."""
        self.parts = self.frozen.parts(
            self.study, self.variant, self.state.run, self.data
        )
        fields |= self.parts.counts
        model, self.data = self.frozen.trained(
            self.parts, self.recipe, self.data, self.state.run
        )
        return self._resume(model)

    def _resume(self, model):
        """Returns the network to go on with."""
        state = self.state
        before, state.fingerprint = state.fingerprint, fingerprint(model)
        state.ended = None
        if not state.history:
            return model
        if state.fingerprint != before:
            raise ChangedError(
                "A run must be resumed with the networks it was started with. "
                f'Received: folder="{self.folder}", changed: the layers of '
                f'"{self.variant.name}". Delete that folder to start over'
            )
        file = state.latest
        if self.has_ended:
            file = state.file_of(self.select_epoch()[0])
        return checkpoints.load_values(model, self.trained_in, state, file)

    def fit(
        self, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]
    ) -> keras.Model:
        """Trains the missing epochs, and returns the network to test."""
        is_trained = not self.has_ended
        checkpoint = checkpoints.CheckpointEachEpoch(
            self.state,
            self.data,
            self.recipe,
            self.study.task.metrics,
            self.folder,
            measure=self.measure,
            validate=self._validate,
        )
        total = self.recipe.total_epochs
        helpers = [checkpoint, EpochsOfAllStages(total)]
        if self.runs_to_estimate:
            last_stage = self.recipe.stages[-1]
            begin = max(total - last_stage.epochs, self.state.epochs)
            epochs = range(begin, total)
            helpers.append(FirstSteps(epochs, self.runs_to_estimate))
        last = 0
        for stage in self.recipe.stages:
            # The numbers of the epoch before the stage, and of its last one.
            before, last = last, last + stage.epochs
            if self.state.epochs < last and not self.has_ended:
                model = self._fit_stage(
                    model, stage, before, callbacks, helpers
                )
                if model.stop_training:
                    break
        tested, _ = self.select_epoch()
        # Callbacks of the user may have changed the network at the end.
        if is_trained and (callbacks or tested != self.state.epochs):
            file = self.state.file_of(tested)
            return checkpoints.load_values(
                model, self.trained_in, self.state, file
            )
        return model

    def _fit_stage(self, model, stage, before, callbacks, helpers):
        """Trains the epochs of a stage, and returns the network.

        Callbacks of the user come before those of this package, the helpers.
        """
        data, state = self.data, self.state
        if before > 0:
            begin_second(model, self.recipe.unfreeze)
        self.study.task.compile(model, stage, data)
        if state.epochs > before:
            checkpoints.load_optimizer(model, self.folder, state)
        # Files, a second stage and callbacks change more than values.
        is_new = state.epochs == 0 and len(self.recipe.stages) == 1
        is_known = is_by_name(self.study, self.variant, model)
        if is_new and not callbacks and is_known:
            model = self.compiled.reuse(
                model, self.variant.original, state.fingerprint
            )
        weights = None
        # The loss of masks has weights of its own.
        if getattr(data, "ignore_index", None) is None:
            weights = class_weights(data, self.recipe)
        is_interactive = sys.stdout.isatty() or "ipykernel" in sys.modules
        model.fit(
            x=for_fit(data.train),
            class_weight=weights,
            validation_data=for_fit(data.validation),
            epochs=before + stage.epochs,
            initial_epoch=state.epochs,
            callbacks=[*callbacks, *helpers],
            # The data shuffle themselves, by seed and epoch.
            shuffle=False,
            # Log files cannot show a progress bar.
            verbose=1 if is_interactive else 2,
        )
        return model

    def _validate(self, model, data):
        """Returns further measures of an epoch, which it takes longer with."""
        if self.recipe.patience is None:
            return {}
        return self.study.task.validate(model, data)

    def validate(self, model: keras.Model) -> _files.Json:
        """Returns what a candidate measures on the validation data."""
        fields = self._validated()
        metrics = fields["metrics"]
        if validation_key(self.measure.key) not in metrics:
            metrics |= self.study.task.validate(model, self.data)
        return fields | {"metrics": _keep_numbers(metrics, self.variant)}

    def _validated(self):
        """Returns the epoch that is tested, why, and its metrics."""
        tested, reason = self.select_epoch()
        row = self.state.history[tested - 1]
        if not math.isfinite(row.get("val_loss", 0)):
            raise checkpoints.Diverged(
                f"The validation loss was {row['val_loss']} in epoch {tested}"
            )
        key = validation_key(self.measure.key)
        best_metrics = dict.fromkeys(["val_accuracy", key, "val_loss"])
        return {
            "best_epoch": tested,
            "selected_by": reason,
            "metrics": {x: row[x] for x in best_metrics if x in row},
            "status": FINISHED,
        }

    def test(self, model: keras.Model) -> _files.Json:
        """Saves what was trained, and returns what it measures."""
        task, fields = self.study.task, self._validated()
        if not model.compiled:
            task.compile(model, self.recipe.stages[-1], self.data)
        measured, arrays = task.test(model, self.data)
        metrics = fields["metrics"] | measured
        whole = self.folder / f"{self.folder.name}.keras"
        predictions = whole.with_suffix(_files.PREDICTIONS)
        if arrays:
            write_predictions(predictions, arrays)
        with _files.replacing(whole) as beside:
            if self.parts.base is None:
                file = self.state.file_of(fields["best_epoch"])
                trained = self.trained_in / file
                shutil.copyfile(trained, beside)
            else:
                network = self.parts.with_weights_of(model)
                task.compile(network, self.recipe.stages[-1], self.data)
                network.save(beside)
        return fields | {
            "metrics": _keep_numbers(metrics, self.variant),
            "file": f"{self.folder.name}/{whole.name}",
            "predictions": (
                f"{self.folder.name}/{predictions.name}" if arrays else None
            ),
        }


def _keep_numbers(metrics, variant):
    """Returns the metrics that are finite, and warns of the others."""
    numbers = {}
    for name, value in metrics.items():
        number = None if value is None else float(value)
        if number is None or math.isfinite(number):
            numbers[name] = number
        else:
            _checks.warn(
                f'The metric "{name}" of "{variant.name}" is left out: it must '
                f"be a finite number. Received: {number}"
            )
    return numbers
