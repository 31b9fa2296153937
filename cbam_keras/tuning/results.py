"""Results of a search: its trials, their order, and lines about them."""

import dataclasses
import json
import pathlib
from collections import Counter
from typing import Any

from cbam_keras import _terminal, training
from cbam_keras.tuning.space import PAPER

SHORT = {
    "reduction_ratio": "r={}",
    "kernel_size": "k={}",
    "order": "{}",
    "channel_pool_types": "channel {}",
    "spatial_pool_types": "spatial {}",
    "learning_rate": "rate {:.4g}",
}

# Shown only where they differ from the layer of the paper.
OF_PAPER = ("order", "channel_pool_types", "spatial_pool_types")

# How many trials the table shows.
MOST_ROWS = 20

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
class Confirmed:
    """A configuration of a search, trained again from fresh seeds.

    Attributes:
        trial: Integer, the number of the trial that tried it first.
        attention: The kind of attention, usually a string; `None` if no
            hyperparameter has that name.
        options: Dictionary, the keyword arguments of its attention layer, or
            its hyperparameters if the search was not over a
            `CBAMHyperModel`.
        seeds: Tuple of integers, other seeds than that of the search.
        test_accuracy: Number in [0, 1], the mean over the seeds.
        difference: Number, the mean over the seeds of its test accuracy
            minus that of the network without attention; `None` for the
            latter, and if there is none.
        interval: Tuple of two numbers, the 95 % confidence interval of the
            difference; `None` like the difference, and for one seed.
        compared: A `training.Compared`, with more of the same.
    """

    trial: int
    attention: Any
    options: dict[str, Any]
    seeds: tuple[int, ...]
    test_accuracy: float
    difference: float | None
    interval: tuple[float, float] | None
    compared: training.Compared


@dataclasses.dataclass(frozen=True)
class SearchResults(_terminal.Tabular):
    """Results of a search; prints as tables with a verdict.

    `to_dataframe()` has a row per trial, with its values and the attributes of
    `Trial`.

    Attributes:
        trials: Tuple of `Trial`, in the order they began.
        best: The `Trial` of the highest validation accuracy; of several the
            one with the lowest validation loss, then the fewest parameters.
        test_accuracy: Number in [0, 1], of the network of `best` after its
            best epoch.
        output: Path of the folder with all files.
        confirmation: Tuple of `Confirmed`: no attention, SE, and the best
            few others, as far as they are in the space; empty without
            confirmation.
        verdict: String, whether attention improves accuracy on this dataset;
            empty if no hyperparameter is named `"attention"`.
        best_options: Dictionary, the keyword arguments of the attention layer
            that the verdict is about; without confirmation, of the best trial
            with attention. Empty if there is none, and if the search was not
            over a `CBAMHyperModel`.
        code: String, a line of code that makes this layer, or an empty one.
    """

    trials: tuple[Trial, ...]
    best: Trial
    test_accuracy: float
    output: pathlib.Path
    confirmation: tuple[Confirmed, ...] = ()
    verdict: str = ""
    best_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    code: str = ""

    def json(self) -> str:
        """Returns the results as JSON.

        `"trials"` has an object per trial: `"attention"`,
        `"reduction_ratio"`, `"kernel_size"` (`null` where it has none) and
        its other hyperparameters, `"score"` (the validation accuracy in
        [0, 1]), and what `Trial` holds. `"confirmation"` has one per
        `Confirmed`: `"attention"`, its options, `"seeds"`,
        `"test_accuracy"`, `"difference"`, `"interval"`. `"verdict"` is a
        string, and so is `"code"`.
        """
        return json.dumps(
            {
                "trials": [_as_json(trial) for trial in self.trials],
                "confirmation": [
                    {
                        "attention": row.attention,
                        **row.options,
                        "trial": row.trial,
                        "seeds": row.seeds,
                        "test_accuracy": row.test_accuracy,
                        "difference": row.difference,
                        "interval": row.interval,
                    }
                    for row in self.confirmation
                ],
                "verdict": self.verdict,
                "best": self.best.number,
                "best_options": self.best_options,
                "code": self.code,
                "test_accuracy": self.test_accuracy,
                "output": str(self.output),
            },
            indent=2,
        )

    def __str__(self) -> str:
        trials, *confirmation = (
            _terminal.render(columns, sections, title=title)
            for columns, sections, title in self._tables()
        )
        lines = [trials, counted(self.trials)]
        lines.append(
            f"Trial {self.best.number} has a test accuracy of "
            f"{self.test_accuracy:.2%}: best.keras, best.json."
        )
        lines += confirmation
        if self.verdict:
            lines.append(self.verdict)
        if self.code:
            lines.append(f"To use it: {self.code}")
        return "\n".join(lines)

    def _records(self):
        records = []
        for trial in self.trials:
            record = dataclasses.asdict(trial)
            values = record.pop("values")
            # A hyperparameter may be called like an attribute.
            own = {
                f"{name}_value" if name in record else name: value
                for name, value in values.items()
            }
            records.append({"number": record.pop("number"), **own, **record})
        return records

    def _tables(self):
        yield self._trials_table()
        if self.confirmation:
            yield self._confirmation_table()

    def _trials_table(self):
        finished = sorted(finished_of(self.trials), key=rank)
        rows = [
            (
                str(trial.number),
                label(trial.values),
                f"{trial.val_accuracy:.2%}",
                str(trial.epochs),
                f"{trial.parameters:,}",
                "?" if trial.macs is None else f"{trial.macs / 1e6:,.4g}",
                f"{trial.seconds:.1f}",
            )
            for trial in finished[:MOST_ROWS]
        ]
        return (
            {
                "trial": "right",
                "values": "left",
                "val accuracy": "right",
                "epochs": "right",
                "parameters": "right",
                "MMACs": "right",
                "seconds": "right",
            },
            [rows],
            f"Best trials in {self.output}",
        )

    def _confirmation_table(self):
        seeds = ", ".join(map(str, self.confirmation[0].seeds))
        return (
            {
                "trial": "right",
                "values": "left",
                "val accuracy": "right",
                "test accuracy": "right",
                "difference to none": "right",
                "95 % interval": "right",
            },
            [
                [
                    (
                        str(row.trial),
                        row.compared.network,
                        f"{row.compared.validation_accuracy:.2%}",
                        f"{row.test_accuracy:.2%}",
                        points(row.difference),
                        " to ".join(map(points, row.interval or ())),
                    )
                    for row in self.confirmation
                ]
            ],
            f"Confirmation: trained again, mean over seeds {seeds}",
        )


def points(value):
    """Returns a difference of accuracies in percentage points."""
    return "" if value is None else f"{100 * value:+.2f}"


def _as_json(trial):
    content = dataclasses.asdict(trial)
    values = content.pop("values")
    names = ("attention", "reduction_ratio", "kernel_size")
    return {
        **{name: values.get(name) for name in names},
        **values,
        "values": values,
        "score": content.pop("val_accuracy"),
        **content,
    }


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


def label(values):
    """Returns the values of a trial in a few words, without commas.

    What is as in the paper's layer is left out, except `r` and `k`.
    """
    return short(values).replace(", ", " ")


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
        if name in OF_PAPER and value == PAPER[name]:
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
