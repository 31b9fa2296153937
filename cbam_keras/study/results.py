"""`Results`: what a run has come to, read, printed, written and drawn."""

import dataclasses
import json
import os
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from typing import Self

from cbam_keras import _files, _terminal, plotting
from cbam_keras.study.cell import Outcome
from cbam_keras.study.checkpoints import DAMAGE
from cbam_keras.study.content import CONFIRMATION, FOUND, RESULTS, read_content
from cbam_keras.study.measures import (
    ACCURACY,
    MEASURES,
    validation_key,
)
from cbam_keras.study.statistics import (
    NOTHING,
    Measured,
    Row,
    counted,
    counted_runs,
    noun_of,
    unlearned,
    verdict,
)
from cbam_keras.study.study import Comparison, Measure, run_name
from cbam_keras.study.tables import (
    JSON,
    PRINTED,
    RECORDS,
    TABLES,
    counted_trials,
)


@dataclasses.dataclass(frozen=True)
class Results(_terminal.Tabular):
    """Results of a run of any kind; prints as tables with a verdict.

    `to_dataframe()` has a row per variant: `variant`, `seeds` (how many),
    `mean`, `std` (n - 1), `difference` to the baseline paired by seed, `low`
    and `high` (its 95 % interval), `parameters` and `macs`. An ablation has a
    row per network and table, with errors in %, detectors one per network and
    seed, a search one per trial. `csv()` and `latex()` return it as text.

    With folds, `seed * folds + fold` stands for a seed, also in the names of
    files.

    Attributes:
        output: Path of the output folder.
        outcomes: Tuple of `Outcome`, one per variant and seed.
        variants, seeds: Tuples of all variants (strings) and seeds.
        comparisons: Tuple of `Comparison`, one per table.
        measures: Tuple of `Measure`, first the one that is compared.
        data: String, the name of the dataset.
        sizes: Dictionary, the number of images by split, of the first fold.
        guess: Number in [0, 1], the test accuracy of always guessing the
            commonest class, or `None`.
        kind: String, `"study"`, `"train"`, `"ablate"`, `"detect"` or
            `"tune"`.
        settings: Dictionary, what a resumed run must agree in.
        labels: Dictionary, what tables call variants instead of their names.
        runs: List of the `Outcome` of all trainings that finished.
        baseline: String, the first table's baseline, or `None`.
        rows: List of `Row`, one per table and variant.
        history: List of dictionaries, one per network and epoch: `seed` (if
            there are several), `network`, `epoch` (from 1), the metrics of
            the task, `seconds`.
        test_images: Integer, the number of test images, of all folds.
        folds: Integer, the number of folds, or `None`.
        verdict: String, the differences in a sentence, or that no network
            has learned; empty without a baseline.
        trials: Tuple of `Outcome`, the trials of a search in order. In other
            runs, this and what follows are empty or `None`.
        ranked: List of the trials that finished, the best first.
        confirmation: Tuple of `Row`: no attention, SE and the best two others,
            retrained with new seeds.
        best: The chosen trial: the highest mean validation accuracy of those
            confirmed, otherwise the best trial.
        best_options: Dictionary, the arguments of its attention layer, if
            the search was over a `CBAMHyperModel`.
        code: String, a line of code that makes this layer, or empty.
        test_accuracy: Number in [0, 1], of the network in `best.keras`: the
            training of the chosen configuration that validates best.
        found: Dictionary, what `results.json` holds of these.
    """

    output: pathlib.Path
    outcomes: tuple[Outcome, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    comparisons: tuple[Comparison, ...]
    measures: tuple[Measure, ...]
    data: str
    sizes: dict[str, int]
    guess: float | None = dataclasses.field(default=None, repr=False)
    kind: str = "study"
    settings: _files.Json = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )
    labels: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)
    found: _files.Json = dataclasses.field(default_factory=dict, repr=False)
    confirmation: tuple[Row, ...] = ()
    folds: int | None = None

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Self:
        """Returns the results in an output folder, as far as there are any.

        Args:
            folder: Path of the output folder of a run.

        Raises:
            ValueError: If it holds none, or if they are damaged.
        """
        path = pathlib.Path(folder)
        try:
            results = cls.of(path, read_content(path))
            return results.with_confirmation(results.found.get("confirmation"))
        except DAMAGE as error:
            raise ValueError(
                "`folder` must be the output folder of a study. Received: "
                f'folder="{path}", whose {RESULTS} cannot be read '
                f"({type(error).__name__}: {error})"
            ) from error

    @classmethod
    def of(
        cls,
        path: pathlib.Path,
        content: _files.Json,
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Self:
        """Returns the results of these variants and seeds, or of all."""
        settings = content["settings"]
        variants = tuple(variants or settings["variants"])
        seeds = tuple(seeds or content["seeds"])
        numbers = {name: i for i, name in enumerate(settings["variants"], 1)}
        measures = tuple(Measure(**held) for held in content["measures"])
        known = {}
        for cell in content["cells"]:
            name = cell["variant"]
            known[name, cell["seed"]] = Outcome(
                **cell,
                number=numbers[name],
                label=content["labels"].get(name, name),
                values=settings["variants"][name],
                score=cell["metrics"].get(measures[0].key),
            )
        ordered = [(v, seed) for seed in seeds for v in variants]
        description = next(iter(settings["data"].values()))
        guess = content.get("commonest")
        if guess is None and description.get("classes"):
            guess = 1 / description["classes"]
        return cls(
            output=path,
            outcomes=tuple(known[key] for key in ordered if key in known),
            variants=variants,
            seeds=seeds,
            comparisons=tuple(
                _comparison(held, variants) for held in content["comparisons"]
            ),
            measures=measures,
            data=description["name"],
            sizes=description["sizes"],
            guess=guess,
            kind=content["kind"],
            settings=settings,
            labels={
                name: label
                for name, label in content["labels"].items()
                if name in variants
            },
            found={
                name: content[name]
                for name in FOUND
                if name in content and content["kind"] == "tune"
            },
            folds=settings.get("folds"),
        )

    @property
    def runs(self) -> list[Outcome]:
        """The outcomes of trainings that finished."""
        return [outcome for outcome in self.outcomes if outcome.finished]

    def with_confirmation(self, confirmation: list[_files.Json] | None) -> Self:
        """Returns these results with the rows of a confirmation, if any.

        It is as `results.json` holds it: trials, and with which seeds they
        have been trained again, in a folder of their own.
        """
        if not confirmation:
            return self
        path = self.output / CONFIRMATION
        content = read_content(path)
        trials = {trial.number: trial for trial in self.trials}
        names = [
            name
            for held in confirmation
            for name, options in content["settings"]["variants"].items()
            if options == trials[held["trial"]].values
        ]
        again = self.of(path, content, names, confirmation[0]["seeds"])
        rows = [
            dataclasses.replace(
                row,
                trial=held["trial"],
                attention=trials[held["trial"]].values.get("attention"),
                options=held["options"],
            )
            for row, held in zip(again.rows, confirmation, strict=True)
        ]
        return dataclasses.replace(self, confirmation=tuple(rows))

    @property
    def trials(self) -> tuple[Outcome, ...]:
        """The outcomes of a search."""
        return self.outcomes if self.kind == "tune" else ()

    @property
    def ranked(self) -> list[Outcome]:
        """The trials that finished, the best first."""
        return sorted((x for x in self.trials if x.finished), key=_rank)

    @property
    def confirmed_by(self) -> str:
        """What the test images of a confirmation are measured by."""
        return self.measures[0].heading.replace("validation", "test", 1)

    @property
    def best(self) -> Outcome | None:
        """The trial of the chosen configuration."""
        number = self.found.get("best")
        return next((x for x in self.trials if x.number == number), None)

    @property
    def best_options(self) -> _files.Json:
        """The arguments of the chosen attention layer."""
        return self.found.get("best_options", {})

    @property
    def code(self) -> str:
        """A line of code that makes this layer."""
        return self.found.get("code", "")

    @property
    def test_accuracy(self) -> float | None:
        """That of the network in `best.keras`."""
        return self.found.get("best_network", {}).get("test_accuracy")

    @property
    def baseline(self) -> str | None:
        """The baseline of the first table."""
        return self.comparisons[0].baseline

    @property
    def rows(self) -> list[Row]:
        """A `Row` per table and variant."""
        return [row for one in self.comparisons for row in self.rows_of(one)]

    def rows_of(self, comparison: Comparison) -> list[Row]:
        """Returns the rows of a table."""
        measured = self.compared(comparison=comparison)
        # A measure other than the accuracy is shown where it is known.
        own = validation_key(self.measures[0].key)
        validation = self.compared(own, comparison)
        validation = validation or self.compared("val_accuracy", comparison)
        names = comparison.variants
        if comparison.every_seed:
            # A baseline that lacks a seed stays, without values.
            kept = {comparison.baseline, *measured} if measured else ()
            names = [name for name in names if name in kept]
        rows = []
        for name in names:
            outcomes = [o for o in self.outcomes if o.variant == name]
            finished = [o for o in outcomes if o.finished]
            each = [outcome.seconds_per_epoch for outcome in finished]
            seconds = [one for one in each if one is not None]
            first = next(iter([*finished, *outcomes]), None)
            rows.append(
                Row(
                    **vars(measured.get(name, NOTHING)),
                    network=name,
                    seeds=tuple(outcome.seed for outcome in finished),
                    parameters=first.parameters if first else None,
                    macs=first.macs if first else None,
                    validation_accuracy=validation.get(name, NOTHING).mean,
                    seconds_per_epoch=(
                        statistics.median(seconds) if seconds else None
                    ),
                    failures=tuple(
                        f"{self.name_of(o.seed)}: {o.status} ({o.message})"
                        for o in outcomes
                        if not o.finished
                    ),
                    label=self.labels.get(name, name),
                    table=comparison.number,
                )
            )
        return rows

    @property
    def history(self) -> list[dict[str, object]]:
        """A dictionary per network and epoch."""
        several = len(self.seeds) > 1
        return [
            {
                **({"seed": outcome.seed} if several else {}),
                "network": outcome.variant,
                **row,
            }
            for outcome in self.outcomes
            for row in outcome.history
        ]

    @property
    def test_images(self) -> int:
        """The number of test images, those of all folds."""
        return self.images_of(self.seeds)

    def images_of(self, seeds: Iterable[int]) -> int:
        """Returns how many images were tested with these seeds."""
        if self.folds is None:
            return self.sizes["test"]
        described = self.settings["data"]
        # Each seed tests the images again, in other folds.
        tested = {
            seed % self.folds: described[str(seed)]["sizes"]["test"]
            for seed in seeds
            if str(seed) in described
        }
        return sum(tested.values())

    def name_of(self, seed: int) -> str:
        """Returns what sentences call a seed, or a fold of a seed."""
        return run_name(seed, self.folds)

    @property
    def counted_seeds(self) -> str:
        """How many seeds and folds there are, in words."""
        counted = counted_runs(len(self.seeds), self.folds)
        # A run that goes on has fewer, and so has a network that failed.
        is_whole = len(self.runs) == len(self.variants) * len(self.seeds)
        return (
            counted if is_whole or len(self.seeds) == 1 else f"up to {counted}"
        )

    @property
    def model(self) -> str:
        """What the network is called that the variants are of."""
        return str(self.settings.get("model", "your own"))

    @property
    def title(self) -> str:
        """The network, the data and the seeds in words; of a search trials."""
        if self.kind == "tune":
            return f"{self.data}, {counted_trials(self.trials)}"
        return f"{self.model} on {self.data}, {self.counted_seeds}"

    @property
    def verdict(self) -> str:
        """The differences in a sentence."""
        if self.kind == "tune":
            return self.found.get("verdict", "")
        if self.kind == "ablate":
            return self._counted()
        if self.baseline is None:
            return ""
        first = self.measures[0]
        return self.unlearned() or verdict(
            self.compared(),
            self.baseline,
            first.heading,
            first.digits,
            self.folds,
        )

    def _counted(self):
        # Some are in two tables.
        compared = {
            (row.network, comparison.baseline): (row.label, row)
            for comparison in self.comparisons
            for row in self.rows_of(comparison)
            if row.difference is not None
        }
        said = counted([*compared.values()], len(self.seeds), self.folds)
        return (compared and self.unlearned()) or said

    def unlearned(self) -> str:
        """Returns a sentence if no network has learned, or nothing."""
        if self.measures[0].key != ACCURACY or self.guess is None:
            return ""
        accuracies = []
        for variant in self.variants:
            values = [*self.values(variant, ACCURACY).values()]
            # The folds together have tested all images.
            is_whole = self.folds is not None and values
            accuracies += [statistics.fmean(values)] if is_whole else values
        return unlearned(accuracies, self.guess, self.test_images)

    def values(
        self, variant: str | None, measure: Measure | str
    ) -> dict[int, float]:
        """Returns a metric of a variant by seed, where it was measured."""
        measure = Measure(measure) if isinstance(measure, str) else measure
        values = {
            outcome.seed: value
            for outcome in self.runs
            if outcome.variant == variant
            and (value := outcome.metrics.get(measure.key)) is not None
        }
        if not measure.is_error:
            return values
        if measure.key in MEASURES:
            return {seed: 1 - value for seed, value in values.items()}
        # Accuracies were computed in float32: the fraction that was meant.
        errors = {}
        for seed, value in values.items():
            images = self.images_of([seed])
            errors[seed] = round((1 - value) * images) / images
        return errors

    def compared(
        self,
        measure: Measure | str | None = None,
        comparison: Comparison | None = None,
    ) -> dict[str, Measured]:
        """Returns a metric over the seeds, for each variant that has it.

        By default what is compared, in the first table.
        """
        measure = measure or self.measures[0]
        measure = Measure(measure) if isinstance(measure, str) else measure
        comparison = comparison or self.comparisons[0]
        values = {n: self.values(n, measure) for n in comparison.variants}
        least = len(self.seeds) if comparison.every_seed else 1
        values = {n: own for n, own in values.items() if len(own) >= least}
        baseline = values.get(comparison.baseline or "", {})
        # Other measures are no fractions of the images.
        is_part = measure.key == ACCURACY and "test" in self.sizes
        compared = {}
        for name, own in values.items():
            shared = [x for x in own if x in baseline]
            if name == comparison.baseline:
                shared = []
            compared[name] = Measured.of(
                [*own.values()],
                [own[x] - baseline[x] for x in shared],
                self.images_of(shared) if is_part else None,
                self.folds,
            )
        return compared

    def __str__(self) -> str:
        if self.kind == "tune":
            return self._search_text()
        text = super().__str__()
        if self.kind == "ablate":
            text += f"\n\nAll files are in {self.output}"
        if self.kind == "detect":
            text += f"\nResults in {self.output}, detections in detections.png"
        return text

    def _search_text(self):
        lines = [*map(str, self._tables())]
        lines.insert(1, counted_trials(self.trials))
        lines.append(_terminal.wrapped(self.verdict))
        if self.best:
            measured = f"a test accuracy of {self.test_accuracy:.2%}"
            key = self.measures[0].key.removeprefix("val_")
            if (value := self.found["best_network"].get(key)) is not None:
                measured = (
                    f"a {self.confirmed_by} of {value:.2%} and {measured}"
                )
            lines.append(
                f"best.keras, best.json: {self.best.label}, with {measured}."
            )
        if self.code:
            lines.append(f"To use it: {self.code}")
        return "\n".join(filter(None, lines))

    def markdown(self) -> str:
        """Returns tables and verdict in Markdown."""
        tables = [table.markdown() for table in self.tables()]
        return "\n\n".join(filter(None, [*tables, self.verdict]))

    def json(self) -> str:
        """Returns the results as a JSON object."""
        return json.dumps(self._by(JSON), indent=1)

    def tables(self) -> list[_terminal.Table]:
        """Returns the tables, without the names of folders."""
        return self._by(TABLES)

    def _tables(self):
        return self._by(PRINTED)

    def _records(self):
        return self._by(RECORDS)

    def _by(self, functions):
        return functions.get(self.kind, functions["study"])(self)

    def plot(self) -> "plotting.style.Figure | plotting.style.Axes":
        """Returns a matplotlib figure of means, seeds and intervals.

        Of a search it is of the accuracy of its trials against their cost.
        """
        heading = self.measures[0].heading
        if self.kind == "ablate":
            return plotting.plot_ablation(self, self.title, heading=heading)
        if self.kind == "tune":
            return plotting.plot_pareto(self.trials, self.title, heading)
        rows = [row for row in self.rows if row.values]
        figure = plotting.new_figure(8, 1.2 + 0.5 * len(rows), self.data)
        axes = figure.subplots()
        means = {row.network: row.mean for row in rows}
        plotting.draw_rows(axes, rows, means.get(self.baseline or ""))
        axes.set_xlabel(
            f"{heading} (%): mean, {noun_of(self.folds)}s, and 95 % interval "
            "of the difference",
            parse_math=False,
        )
        return figure


def _rank(trial):
    """Returns what trials are sorted by: score, loss, size, number."""
    return -trial.score, trial.val_loss, trial.parameters, trial.number


def _comparison(held, variants):
    """Returns a `Comparison` of these variants, as `results.json` holds it."""
    baseline = held["baseline"]
    return Comparison(
        **held
        | {
            "baseline": baseline if baseline in variants else None,
            "variants": tuple(
                name
                for name in held["variants"] or variants
                if name in variants
            ),
        }
    )
