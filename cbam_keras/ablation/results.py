"""Results of an ablation: rows, and tables of them in several formats."""

import csv
import dataclasses
import io
import json
import pathlib
import textwrap
from collections.abc import Iterator
from typing import Any

from cbam_keras import _terminal, study

# The fraction of intervals that exclude zero by chance.
BY_CHANCE = 1 - study.CONFIDENCE

TITLES = {
    1: "channel attention",
    2: "spatial attention after channel attention",
    3: "arrangement of the two gates",
    4: "no attention, SE and CBAM",
}


@dataclasses.dataclass(frozen=True)
class AblationRow:
    """One network in one table of an ablation.

    Attributes:
        table: Integer, the number of the table in the paper.
        network: String, the network that carries the attention.
        attention: String, the attention as the paper's table names it.
        parameters: Integer, its trainable parameters.
        macs: Integer, its multiply-accumulates for one image.
        top1_errors: Tuple of numbers, the top-1 error on the test images in
            %, one per seed.
        top1_error: Number, their mean.
        top1_deviation: Number, their standard deviation (n - 1), or `None`
            for one seed.
        difference: Number in %, the mean over the seeds of its error minus
            that of the table's first row, or `None` in that row.
        interval: Tuple of two numbers, the 95 % confidence interval of the
            difference (Student's t over the seeds), or `None` in the first
            row and for one seed.
        top5_errors: Tuple of numbers likewise, or `None` for data of up to
            ten classes.
        top5_error: Number, their mean, or `None`.
        top5_deviation: Number, their standard deviation, or `None`.
        seconds_per_epoch: Number, the median over the seeds.
    """

    table: int
    network: str
    attention: str
    parameters: int
    macs: int
    top1_errors: tuple[float, ...]
    top1_error: float
    top1_deviation: float | None
    difference: float | None
    interval: tuple[float, float] | None
    top5_errors: tuple[float, ...] | None
    top5_error: float | None
    top5_deviation: float | None
    seconds_per_epoch: float


