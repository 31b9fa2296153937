"""`Results`: what a study measured, as rows, a table and a verdict."""

import dataclasses
import json
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence

from cbam_keras import _files, _terminal, plotting
from cbam_keras.study.cell import Outcome
from cbam_keras.study.checkpoints import DAMAGE
from cbam_keras.study.content import RESULTS, read_content
from cbam_keras.study.statistics import Measured, unlearned, verdict

# What `json` holds of each training.
RUN = (
    *("network", "seed", "parameters", "best_epoch"),
    *("best_validation_accuracy", "test_accuracy", "seconds_per_epoch"),
    "file",
)


@dataclasses.dataclass(frozen=True)
class Row(Measured):
    """One network over all seeds, compared with the baseline.

    Attributes:
        values, test_accuracies: Tuple of numbers, what the study compares,
            one per seed.
        mean, test_accuracy: Number, their mean, or `None` if no training
            finished.
        deviation: Number, their standard deviation (n - 1), or `None` for
            one seed.
        difference: Number, the mean over the seeds of its value minus that
            of the baseline, or `None` for the baseline.
        interval: Tuple of two numbers, the 95 % confidence interval of the
            difference: Student's t over the seeds, and for `test_accuracy`
            not narrower than drawing the test images allows. Of a single
            seed it is from the images alone, and holds for this training
            only. `None` for the baseline, if all differences are equal, and
            for a single seed of another measure.
        pairs: Integer, over how many seeds the difference is.
        network, variant: String, the name of the variant.
        seeds: Tuple of integers, the seeds with which its training finished.
        parameters, macs: See `Outcome`.
        validation_accuracy: Number in [0, 1], the mean over the seeds of the
            best validation accuracy, or `None`.
        seconds_per_epoch: Number, the median over the seeds, or `None`.
        failures: Tuple of strings, how other trainings ended.
    """

    network: str = ""
    seeds: tuple[int, ...] = ()
    parameters: int | None = None
    macs: int | None = None
    validation_accuracy: float | None = None
    seconds_per_epoch: float | None = None
    failures: tuple[str, ...] = ()

    @property
    def variant(self) -> str:
        """The name of the variant."""
        return self.network

    @property
    def test_accuracies(self) -> tuple[float, ...]:
        """The values."""
        return self.values

    @property
    def test_accuracy(self) -> float | None:
        """The mean of the values."""
        return self.mean


