"""`Outcome`: how the training of one network ended, and what it measured."""

import dataclasses
from collections.abc import Iterable

from cbam_keras import _files
from cbam_keras.study.plans.study import AT, Run

FINISHED, DIVERGED = "finished", "diverged"
# The same call tries these again.
ERROR = "error"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of training one network: one variant with one seed.

    Attributes:
        variant: String, its name.
        seed: Integer, the seed that it was trained with.
        fold: Integer, its fold, or `None` without folds.
        status: String, `"finished"`, `"diverged"` (the loss became NaN or
            infinite) or `"error"`.
        message, traceback: Strings, what went wrong and where, or `None`.
        parameters, macs: Integers, trainable parameters and
            multiply-accumulates for one image, or `None`.
        metrics: Dictionary of what was measured on the test data and in the
            best epoch. Empty unless finished.
        test_accuracy, val_accuracy, val_loss: Of the best epoch, or `None`.
        best_epoch: Integer from 1, the tested epoch, see `Recipe`, or `None`.
        selected_by: String, why that epoch: `"last epoch"` or, as an example,
            `"best val_accuracy"`. `None` unless finished.
        epochs: Integer, the epochs that were trained.
        seconds_per_epoch: Number, the median after the first, or `None`.
        seconds: Number, the seconds of training and validation.
        file: String, the `.keras` file in the output folder, or `None`.
        predictions: String, the file with its predictions there, or `None`.
        learning_rate: Number, where the run has chosen it among several, or
            `None`.
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
    file: str | None = None
    predictions: str | None = None
    learning_rate: float | None = None
    fold: int | None = None
    history: list[dict[str, float]] = dataclasses.field(
        default_factory=list, repr=False
    )

    @property
    def run(self) -> Run:
        """Its seed and fold."""
        return Run(self.seed, self.fold)

    @property
    def original(self) -> str:
        """String, its variant without a learning rate."""
        return self.variant.partition(AT)[0]

    def as_json(self) -> _files.Json:
        """Returns what JSON holds of a training that finished."""
        return {
            "network": self.variant,
            **described(self.run),
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


def described(run: Run) -> dict[str, int]:
    """Returns a run in the columns of a table, its fold if it has one."""
    fold = {} if run.fold is None else {"fold": run.fold}
    return {"seed": run.seed, **fold}


def history_of(
    outcomes: Iterable[Outcome], are_several: bool
) -> list[dict[str, object]]:
    """Returns a dictionary per network and epoch."""
    rows = []
    for outcome in outcomes:
        run = described(outcome.run) if are_several else {}
        network = {**run, "network": outcome.variant}
        rows += [{**network, **row} for row in outcome.history]
    return rows
