"""Results of a search: its trials, their order, and tables."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from cbam_keras import _terminal, comparison, study
from cbam_keras.tuning.space import label

# How many trials the table shows.
MAX_ROWS = 20


@dataclasses.dataclass(frozen=True)
class Trial:
    """Result of one trial of a search.

    Attributes:
        number: Integer from 1.
        values: Dictionary, hyperparameters to values, without those that
            were not in use.
        outcome: String, `"finished"`, `"over budget"`, `"out of memory"`,
            `"diverged"` (the loss became NaN or infinite) or `"error"`.
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
        worker: String, the number or name of the worker that ran it, or
            `None` if there was only one process.
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
    worker: str | None = None


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
        compared: A `comparison.Compared`, with more of the same.
    """

    trial: int
    attention: Any
    options: dict[str, Any]
    seeds: tuple[int, ...]
    test_accuracy: float
    difference: float | None
    interval: tuple[float, float] | None
    compared: comparison.Compared


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
        confirmation = []
        for row in self.confirmation:
            content = dataclasses.asdict(row)
            del content["compared"]
            confirmation.append({**content.pop("options"), **content})
        return json.dumps(
            {
                "trials": [_as_json(trial) for trial in self.trials],
                "confirmation": confirmation,
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
        lines = [
            trials,
            counted(self.trials),
            f"Trial {self.best.number} has a test accuracy of "
            f"{self.test_accuracy:.2%}: best.keras, best.json.",
            *confirmation,
            self.verdict,
            f"To use it: {self.code}" if self.code else "",
        ]
        return "\n".join(filter(None, lines))

    def _records(self):
        return records(self.trials)

    def _tables(self):
        yield table(
            f"Best trials in {self.output}",
            [
                {
                    "trial": str(trial.number),
                    "values": label(trial.values),
                    "val accuracy": f"{trial.val_accuracy:.2%}",
                    "epochs": str(trial.epochs),
                    "parameters": f"{trial.parameters:,}",
                    "MMACs": "?"
                    if trial.macs is None
                    else f"{trial.macs / 1e6:,.4g}",
                    "seconds": f"{trial.seconds:.1f}",
                }
                for trial in ranked(self.trials)[:MAX_ROWS]
            ],
        )
        if self.confirmation:
            seeds = ", ".join(map(str, self.confirmation[0].seeds))
            yield table(
                f"Confirmation: trained again, mean over seeds {seeds}",
                [
                    {
                        "trial": str(row.trial),
                        "values": row.compared.network,
                        "val accuracy": format(
                            row.compared.validation_accuracy, ".2%"
                        ),
                        "test accuracy": f"{row.test_accuracy:.2%}",
                        "difference to none": _points(row.difference),
                        "95 % interval": " to ".join(
                            map(_points, row.interval or ())
                        ),
                    }
                    for row in self.confirmation
                ],
            )


def table(title: str, rows: list[dict[str, str]]) -> tuple:
    """Returns the arguments of `_terminal.render`, numbers to the right."""
    columns = dict.fromkeys(rows[0] if rows else (), "right")
    columns |= {"values": "left"}
    return columns, [[tuple(row.values()) for row in rows]], title


def _points(value):
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


def records(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Returns a dictionary of plain values per trial."""
    rows = []
    for trial in trials:
        row = dataclasses.asdict(trial)
        # A hyperparameter may be called like an attribute.
        values = {
            f"{name}_value" if name in row else name: value
            for name, value in row.pop("values").items()
        }
        rows.append({"number": row.pop("number"), **values, **row})
    return rows


def ranked(trials: Iterable[Any]) -> list[Trial]:
    """Returns the `Trial`s that finished, the best first."""
    return sorted(
        (trial for trial in trials if trial.outcome == study.FINISHED),
        key=lambda trial: (
            -trial.val_accuracy,
            trial.val_loss,
            trial.parameters,
            trial.number,
        ),
    )


def counted(trials: Iterable[Trial]) -> str:
    """Returns how many trials there are, by their outcomes."""
    counts = collections.Counter(trial.outcome for trial in trials)
    each = ", ".join(f"{count} {name}" for name, count in counts.items())
    total = counts.total()
    return f"{total} trial{'s' * (total != 1)}: {each}."


def trials_in(content: Mapping[str, Any]) -> dict[str, Trial]:
    """Returns the trials that have ended by their names, in their order.

    Args:
        content: Mapping, what `results.json` of a search holds.
    """
    variants = content["settings"]["variants"]
    numbers = {name: number for number, name in enumerate(variants, 1)}
    same = ("message", "best_epoch", "parameters", "macs", "seconds")
    return {
        cell["variant"]: Trial(
            number=numbers[cell["variant"]],
            values=variants[cell["variant"]],
            outcome=cell["status"],
            val_accuracy=cell["metrics"].get("val_accuracy"),
            val_loss=cell["metrics"].get("val_loss"),
            epochs=len(cell["history"]),
            worker=content.get("workers", {}).get(cell["variant"]),
            **{name: cell[name] for name in same},
        )
        for cell in content["cells"]
    }


def keep_networks(folder: study.StudyFolder, count: int) -> dict[str, Trial]:
    """Deletes the networks of all but the best trials, within `locked`.

    Returns the trials by their names.
    """
    folder.refresh()
    trials = trials_in(folder.content)
    kept = ranked(trials.values())[:count]
    others = [name for name, trial in trials.items() if trial not in kept]
    delete_networks(folder, others)
    return trials


def delete_networks(folder: study.StudyFolder, names: Iterable[str]) -> None:
    """Deletes the networks of these variants, within `locked`."""
    cells = []
    for cell in folder.content["cells"]:
        if cell["variant"] in names:
            # A process may have died before it noted the file.
            for file in (cell["file"], f"{cell['variant']}.keras"):
                (folder.path / str(file)).unlink(missing_ok=True)
            cell = {**cell, "file": None}
        cells.append(cell)
    folder.add(cells=cells)