@dataclasses.dataclass(frozen=True)
class Results(_terminal.Tabular):
    """Results of a study; prints as a table with a verdict.

    `to_dataframe()` has a row per variant: `variant`, `seeds` (how many),
    `mean`, `std` (n - 1), `difference` to the baseline paired by seed, `low`
    and `high` (its 95 % interval over two seeds or more), `parameters` and
    `macs`; `csv()` and `latex()` return it as text.

    Attributes:
        output: Path of the output folder.
        outcomes: Tuple of `Outcome`, one per variant and seed that has been
            trained, in the order of training.
        variants, seeds: Tuples of all variants (strings) and seeds.
        baseline: String, the variant that the others are compared with, or
            `None`.
        measure: String, the metric that is compared, as `"test_accuracy"`.
        measure_name: String, what sentences call it.
        data: String, the name of the dataset.
        sizes: Dictionary, the number of images by split.
        guess: Number in [0, 1], the test accuracy of guessing: the part of
            the commonest class of the test images or, where their labels are
            not known, of each of so many classes; `None` for other data.
        runs: List of the `Outcome` of all trainings that finished.
        rows: List of `Row`, one per variant.
        history: List of dictionaries, one per network and epoch: `seed` (if
            there are several), `network`, `epoch` (from 1), the metrics of
            the task, `seconds`.
        test_images: Integer, the number of test images.
        verdict: String, the differences in a sentence, or that no network
            has learned; empty without a baseline.
    """

    output: pathlib.Path
    outcomes: tuple[Outcome, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: str | None
    measure: str
    measure_name: str
    data: str
    sizes: dict[str, int]
    guess: float | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def read(cls, folder: str | os.PathLike) -> "Results":
        """Returns the results in an output folder, as far as there are any.

        Args:
            folder: Path of the output folder of a study, also of an earlier
                version.

        Raises:
            ValueError: If it holds none, or if they are damaged.
        """
        path = pathlib.Path(folder)
        try:
            return cls.of(path, read_content(path))
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
    ) -> "Results":
        """Returns the results of these variants and seeds, or of all."""
        variants = tuple(variants or content["settings"]["variants"])
        seeds = tuple(seeds or content["seeds"])
        cells = [Outcome(**cell) for cell in content["cells"]]
        known = {(cell.variant, cell.seed): cell for cell in cells}
        ordered = [(v, seed) for seed in seeds for v in variants]
        description = next(iter(content["settings"]["data"].values()))
        baseline, guess = content["baseline"], content.get("commonest")
        if guess is None and description.get("classes"):
            guess = 1 / description["classes"]
        return cls(
            output=path,
            outcomes=tuple(known[key] for key in ordered if key in known),
            variants=variants,
            seeds=seeds,
            baseline=baseline if baseline in variants else None,
            measure=content["measure"],
            measure_name=content["measure_name"],
            data=description["name"],
            sizes=description["sizes"],
            guess=guess,
        )

    @property
    def runs(self) -> list[Outcome]:
        """The outcomes of trainings that finished."""
        return [outcome for outcome in self.outcomes if outcome.finished]

    @property
    def rows(self) -> list[Row]:
        """A `Row` per variant, in the order of the study."""
        nothing = Measured((), None)
        measured, validation = self.compared(), self.compared("val_accuracy")
        rows = []
        for name in self.variants:
            outcomes = [o for o in self.outcomes if o.variant == name]
            finished = [o for o in outcomes if o.finished]
            each = [outcome.seconds_per_epoch for outcome in finished]
            seconds = [one for one in each if one is not None]
            first = next(iter([*finished, *outcomes]), None)
            rows.append(
                Row(
                    **vars(measured.get(name, nothing)),
                    network=name,
                    seeds=tuple(outcome.seed for outcome in finished),
                    parameters=first.parameters if first else None,
                    macs=first.macs if first else None,
                    validation_accuracy=validation.get(name, nothing).mean,
                    seconds_per_epoch=(
                        statistics.median(seconds) if seconds else None
                    ),
                    failures=tuple(
                        f"seed {o.seed}: {o.status} ({o.message})"
                        for o in outcomes
                        if not o.finished
                    ),
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
        """The number of test images."""
        return self.sizes["test"]

    @property
    def verdict(self) -> str:
        """The differences in a sentence."""
        return self.judged()

    def judged(self, digits: int = 2) -> str:
        """Returns the verdict, with so many digits of percents."""
        if self.baseline is None:
            return ""
        return self.unlearned() or verdict(
            self.compared(), self.baseline, self.measure_name, digits
        )

    def unlearned(self) -> str:
        """Returns a sentence if no network has learned, or nothing."""
        if self.measure != "test_accuracy" or self.guess is None:
            return ""
        accuracies = [
            accuracy
            for variant in self.variants
            for accuracy in self.values(variant, self.measure).values()
        ]
        return unlearned(accuracies, self.guess, self.test_images)

    def values(self, variant: str | None, measure: str) -> dict[int, float]:
        """Returns a metric of a variant by seed, where it was measured."""
        return {
            outcome.seed: value
            for outcome in self.runs
            if outcome.variant == variant
            and (value := outcome.metrics.get(measure)) is not None
        }

    def compared(self, measure: str | None = None) -> dict[str, Measured]:
        """Returns a metric over the seeds, for each variant that has it."""
        measure = measure or self.measure
        baseline = self.values(self.baseline, measure)
        # Other measures are no fractions of the images.
        images = self.sizes.get("test") if measure == "test_accuracy" else None
        compared = {}
        for name in self.variants:
            values = self.values(name, measure)
            shared = [seed for seed in values if seed in baseline]
            differences = [values[seed] - baseline[seed] for seed in shared]
            if name == self.baseline:
                differences = []
            if values:
                compared[name] = Measured.of(
                    list(values.values()), differences, images
                )
        return compared

    def plot(self) -> "plotting.style.Figure":
        """Returns a matplotlib figure of means, seeds and intervals."""
        rows = [row for row in self.rows if row.values]
        names = [row.network for row in rows]
        figure = plotting.new_figure(8, 1.2 + 0.5 * len(rows), self.data)
        axes = figure.subplots()
        plotting.style_axes(axes, "x")
        styles = plotting.styles_of(names)
        means = [100 * statistics.fmean(row.values) for row in rows]
        if self.baseline in names:
            # Where an interval does not touch this line, it excludes zero.
            start = means[names.index(self.baseline)]
            axes.axvline(start, c="0.35", ls="--", lw=1)
        for place, row in enumerate(rows):
            accuracies = [100 * value for value in row.values]
            color = styles[row.network]["color"]
            axes.plot(accuracies, [place + 0.2] * len(accuracies), ".", c=color)
            axes.plot(means[place], place, "o", c=color)
            if row.interval is not None:
                ends = [start + 100 * end for end in row.interval]
                axes.plot(ends, [place, place], "k|-")
        axes.set_yticks(range(len(rows)), names, parse_math=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        alone = max((row.pairs for row in rows), default=0) == 1
        axes.set_xlabel(
            f"{self.measure_name} (%): mean, seeds, and 95 % interval of the "
            f"difference{' (test images alone)' if alone else ''}",
            parse_math=False,
        )
        return figure

    def json(self) -> str:
        """Returns the results as a JSON object."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        if self.measure == "test_accuracy":
            for row in rows:
                row["test_accuracies"] = row["values"]
                row["test_accuracy"] = row["mean"]
        return json.dumps(
            {
                "data": self.data,
                "seeds": self.seeds,
                "test_images": self.sizes.get("test"),
                "rows": rows,
                "verdict": self.verdict,
                "runs": [
                    {name: getattr(run, name) for name in RUN}
                    for run in self.runs
                ],
                "output": str(self.output),
            },
            indent=1,
        )

    def _records(self):
        records = []
        for row in self.rows:
            # That of a single seed lacks the variation between seeds.
            ends = row.interval if row.pairs > 1 else None
            low, high = ends or (None, None)
            records.append(
                {
                    "variant": row.network,
                    "seeds": len(row.seeds),
                    "mean": row.mean,
                    "std": row.deviation,
                    "difference": row.difference,
                    "low": low,
                    "high": high,
                    "parameters": row.parameters,
                    "macs": row.macs,
                }
            )
        return records

    def table(
        self, digits: int = 2, further: Mapping[str, str] | None = None
    ) -> list[dict[str, str]]:
        """Returns a row of text per network, by heading."""
        baseline = f' to "{self.baseline}"' if self.baseline else ""
        measures = {
            heading: compared
            for key, heading in (further or {}).items()
            if (compared := self.compared(key))
        }
        table = []
        for row in self.rows:
            cells = {
                "network": row.network,
                "parameters": f"{row.parameters:,}" if row.parameters else "",
                f"{self.measure_name} (%)": row.mean_cell(digits)
                or "; ".join(row.failures),
                f"difference{baseline}": row.difference_cell(digits),
            }
            for heading, compared in measures.items():
                measured = compared.get(row.network)
                cells[heading] = measured.mean_cell(digits) if measured else ""
            seconds = row.seconds_per_epoch
            cells["s / epoch"] = f"{seconds:.1f}" if seconds else ""
            table.append(cells)
        return table

    def _tables(self):
        several = len(self.seeds) > 1
        seeds = f", {len(self.seeds)} seeds" if several else ""
        title = f"Results in {self.output}{seeds}"
        return [_terminal.Table(title, self.table())]
