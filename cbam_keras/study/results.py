"""`Results`: what a study measured, as rows, a table and a verdict."""

import dataclasses
import json
import os
import pathlib
import statistics
import textwrap
from collections.abc import Sequence
from typing import Any

from cbam_keras import _terminal
from cbam_keras._run_folder import RESULTS, folder_path
from cbam_keras.study.cell import Outcome
from cbam_keras.study.folder import history_rows
from cbam_keras.study.legacy import read_content
from cbam_keras.study.statistics import Measured, verdict


@dataclasses.dataclass(frozen=True)
class Row:
    """One variant over all seeds.

    Attributes:
        variant: String, its name.
        seeds: Tuple of integers, the seeds with which its training finished.
        measured: A `Measured`: what the study compares, over these seeds,
            and its difference to the baseline. `None` without seeds.
        parameters: Integer, its trainable parameters, or `None`.
        macs: Integer, its multiply-accumulates for one image, or `None`.
        seconds_per_epoch: Number, the median over the seeds, or `None`.
        failures: Tuple of strings, how the trainings ended that did not
            finish.
    """

    variant: str
    seeds: tuple[int, ...]
    measured: Measured | None
    parameters: int | None
    macs: int | None
    seconds_per_epoch: float | None
    failures: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        """Returns the row of a table."""
        measured = "; ".join(self.failures)
        if self.measured is not None:
            measured = self.measured.mean_cell()
        seconds = self.seconds_per_epoch
        return (
            self.variant,
            "" if self.parameters is None else f"{self.parameters:,}",
            measured,
            self.measured.difference_cell() if self.measured else "",
            "" if seconds is None else f"{seconds:.1f}",
        )


@dataclasses.dataclass(frozen=True)
class Results(_terminal.Tabular):
    """Results of a study; prints as a table with a verdict.

    `to_dataframe()` has a row per variant: `variant`, `seeds` (how many),
    `mean`, `std` (n - 1), `difference` to the baseline paired by seed, `low`
    and `high` (its 95 % interval), `parameters` and `macs`.

    Attributes:
        output: Path of the output folder.
        outcomes: Tuple of `Outcome`, one per variant and seed that has been
            trained, in the order of training.
        variants: Tuple of strings, all variants of the study.
        seeds: Tuple of integers, all its seeds.
        baseline: String, the variant that the others are compared with, or
            `None`.
        measure: String, the metric that is compared, as `"test_accuracy"`.
        measure_name: String, what sentences call it.
        data: String, the name of the dataset.
        sizes: Dictionary, the number of images by split.
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

    @classmethod
    def read(cls, folder: str | os.PathLike) -> "Results":
        """Returns the results in an output folder, as far as there are any.

        Args:
            folder: Path of the output folder of a study, also of an earlier
                version.

        Raises:
            ValueError: If it holds none, or if they are damaged.
        """
        path = folder_path(folder)
        try:
            return cls.of(path, read_content(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                "`folder` must be the output folder of a study. Received: "
                f'folder="{path}", whose {RESULTS} cannot be read '
                f"({type(error).__name__}: {error})"
            ) from error

    @classmethod
    def of(
        cls,
        path: pathlib.Path,
        content: dict[str, Any],
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> "Results":
        """Returns the results of these variants and seeds, or of all.

        `content` is what `results.json` holds in the folder `path`.
        """
        variants = tuple(variants or content["settings"]["variants"])
        seeds = tuple(seeds or content["seeds"])
        cells = [Outcome(**cell) for cell in content["cells"]]
        known = {(cell.variant, cell.seed): cell for cell in cells}
        ordered = [(v, seed) for seed in seeds for v in variants]
        description = next(iter(content["settings"]["data"].values()))
        baseline = content["baseline"]
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
        )

    @property
    def finished(self) -> tuple[Outcome, ...]:
        """The outcomes of trainings that finished."""
        return tuple(o for o in self.outcomes if o.finished)

    @property
    def rows(self) -> list[Row]:
        """A `Row` per variant, in the order of the study."""
        measured = self.compared()
        return [self._row(name, measured.get(name)) for name in self.variants]

    @property
    def history(self) -> list[dict[str, Any]]:
        """A dictionary per network and epoch: `network`, `epoch`, ..."""
        return history_rows(self.outcomes, len(self.seeds) > 1)

    @property
    def verdict(self) -> str:
        """The differences in a sentence."""
        if self.baseline is None:
            return "No baseline, so no differences."
        return verdict(self.compared(), self.baseline, self.measure_name)

    def values(self, variant: str | None, measure: str) -> dict[int, float]:
        """Returns a metric of a variant by seed, where it was measured."""
        return {
            outcome.seed: outcome.metrics[measure]
            for outcome in self.finished
            if outcome.variant == variant
            and outcome.metrics.get(measure) is not None
        }

    def compared(self, measure: str | None = None) -> dict[str, Measured]:
        """Returns a metric over the seeds, for each variant that has it.

        Args:
            measure: String, a key of the metrics. Defaults to `None`, which
                means that of the study.
        """
        measure = measure or self.measure
        baseline = self.values(self.baseline, measure)
        compared = {}
        for name in self.variants:
            values = self.values(name, measure)
            shared = [seed for seed in values if seed in baseline]
            differences = [values[seed] - baseline[seed] for seed in shared]
            if values:
                compared[name] = Measured.of(
                    list(values.values()),
                    None if name == self.baseline else differences,
                )
        return compared

    def json(self) -> str:
        """Returns the results as a JSON object."""
        return json.dumps(
            {
                "data": self.data,
                "seeds": self.seeds,
                "rows": [dataclasses.asdict(row) for row in self.rows],
                "verdict": self.verdict,
                "output": str(self.output),
            },
            indent=1,
        )

    def __str__(self) -> str:
        tables = (
            _terminal.render(columns, sections, title=title)
            for columns, sections, title in self._tables()
        )
        return "\n\n".join([*tables, textwrap.fill(self.verdict, 100)])

    def _row(self, name, measured):
        outcomes = [o for o in self.outcomes if o.variant == name]
        finished = [o for o in outcomes if o.finished]
        first = (finished or outcomes or [None])[0]
        seconds = [o.seconds_per_epoch for o in finished]
        return Row(
            variant=name,
            seeds=tuple(outcome.seed for outcome in finished),
            measured=measured,
            parameters=first and first.parameters,
            macs=first and first.macs,
            seconds_per_epoch=statistics.median(seconds) if seconds else None,
            failures=tuple(
                f"seed {o.seed}: {o.status} ({o.message})"
                for o in outcomes
                if not o.finished
            ),
        )

    def _records(self):
        records = []
        for row in self.rows:
            measured = row.measured
            low, high = (measured and measured.interval) or (None, None)
            records.append(
                {
                    "variant": row.variant,
                    "seeds": len(row.seeds),
                    "mean": measured and measured.mean,
                    "std": measured and measured.deviation,
                    "difference": measured and measured.difference,
                    "low": low,
                    "high": high,
                    "parameters": row.parameters,
                    "macs": row.macs,
                }
            )
        return records

    def _tables(self):
        baseline = f' to "{self.baseline}"' if self.baseline else ""
        columns = {
            "network": "left",
            "parameters": "right",
            f"{self.measure_name} (%)": "right",
            f"difference{baseline}": "right",
            "s / epoch": "right",
        }
        title = f"Results in {self.output}"
        if len(self.seeds) > 1:
            title += f", {len(self.seeds)} seeds"
        yield columns, [[row.cells() for row in self.rows]], title
