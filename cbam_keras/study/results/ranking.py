"""`Ranking`: networks in the order of a measure, the best retrained."""

import collections
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Sequence
from typing import Self

from cbam_keras import _checks, _terminal
from cbam_keras._files import Json
from cbam_keras._terminal import Table, number_cell
from cbam_keras.explain.figures import style
from cbam_keras.study.files.folder import CHOICE, CONFIRMATION, read_content
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.results import tables
from cbam_keras.study.results.figures import plot_comparison
from cbam_keras.study.results.results import RESULTS_OF_KIND, Results
from cbam_keras.study.results.statistics import describe_runs
from cbam_keras.study.results.tables import Row

# An option, or a hyperparameter, has such a value.
OptionValue = str | int | float


@dataclasses.dataclass(frozen=True)
class Trial(Outcome):
    """Result of training one network of a ranking.

    An `Outcome`, of all folds: `metrics` are their means, `seconds` their sum.

    All else is of the first fold, or of the first that failed.

    Attributes:
        number, label: Integer from 1 and string, its name in tables.
        values: Dictionary, its hyperparameters.
        score: Number, by which it is ranked, on validation images, or `None`.
    """

    number: int = 0
    label: str = ""
    values: dict[str, OptionValue] = dataclasses.field(default_factory=dict)
    score: float | None = None

    def as_json(self) -> Json:
        """Returns what JSON and data frames hold."""
        return {
            **self.values,
            "number": self.number,
            "outcome": self.status,
            "message": self.message,
            "val_accuracy": self.val_accuracy,
            "val_loss": self.val_loss,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "parameters": self.parameters,
            "macs": self.macs,
            "seconds": self.seconds,
        }


def join_folds(runs: Sequence[Outcome]) -> Outcome:
    """Returns the outcomes of all folds of a network as one; see `Trial`."""
    first, *others = runs
    failed = next((run for run in runs if not run.finished), None)
    if failed or not others:
        return failed or first
    metrics: list[Json] = [run.metrics for run in runs]
    means: dict[str, float | None] = {
        name: statistics.fmean(of_fold[name] for of_fold in metrics)
        for name in first.metrics
    }
    seconds = sum(run.seconds for run in runs)
    return dataclasses.replace(first, metrics=means, seconds=seconds)


