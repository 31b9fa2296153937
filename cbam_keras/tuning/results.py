"""Results of a search: its trials, their order, and lines about them."""

import dataclasses
import pathlib
from collections import Counter
from typing import Any

from cbam_keras import _tables

SHORT = {
    "reduction_ratio": "r={}",
    "kernel_size": "k={}",
    "order": "{}",
    "channel_pool_types": "channel {}",
    "spatial_pool_types": "spatial {}",
    "learning_rate": "rate {:.4g}",
}

# How a trial ends.
FINISHED = "finished"
OVER_BUDGET = "over budget"
OUT_OF_MEMORY = "out of memory"
DIVERGED = "diverged"
ERROR = "error"
CRASHED = "crashed"


@dataclasses.dataclass(frozen=True)
class Trial:
    """Result of one trial of a search.

    Attributes:
        number: Integer from 1.
        values: Dictionary, hyperparameters to values, without those that
            were not in use.
        outcome: String, `"finished"`, `"over budget"`, `"out of memory"`,
            `"diverged"` (a loss that is not finite), `"error"` or
            `"crashed"` (its process died several times).
        message: String, what went wrong, or `None`.
        val_accuracy: Number in [0, 1], the highest validation accuracy;
            `None` unless finished.
        val_loss: Number, in the same epoch, or `None`.
        best_epoch: Integer from 1, that epoch, or `None`.
        epochs: Integer, the epochs that were trained, including those of the
            trial that this one continued.
        parameters: Integer, trainable parameters, or `None`.
        macs: Integer, multiply-accumulates for one image, or `None` where
            they cannot be counted.
        seconds: Number, of training and validation in this trial.
        worker: String, the process that ran it, or `None` if there was only
            one.
    """

    number: int
    values: dict[str, Any]
    outcome: str
    message: str | None
    val_accuracy: float | None
    val_loss: float | None
    best_epoch: int | None
    epochs: int
    parameters: int | None
    macs: int | None
    seconds: float
    worker: str | None


@dataclasses.dataclass(frozen=True)
class SearchResults:
    """Results of a search; prints as a table with a verdict.

    Attributes:
        trials: Tuple of `Trial`, in the order they began.
        best: The `Trial` of the highest validation accuracy; of several the
            one with the lowest validation loss, then the fewest parameters.
        test_accuracy: Number in [0, 1], of the network of `best` after its
            best epoch, the only one that was tested.
        output: Path of the folder with all files.
        verdict: String, whether attention improves accuracy on this dataset;
            empty if no hyperparameter is named `"attention"`.
    """

    trials: tuple[Trial, ...]
    best: Trial
    test_accuracy: float
    output: pathlib.Path
    verdict: str

    def __str__(self) -> str:
        finished = sorted(finished_of(self.trials), key=rank)
        rows = [
            (
                str(trial.number),
                short(trial.values),
                f"{trial.val_accuracy:.2%}",
                str(trial.epochs),
                f"{trial.parameters:,}",
                "?" if trial.macs is None else f"{trial.macs / 1e9:.4g}",
                f"{trial.seconds:.1f}",
            )
            for trial in finished[:10]
        ]
        table = _tables.render(
            {
                "trial": "right",
                "values": "left",
                "val accuracy": "right",
                "epochs": "right",
                "parameters": "right",
                "GMACs": "right",
                "seconds": "right",
            },
            [rows],
            title=f"Best trials in {self.output}",
        )
        lines = [table, counted(self.trials)]
        lines.append(
            f"Trial {self.best.number} has a test accuracy of "
            f"{self.test_accuracy:.2%}: best.keras, best.json."
        )
        if self.verdict:
            lines.append(self.verdict)
        return "\n".join(lines)


def trials_of(outcomes):
    """Returns the trials that have ended, in the order they began.

    Args:
        outcomes: Dictionary, ids of trials to the content of their
            `outcome.json`.
    """
    names = [field.name for field in dataclasses.fields(Trial)]
    names.remove("number")
    trials = []
    for trial_id, outcome in sorted(outcomes.items()):
        values = {
            name: value
            for name, value in outcome["values"].items()
            if not name.startswith("tuner/")
        }
        known = {name: outcome[name] for name in names}
        trials.append(Trial(int(trial_id), **{**known, "values": values}))
    return tuple(trials)


def finished_of(trials):
    return [trial for trial in trials if trial.outcome == FINISHED]


def rank(trial):
    """Returns a key that sorts finished trials, the best first."""
    return (
        -trial.val_accuracy,
        trial.val_loss,
        trial.parameters or 0,
        trial.number,
    )


def counted(trials):
    counts = Counter(trial.outcome for trial in trials)
    each = ", ".join(f"{count} {name}" for name, count in counts.items())
    noun = "trial" if len(trials) == 1 else "trials"
    return f"{len(trials)} {noun}: {each}."


def short(values):
    """Returns the values of a trial in a few words."""
    words = [str(values["attention"])] if "attention" in values else []
    stages = {
        name: value
        for name, value in values.items()
        if name.startswith("stage") and isinstance(value, bool)
    }
    # The learning rate, which every trial has, last.
    for name in sorted(values, key=lambda name: name == "learning_rate"):
        value = values[name]
        if name == "attention" or name in stages or name.startswith("tuner/"):
            continue
        if name in SHORT and not isinstance(value, bool):
            words.append(SHORT[name].format(value))
        elif isinstance(value, float):
            words.append(f"{name}={value:.4g}")
        else:
            words.append(f"{name}={value}")
    if not all(stages.values()):
        on = [name.removeprefix("stage") for name in stages if stages[name]]
        words.append(f"stage {'+'.join(on)}")
    if "tuner/trial_id" in values:
        words.append(f"from trial {int(values['tuner/trial_id'])}")
    return ", ".join(words) or "the only network"


def beginning(number, total, values):
    """Returns the line printed when a trial begins."""
    of = f" of {total}" if total else ""
    return f"Trial {number}{of}: {short(values)}"


def ending(number, outcome, best):
    """Returns the line printed when a trial ends."""
    if outcome["outcome"] != FINISHED:
        return f"Trial {number}: {outcome['outcome']} ({outcome['message']})"
    line = (
        f"Trial {number}: finished, val accuracy {outcome['val_accuracy']:.2%}"
    )
    if best is not None:
        line += f", best so far {best['val_accuracy']:.2%}"
    return line