@dataclasses.dataclass(frozen=True)
class AblationResults(_terminal.Tabular):
    """Results of an ablation; prints as the paper's tables.

    `markdown()`, `csv()` and `json()` return them as text, `to_dataframe()` a
    row per network, table and seed, with the errors of that seed in %.

    Attributes:
        rows: List of `AblationRow`, by table; the first of each table is its
            baseline.
        data: String, the name of the dataset.
        seeds: Tuple of integers, in the order of `top1_errors`.
        test_images: Integer, the number of test images.
        output: Path of the output folder.
        details: The `study.Results`, with all outcomes.
    """

    rows: list[AblationRow]
    data: str
    seeds: tuple[int, ...]
    test_images: int
    output: pathlib.Path
    details: study.Results = dataclasses.field(repr=False)

    @property
    def title(self) -> str:
        """The network, the data and the seeds in words."""
        many = len(self.seeds)
        return (
            f"{self.rows[0].network} on {self.data}, "
            f"{many} seed{'s' if many > 1 else ''}"
        )

    def __str__(self) -> str:
        parts = [
            f"{title}\n\n{_terminal.render(columns, [cells])}\n\n"
            f"{textwrap.fill(note, 100)}"
            for title, columns, cells, note in self.tables()
        ]
        return "\n\n".join([*parts, f"All files are in {self.output}"])

    def markdown(self) -> str:
        """Returns the tables in Markdown."""
        return "\n\n".join(
            f"**{title}**\n\n"
            f"{_terminal.render(columns, [cells], markdown=True)}\n\n{note}"
            for title, columns, cells, note in self.tables()
        )

    def csv(self) -> str:
        """Returns the rows as CSV, with the error of each seed."""
        rows: list[dict[str, Any]] = []
        for row in self.rows:
            values = dataclasses.asdict(row)
            low, high = values.pop("interval") or (None, None)
            rows.append({})
            for key, value in values.items():
                if key.endswith("_errors"):
                    for seed, error in zip(
                        self.seeds, value or (), strict=value is not None
                    ):
                        name = key.removesuffix("s")
                        rows[-1][f"{name}_seed_{seed}"] = error
                else:
                    rows[-1][key] = value
                if key == "difference":
                    rows[-1].update(interval_low=low, interval_high=high)
        with io.StringIO(newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            return file.getvalue()

    def json(self) -> str:
        """Returns everything as a JSON object."""
        return json.dumps(
            {
                "data": self.data,
                "seeds": self.seeds,
                "test_images": self.test_images,
                "rows": [dataclasses.asdict(row) for row in self.rows],
            },
            indent=1,
        )

    def _records(self):
        return [
            {
                "table": row.table,
                "network": row.network,
                "attention": row.attention,
                "seed": seed,
                "parameters": row.parameters,
                "macs": row.macs,
                "top1_error": row.top1_errors[number],
                "top5_error": row.top5_errors and row.top5_errors[number],
                "seconds_per_epoch": row.seconds_per_epoch,
            }
            for row in self.rows
            for number, seed in enumerate(self.seeds)
        ]

    def _tables(self):
        for title, columns, cells, _ in self.tables():
            yield columns, [cells], title

    def tables(self) -> Iterator[tuple]:
        """Yields title, columns, cells and note of each table."""
        top5 = self.rows[0].top5_error is not None
        columns = {
            "description": "left",
            "parameters (M)": "right",
            "GMACs": "right",
            "top-1 error (%)": "right",
            "difference (95 %)": "right",
            **({"top-5 error (%)": "right"} if top5 else {}),
            "s / epoch": "right",
        }
        comparisons = len(self._comparisons())
        for table, rows in self._by_table().items():
            cells = [
                (
                    row.attention,
                    f"{row.parameters / 1e6:#.4g}",
                    f"{row.macs / 1e9:#.4g}",
                    _spread(row.top1_error, row.top1_deviation),
                    _difference(row),
                    *(
                        [_spread(row.top5_error, row.top5_deviation)]
                        if top5
                        else []
                    ),
                    f"{row.seconds_per_epoch:.1f}",
                )
                for row in rows
            ]
            title = f"Table {table}: {TITLES[table]}, {self.title}"
            yield title, columns, cells, self._note(rows, comparisons)

    @property
    def verdict(self) -> str:
        """What the differences say, in a sentence or two."""
        if len(self.seeds) == 1:
            return (
                "One seed gives no interval: how much of a difference is "
                "chance is not known. Several seeds (--seeds 3) give one."
            )
        many = len(self._comparisons())
        # Some are in two tables.
        clear = {
            (text, rows[0].attention)
            for rows in self._by_table().values()
            for text in _clear(rows)
        }
        listed = ", ".join(sorted({text for text, _ in clear}))
        return (
            f"{len(clear)} of {many} differences to the first row of a table "
            f"exclude zero over {len(self.seeds)} seeds"
            + (f": {listed}. " if clear else ". ")
            + f"By chance alone about {many * BY_CHANCE:.1f} would."
        )

    def _by_table(self):
        tables: dict[int, list[AblationRow]] = {}
        for row in self.rows:
            tables.setdefault(row.table, []).append(row)
        return tables

    def _comparisons(self):
        """Returns the different comparisons; some are in two tables."""
        return {
            (row.attention, rows[0].attention)
            for rows in self._by_table().values()
            for row in rows[1:]
        }

    def _note(self, rows, comparisons):
        """Returns the note below a table: what its numbers mean."""
        first = rows[0].attention
        text = (
            f"Mean and standard deviation over the seeds of the error on the "
            f"same {self.test_images:,} test images; differences to "
            f'"{first}", paired by seed. '
        )
        if len(self.seeds) == 1:
            return text + (
                "One seed gives no interval: how much of a difference is "
                "chance is not known."
            )
        clear = _clear(rows)
        found = (
            f"{len(clear)} of {len(rows) - 1} intervals over "
            f"{len(self.seeds)} seeds exclude zero"
            + (f": {', '.join(clear)}. " if clear else ". ")
        )
        return (
            text
            + found
            + "By chance alone one in 20 does, of the "
            + f"{comparisons} different comparisons in all tables about "
            + f"{comparisons * BY_CHANCE:.1f}. Other test images are "
            + "not accounted for."
        )


def _clear(rows):
    """Returns the rows whose interval excludes zero, in words."""
    return [
        f'"{row.attention}" ({word})'
        for row in rows
        if row.interval is not None
        for word, found in (
            ("lower error", row.interval[1] < 0),
            ("higher error", row.interval[0] > 0),
        )
        if found
    ]


def _spread(mean, deviation):
    if deviation is None:
        return f"{mean:.2f}"
    return f"{mean:.2f} \N{PLUS-MINUS SIGN} {deviation:.2f}"


def _difference(row):
    if row.difference is None:
        return ""
    if row.interval is None:
        return f"{row.difference:+.2f}"
    low, high = row.interval
    return f"{row.difference:+.2f} [{low:+.2f}, {high:+.2f}]"