@dataclasses.dataclass(frozen=True)
class ConfirmedRow(Row):
    """A trial retrained with new seeds; see `Row`.

    Attributes:
        trial: Integer, the number of the best trial of these values.
        attention: The kind of attention, usually a string, or `None`.
        options: Dictionary, arguments of its layer, or other hyperparameters.
    """

    trial: int = 0
    attention: OptionValue | None = None
    options: Json = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Ranking(Results):
    """Results of a search: trials, and the best of them retrained.

    A trial is a variant of these `Results`, which has one seed. `verdict` and
    `plot` are of the search, and `to_dataframe()` has a row per trial.

    Attributes:
        trials: Tuple of `Trial`, in order, all folds of which ended.
        ranked: List of the trials that finished, the best first.
        retrained: The `Results` of the confirmation, or `None`.
        confirmation: Tuple of `ConfirmedRow`: the network without attention,
            and the best setting with attention, retrained with new seeds.
        best: The chosen `Trial`: this setting, or the network without
            attention if that has better validation with new seeds. Without
            these: the best trial.
        best_options: Dictionary, the arguments of its attention layer. Needs a
            search with a `CBAMHyperModel`.
        code: String, a line of code that makes this layer, or empty.
        test_accuracy: Number in [0, 1], of the network in `best.keras`, the
            run of the choice that validates best, on the test images of
            its fold. `None` without new seeds: trials are not tested.
        choice: Dictionary, what `results.json` holds of these.
    """

    trials: tuple[Trial, ...] = ()
    choice: Json = dataclasses.field(default_factory=dict)
    confirmation: tuple[ConfirmedRow, ...] = ()
    retrained: Results | None = None

    @classmethod
    def of(
        cls,
        path: pathlib.Path,
        content: Json,
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Self:
        """Returns a search of what its folder holds, not yet confirmed."""
        found = super().of(path, content, variants, seeds)
        choice = {x: content[x] for x in CHOICE if x in content}
        trials = found._read_trials(content["settings"]["variants"])
        return dataclasses.replace(found, trials=tuple(trials), choice=choice)

    def _read_trials(self, variants: dict[str, dict[str, OptionValue]]):
        """Yields a trial for each network of which all folds have ended."""
        key = self.measures[0].key
        for number, (name, values) in enumerate(variants.items(), 1):
            runs = [x for x in self.outcomes if x.variant == name]
            if len(runs) < len(self.planned_runs):
                continue
            outcome = join_folds(runs)
            yield Trial(
                **vars(outcome),
                number=number,
                label=self.labels.get(name, name),
                values=values,
                score=outcome.metrics.get(key),
            )

    def confirmed(self, entries: Sequence[Json] | None = None) -> Self:
        """Returns it with what its subfolder holds of these, or of its own."""
        if entries is None:
            entries = self.choice.get("confirmation", ())
        if not entries:
            return self
        path = self.output / CONFIRMATION
        content = read_content(path)
        trials = {trial.number: trial for trial in self.trials}
        names = [
            name
            for entry in entries
            for name, options in content["settings"]["variants"].items()
            if options == trials[entry["trial"]].values
        ]
        seeds = entries[0]["seeds"]
        retrained = Results.of(path, content, names, seeds)
        rows = [
            ConfirmedRow(
                **vars(row),
                trial=entry["trial"],
                attention=trials[entry["trial"]].values.get("attention"),
                options=entry["options"],
            )
            for row, entry in zip(retrained.rows, entries, strict=True)
        ]
        return dataclasses.replace(
            self, confirmation=tuple(rows), retrained=retrained
        )

    @property
    def ranked(self) -> list[Trial]:
        """The trials that finished, the best first."""
        measure = self.measures[0]

        def order(trial):
            # The lower loss decides between equal scores, then the smaller
            # network.
            merit = measure.merit(trial.metrics[measure.key])
            return -merit, trial.val_loss, trial.parameters, trial.number

        return sorted((x for x in self.trials if x.finished), key=order)

    @property
    def best(self) -> Trial | None:
        """The trial of the chosen configuration."""
        number = self.choice.get("best")
        return next((x for x in self.trials if x.number == number), None)

    @property
    def best_options(self) -> Json:
        """The arguments of the chosen attention layer."""
        return self.choice.get("best_options", {})

    @property
    def code(self) -> str:
        """A line of code that makes this layer."""
        return self.choice.get("code", "")

    @property
    def test_accuracy(self) -> float | None:
        """That of the network in `best.keras`."""
        return self.choice.get("best_network", {}).get("test_accuracy")

    @property
    def verdict(self) -> str:
        """Whether attention improves accuracy, in a sentence."""
        return self.choice.get("verdict", "")

    @property
    def confirmed_by(self) -> Measure:
        """What the test images of a confirmation are measured by."""
        first = self.measures[0]
        heading = first.heading.replace("validation", "test", 1)
        return dataclasses.replace(first, heading=heading)

    @property
    def trials_in_words(self) -> str:
        """How many trials ended in which way, as a sentence."""
        counts = collections.Counter(trial.status for trial in self.trials)
        each = ", ".join(f"{count} {name}" for name, count in counts.items())
        over = f" over {self.folds} folds" if self.folds else ""
        return f"{_checks.count(len(self.trials), 'trial')}{over}: {each}."

    @property
    def title(self) -> str:
        """The data and the trials in words."""
        return f"{self.data}, {self.trials_in_words}"

    def tables(self) -> list[Table]:
        """Returns the tables, without the names of folders."""
        cells = [
            {
                "trial": str(trial.number),
                "values": trial.label,
                **{
                    _short(x): x.number(trial.metrics.get(x.key))
                    for x in self.measures
                },
                "epochs": str(trial.epochs),
                "parameters": number_cell("{:,}", trial.parameters),
                "MMACs": number_cell("{:,.4g}", trial.macs, 1e-6),
                "seconds": number_cell("{:.1f}", trial.seconds),
            }
            for trial in self.ranked
        ]
        every = [self._confirmation_table(), Table("Trials", cells)]
        return [table for table in every if table.rows]

    _tables = tables

    def _confirmation_table(self):
        rows, measure = self.confirmation, self.measures[0]
        seeds = dict.fromkeys(seed for row in rows for seed in row.seeds)
        over = f"seeds {', '.join(map(str, seeds))}"
        if self.folds is not None:
            over = describe_runs(len(seeds) * self.folds, self.folds)
        cells = [
            {
                "trial": str(row.trial),
                "values": row.label,
                _short(measure): measure.number(row.validation),
                _short(self.confirmed_by): tables.mean_cell(row, measure),
                "difference from none": tables.difference_cell(row, measure),
            }
            for row in rows
        ]
        return Table(
            f"Retrained with new seeds, mean over {over}",
            cells,
            note="The best score of many trials is optimistically biased. "
            "Therefore, the cheapest setting within one standard error of the "
            "best and the network without attention were retrained with new "
            "seeds. " + tables.note_of(rows, self.tested_on, [measure]),
        )

    def __str__(self) -> str:
        lines = [f"Search in {self.output}: {self.trials_in_words}"]
        lines += [*map(str, self.tables()), _terminal.wrap_text(self.verdict)]
        if self.best:
            values = self.choice["best_network"]
            validated = self.measures[0]
            value = validated.number(values.get(validated.key))
            lines.append(
                f"best.keras: {self.best.label}, {validated.column} {value}."
            )
        if self.code:
            lines.append(f"To use it: {self.code}")
        return "\n".join(filter(None, lines))

    def _records(self):
        return [
            trial.as_json()
            | {x.key: trial.metrics.get(x.key) for x in self.measures}
            for trial in self.trials
        ]

    def json(self) -> str:
        """Returns the results as a JSON object."""
        names = ("attention", "reduction_ratio", "kernel_size")
        trials = [
            {
                **dict.fromkeys(names),
                **record,
                "score": trial.score,
                "values": trial.values,
            }
            for trial, record in zip(self.trials, self._records(), strict=True)
        ]
        values = {
            "trials": trials,
            "confirmation": [
                {
                    **row.options,
                    "trial": row.trial,
                    "attention": row.attention,
                    "options": row.options,
                    "seeds": row.seeds,
                    "test_accuracy": row.mean,
                    "difference": row.difference,
                    "interval": row.interval,
                }
                for row in self.confirmation
            ],
            "verdict": self.verdict,
            "best": self.best and self.best.number,
            "best_options": self.best_options,
            "code": self.code,
            "test_accuracy": self.test_accuracy,
            "folds": self.folds,
            "output": str(self.output),
        }
        return json.dumps(values, indent=1)

    def plot(self) -> "style.Figure":
        """Returns a matplotlib figure of the scores of the trials."""
        return plot_comparison(self, self.title)

    def unfinished(self) -> list[str]:
        """Returns a line for what the search lacks."""
        lines = super().unfinished()
        if self.best is None:
            lines.insert(0, "The search is not finished.")
        return lines

    def networks(self) -> dict[str, str]:
        """Returns the file of the best network."""
        return {"best": "best.keras"}


def _short(measure):
    """Returns the heading of a column, e.g. "val accuracy (%)"."""
    return measure.column.replace("validation", "val", 1)


# `Results` reads folders of searches by it, and cannot import this file.
RESULTS_OF_KIND.update(tune=Ranking)
