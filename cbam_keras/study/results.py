"""`Results`: the results of a run, read, printed, written and drawn."""

import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from typing import ClassVar

from cbam_keras import _checks, _files, _terminal
from cbam_keras._terminal import Table, number_cell
from cbam_keras.explain.figures import style
from cbam_keras.study import dunnett, power
from cbam_keras.study.cell import Outcome, history_of
from cbam_keras.study.checkpoints import DAMAGE
from cbam_keras.study.content import RESULTS, comparison_of, read_content
from cbam_keras.study.figures import plot_ablation
from cbam_keras.study.flips import Flips, describe_missing, flips_of
from cbam_keras.study.measures import ACCURACY, MEASURES, validation_key
from cbam_keras.study.statistics import (
    MANY,
    NOTHING,
    TESTS,
    Column,
    Measured,
    Row,
    describe_runs,
    judge_learning,
    verdict,
)
from cbam_keras.study.study import LAYOUTS, Comparison, Measure, run_name


@dataclasses.dataclass(frozen=True)
class Results(_terminal.Tabular):
    """Results of a run; prints as tables with a verdict.

    `to_dataframe()` has a row per variant, network of a table or trial; `csv()`
    and `latex()` return it as text. With folds, `seed * folds + fold` stands
    for a seed, also in the names of files.

    The columns are `variant`, `seeds` (how many), `mean`, `std` (n - 1),
    `difference` to the baseline paired by seed, `low` and `high` (its 95 %
    interval), `parameters` and `macs`. An ablation has errors in %, a search
    (see `Ranking`) hyperparameters.

    Attributes:
        output: Path of the output folder.
        outcomes: Tuple of `Outcome`, one per variant and seed.
        variants, seeds: Tuples of all variants (strings) and seeds.
        comparisons: Tuple of `Comparison`, one per table.
        measures: Tuple of `Measure`, first the one that is compared.
        data: String, the name of the dataset.
        sizes: Dictionary, the number of images by split, of the first fold.
        guess: Number in [0, 1], the test accuracy of always predicting the
            majority class, or `None`.
        kind: String, the kind of the study, as `"train"`.
        settings: Dictionary, what a resumed run must agree in.
        labels: Dictionary, what tables call variants instead of their names.
        runs: List of the `Outcome` of all trainings that finished.
        baseline: String, the first table's baseline, or `None`.
        rows: List of `Row`, one per table and variant.
        history: List of dictionaries, one per network and epoch. They have
            `seed` (if there are several), `network`, `epoch` (from 1), the
            metrics of the task, `seconds`.
        test_images: Integer, the number of test images, of all folds.
        folds: Integer, the number of folds, or `None`.
        question: String, what the study asks, or empty.
        verdict: String, the differences in a sentence, or that no network has
            learned. Empty without a baseline.
        test: String, how several comparisons are corrected; see `Study`.
        detectable: Number, the least true difference that 80 % of such studies
            find. It is in units of the measure: 0.01 is one point. `None` with
            too few seeds.
        code: String, a line of code that makes the best layer, or empty.
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
    folds: int | None = None
    question: str = dataclasses.field(default="", repr=False)

    # The class of each layout; a study names the one that shows it.
    layouts: ClassVar[dict[str, type["Results"]]] = {}
    # The columns of tables before those of the measures.
    columns: ClassVar[tuple[Column, ...]] = (
        Column("network", "label"),
        Column("parameters", "parameters", "{:,}"),
        Column("MMACs", "macs", "{:,.4g}", 1e-6, least=MANY),
    )
    # Whether differences have their unit in each cell.
    with_unit: ClassVar[bool] = True

    @classmethod
    def read(cls, folder: str | os.PathLike) -> "Results":
        """Returns the results in an output folder, as far as there are any.

        Args:
            folder: Path of the output folder of a run.

        Raises:
            ValueError: If it holds none, or if they are damaged.
        """
        path = pathlib.Path(folder)
        try:
            return cls.of(path, read_content(path)).with_subfolders()
        except DAMAGE as error:
            raise ValueError(
                "`folder` must be the output folder of a study. Received: "
                f'folder="{path}", whose {RESULTS} cannot be read '
                f"({type(error).__name__}: {error})"
            ) from error

    @staticmethod
    def of(
        path: pathlib.Path,
        content: _files.Json,
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> "Results":
        """Returns the results of these variants and seeds, or of all."""
        layout = Results.layouts[content.get("layout", LAYOUTS[0])]
        variants = tuple(variants or content["settings"]["variants"])
        seeds = tuple(seeds or content["seeds"])
        return layout(**layout.parts_of(path, content, variants, seeds))

    @classmethod
    def parts_of(
        cls,
        path: pathlib.Path,
        content: _files.Json,
        variants: tuple[str, ...],
        seeds: tuple[int, ...],
    ) -> _files.Json:
        """Returns what the constructor takes."""
        settings = content["settings"]
        outcomes = {
            (cell["variant"], cell["seed"]): Outcome(**cell)
            for cell in content["cells"]
        }
        in_order = [(v, seed) for seed in seeds for v in variants]
        description = next(iter(settings["data"].values()))
        guess = content.get("commonest")
        if guess is None and description.get("classes"):
            guess = 1 / description["classes"]
        return {
            "output": path,
            "outcomes": tuple(outcomes[x] for x in in_order if x in outcomes),
            "variants": variants,
            "seeds": seeds,
            "comparisons": tuple(
                comparison_of(x, variants) for x in content["comparisons"]
            ),
            "measures": tuple(Measure(**x) for x in content["measures"]),
            "data": description["name"],
            "sizes": description["sizes"],
            "guess": guess,
            "kind": content["kind"],
            "settings": settings,
            "labels": {
                name: label
                for name, label in content["labels"].items()
                if name in variants
            },
            "folds": settings.get("folds"),
            "question": content.get("question") or "",
        }

    def with_subfolders(self) -> "Results":
        """Returns the results with those of runs in subfolders, if any."""
        return self

    @property
    def runs(self) -> list[Outcome]:
        """The outcomes of trainings that finished."""
        return [outcome for outcome in self.outcomes if outcome.finished]

    @property
    def are_classifiers(self) -> bool:
        """Whether the networks have an accuracy, and can be explained."""
        keys = {measure.key for measure in self.measures}
        return not keys.isdisjoint({ACCURACY, validation_key(ACCURACY)})

    @property
    def first_seed(self) -> int:
        """The seed of the first training that finished, if any has."""
        return next((run.seed for run in self.runs), self.seeds[0])

    @property
    def code(self) -> str:
        """A line of code that makes the best layer."""
        return ""

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
        key = validation_key(self.measures[0].key)
        validation = self.compared(key, comparison)
        accuracies = self.compared("val_accuracy", comparison)
        names = comparison.variants
        if comparison.every_seed:
            # A baseline that lacks a seed stays, without values.
            shown = {comparison.baseline, *measured} if measured else ()
            names = [name for name in names if name in shown]
        rows = []
        for name in names:
            outcomes = [o for o in self.outcomes if o.variant == name]
            finished = [o for o in outcomes if o.finished]
            every = [outcome.seconds_per_epoch for outcome in finished]
            seconds = [x for x in every if x is not None]
            first = next(iter([*finished, *outcomes]), None)
            rows.append(
                Row(
                    **vars(measured.get(name, NOTHING)),
                    variant=name,
                    seeds=tuple(outcome.seed for outcome in finished),
                    parameters=first.parameters if first else None,
                    macs=first.macs if first else None,
                    validation=validation.get(name, NOTHING).mean,
                    validation_accuracy=accuracies.get(name, NOTHING).mean,
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
        return history_of(self.outcomes, self.seeds)

    @property
    def test_images(self) -> int:
        """The number of test images, those of all folds."""
        return self.images_of(self.seeds)

    def images_of(self, seeds: Iterable[int], split: str = "test") -> int:
        """Returns how many images were tested with these seeds."""
        if self.folds is None:
            return self.sizes[split]
        descriptions = self.settings["data"]
        # Each seed tests the images again, in other folds.
        tested = {
            seed % self.folds: descriptions[str(seed)]["sizes"][split]
            for seed in seeds
            if str(seed) in descriptions
        }
        return sum(tested.values())

    def name_of(self, seed: int) -> str:
        """Returns what sentences call a seed, or a fold of a seed."""
        return run_name(seed, self.folds)

    @property
    def seeds_in_words(self) -> str:
        """How many seeds and folds there are, in words."""
        words = describe_runs(len(self.seeds), self.folds)
        # A run that goes on has fewer, and so has a network that failed.
        is_whole = len(self.runs) == len(self.variants) * len(self.seeds)
        return words if is_whole or len(self.seeds) == 1 else f"up to {words}"

    @property
    def tested_on(self) -> str:
        """The test images in words, and what one is of an accuracy."""
        images, one = self.test_images, ""
        accuracies = ACCURACY, validation_key(ACCURACY)
        # One of more images is less than tables show.
        first = self.measures[0]
        if first.key in accuracies and 0 < images <= 10_000:
            points = first.in_points(first.number(1 / images))
            one = f" (one of them is {points})"
        if self.folds is None:
            return f"the same {_checks.count(images, 'test image')}{one}"
        return f"{images:,} images, each in one of the folds{one}"

    @property
    def model(self) -> str:
        """The name of the network that the variants are of."""
        return str(self.settings.get("model", "your own"))

    @property
    def title(self) -> str:
        """The network, the data and the seeds in words."""
        return f"{self.model} on {self.data}, {self.seeds_in_words}"

    @property
    def verdict(self) -> str:
        """The differences in a sentence."""
        if self.baseline is None:
            return ""
        first = self.measures[0]
        compared, warning = self.compared(), ""
        if self.test != TESTS[0]:
            names = self.comparisons[0].variants
            values = {name: self.values(name, first) for name in names}
            warning = dunnett.describe_deviations(values)
        seen = self._describe_power(compared.values())
        text = verdict(
            compared, self.baseline, first, self.folds, self.test, seen
        )
        return self.describe_guessing() or text + warning

    @property
    def test(self) -> str:
        """How several comparisons are corrected."""
        return str(self.settings.get("test", TESTS[0]))

    @property
    def detectable(self) -> float | None:
        """The least difference that 80 % of such studies find."""
        return power.detectable(self.compared().values(), self.test)

    def _describe_power(self, compared, is_corrected=True):
        measure, compared = self.measures[0], [*compared]
        return power.describe_power(
            compared, measure, self.test, self.folds, is_corrected
        )

    def describe_guessing(self) -> str:
        """Returns a sentence if no network has learned, or nothing."""
        if self.measures[0].key != ACCURACY or self.guess is None:
            return ""
        accuracies = []
        for variant in self.variants:
            values = [*self.values(variant, ACCURACY).values()]
            # The folds together have tested all images.
            is_whole = self.folds is not None and values
            accuracies += [statistics.fmean(values)] if is_whole else values
        return judge_learning(accuracies, self.guess, self.test_images)

    def values(
        self,
        variant: str | None,
        measure: Measure | str,
        seeds: Sequence[int] | None = None,
    ) -> dict[int, float]:
        """Returns a metric of a variant by seed, where it was measured."""
        seeds = self.seeds if seeds is None else seeds
        measure = Measure(measure) if isinstance(measure, str) else measure
        values = {
            outcome.seed: value
            for outcome in self.runs
            if outcome.variant == variant
            and outcome.seed in seeds
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

    def seeds_of(self, comparison: Comparison) -> tuple[int, ...]:
        """Returns the seeds of a table.

        Where networks must have every seed, these are the seeds with which all
        of its networks were trained: another call may have had more.
        """
        if not comparison.every_seed:
            return self.seeds
        tried = [
            {o.seed for o in self.outcomes if o.variant == name}
            for name in comparison.variants
        ]
        shared = set(self.seeds).intersection(*filter(None, tried))
        return tuple(seed for seed in self.seeds if seed in shared)

    def compared(
        self,
        measure: Measure | str | None = None,
        comparison: Comparison | None = None,
    ) -> dict[str, Measured]:
        """Returns a metric with each seed, for each variant that has it.

        By default what is compared, in the first table.
        """
        measure = measure or self.measures[0]
        measure = Measure(measure) if isinstance(measure, str) else measure
        comparison = comparison or self.comparisons[0]
        seeds = self.seeds_of(comparison)
        least = max(1, len(seeds)) if comparison.every_seed else 1
        baseline = self.values(comparison.baseline, measure, seeds)
        if len(baseline) < least:
            baseline = {}
        # Other measures are no fractions of the images.
        is_part = measure.key == ACCURACY and "test" in self.sizes
        by_name, compared = {}, {}
        for name in comparison.variants:
            values = self.values(name, measure, seeds)
            if len(values) >= least:
                by_name[name] = values
        paired = {*baseline}
        if self.test != TESTS[0]:
            paired.intersection_update(*by_name.values())
        for name, values in by_name.items():
            shared = [seed for seed in values if seed in paired]
            if name == comparison.baseline:
                shared = []
            flips = None
            if is_part and shared:
                # Bits may be damaged, and earlier versions have written none.
                with contextlib.suppress(ValueError):
                    flips = self.flips(str(comparison.baseline), name, shared)
            compared[name] = Measured.of(
                [*values.values()],
                [values[seed] - baseline[seed] for seed in shared],
                self.images_of(shared) if is_part else None,
                self.folds,
                flips.drawing if flips else None,
            )
            if flips and flips.seeds == 1:
                compared[name] = dataclasses.replace(
                    compared[name], p_value=flips.p_value, flips=str(flips)
                )
        if self.test == TESTS[0] or not baseline:
            return compared
        return dunnett.compare(
            compared, by_name, comparison.baseline, self.folds
        )

    def flips(
        self, first: str, second: str, seeds: Sequence[int] | None = None
    ) -> Flips:
        """Returns the test images that the second variant gains and loses.

        `gained` and `lost`, integers `(images,)`, say with how many `seeds`,
        by default all that both have, it or the first alone is right.
        """
        return flips_of(self, (first, second), seeds or self.seeds)

    def tables(self) -> list[Table]:
        """Returns the tables, without the names of folders."""
        tables = [self._table(comparison) for comparison in self.comparisons]
        return [table for table in tables if table.rows]

    def _table(self, comparison):
        first, rows = self.measures[0], self.rows_of(comparison)
        further = self._further(comparison)
        count = len(comparison.variants)
        columns = [x for x in self.columns if count >= x.least]
        cells = [{x.heading: x.cell(row) for x in columns} for row in rows]
        for row, line in zip(rows, cells, strict=True):
            line[first.column] = self._first_cell(row)
            line[self._difference(comparison)] = row.difference_cell(
                first, self.with_unit
            )
            for measure, by_name in further.items():
                cell = by_name.get(row.variant, NOTHING)
                heading = measure.column
                if heading in line:
                    heading = heading.replace(measure.heading, measure.key, 1)
                line[heading] = cell.mean_cell(measure)
            line["s / epoch"] = number_cell("{:.1f}", row.seconds_per_epoch)
        return Table(
            self._title_of(comparison), cells, note=self._note_of(rows)
        )

    def _further(self, comparison):
        """Returns the measures that are not compared, with their values."""
        return {
            measure: self.compared(measure, comparison)
            for measure in self.measures[1:]
            # Few classes have no top-5 error, in no table.
            if any(self.values(name, measure) for name in self.variants)
        }

    def _first_cell(self, row):
        """Returns the cell of what is compared, or how trainings failed."""
        mean = row.mean_cell(self.measures[0])
        return mean or "; ".join(row.failures)

    def _difference(self, comparison):
        """Returns the heading of the differences."""
        baseline = comparison.baseline
        return f'difference to "{baseline}"' if baseline else "difference"

    def _title_of(self, comparison):
        title = "Networks, one seed"
        if len(self.seeds) > 1:
            title = f"Networks, mean over {self.seeds_in_words}"
        return ": ".join(filter(None, [comparison.title, title]))

    def _note_of(self, rows):
        note = f"Measured on {self.tested_on}."
        if any(row.interval for row in rows):
            note += " In brackets: the 95 % interval of a difference."
        if self.measures[0].key == ACCURACY and not self.folds:
            note += describe_missing(self.output, rows)
        if seen := self._describe_power(rows):
            note += f" {seen[0].upper()}{seen[1:]}."
        errors = [x.heading for x in self.measures if x.lower_is_better]
        return note + "".join(f" A lower {x} is better." for x in errors)

    def _tables(self):
        # They are printed with the name of the folder.
        several = len(self.seeds) > 1
        seeds = f", {self.seeds_in_words}" if several else ""
        title = f"Results in {self.output}{seeds}"
        tables = self.tables()
        return [dataclasses.replace(table, title=title) for table in tables]

    def markdown(self) -> str:
        """Returns tables and verdict in Markdown."""
        tables = [table.markdown() for table in self.tables()]
        return "\n\n".join(filter(None, [*tables, self.verdict]))

    def _records(self):
        return [row.as_record() for row in self.rows]

    def json(self) -> str:
        """Returns the results as a JSON object."""
        return json.dumps(self._values(), indent=1)

    def _values(self):
        """Returns what the JSON object holds."""
        rows = [row.as_json() for row in self.rows]
        if self.measures[0].key == ACCURACY:
            for row in rows:
                row["test_accuracies"] = row["values"]
                row["test_accuracy"] = row["mean"]
        return {
            "data": self.data,
            "seeds": self.seeds,
            "folds": self.folds,
            "test_images": self.test_images,
            "rows": rows,
            "verdict": self.verdict,
            "test": self.test,
            "detectable": self.detectable,
            "runs": [run.as_run() for run in self.runs],
            "output": str(self.output),
        }

    def unfinished(self) -> list[str]:
        """Returns a line for each seed that lacks networks."""
        trained = {(outcome.variant, outcome.seed) for outcome in self.outcomes}
        lines = []
        for seed in self.seeds:
            absent = [n for n in self.variants if (n, seed) not in trained]
            if absent:
                named = _checks.first_few(absent, 20)
                lines.append(
                    f"Not trained yet: {named} ({self.name_of(seed)})."
                )
        return lines

    def networks(self) -> list[str]:
        """Returns the files of the networks of the first seed.

        Those of the last table come first.
        """
        first = self.first_seed
        files = {x.variant: x.file for x in self.runs if x.seed == first}
        tables = [one.variants for one in reversed(self.comparisons)]
        names = [files.get(name) for table in tables for name in table]
        return [name for name in dict.fromkeys(names) if name]

    def plot(self) -> "style.Figure | style.Axes":
        """Returns a matplotlib figure of means, seeds and intervals."""
        return plot_ablation(self, self.title)


Results.layouts[LAYOUTS[0]] = Results
