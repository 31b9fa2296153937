"""The paper's comparisons on your own data, over several seeds.

`ABLATIONS` holds the networks, the rows of the paper's Tables 1 to 4 in
`cbam_keras.presets`, and `TABLES` says which table shows which. All spatial
gates are the authors' variant, `VARIANTS["official"]`.
"""

import dataclasses
import functools
import itertools
import json
import numbers
import os
import pathlib
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import numpy as np

from cbam_keras import (
    _checks,
    _files,
    _terminal,
    comparison,
    plotting,
    presets,
    study,
)
from cbam_keras._checks import Options
from cbam_keras.data import Images
from cbam_keras.layers import ATTENTION
from cbam_keras.recipes import Recipe, find_recipe

__all__ = [
    "ABLATIONS",
    "TABLES",
    "AblationResults",
    "AblationRow",
    "plan",
    "run",
]

# The paper's Table 2 adds spatial gates to the last channel gate of Table 1,
# which therefore comes first, as the baseline.
TABLES: dict[int, tuple[str, ...]] = {
    1: ("none", "se", "channel-max", "channel-avg-max"),
    2: (
        *("channel-avg-max", "spatial-conv-3", "spatial-conv-7"),
        *("spatial-avg-max-3", "cbam"),
    ),
    3: ("se", "cbam", "spatial-first", "parallel"),
    4: ("none", "se", "cbam"),
}
TITLES = {
    1: "channel attention",
    2: "spatial attention after channel attention",
    3: "arrangement of the two gates",
    4: "no attention, SE and CBAM",
}
ABLATIONS: dict[str, presets.Preset] = {
    name: presets.ABLATIONS[f"resnet50-{name}".removesuffix("-none")]
    for names in TABLES.values()
    for name in names
}
# The fraction of intervals that exclude zero by chance.
BY_CHANCE = 1 - study.CONFIDENCE
# Verdicts of too few seeds, by their number.
TOO_FEW = {
    1: "One seed gives no estimate of the variation between seeds: the "
    "intervals are from the test images alone, and hold for these trainings "
    "only. Several seeds (--seeds 3) give intervals that include it.",
    2: "Two seeds are too few to tell a difference from chance.",
}


@dataclasses.dataclass(frozen=True)
class AblationRow:
    """One network in one table of an ablation.

    Attributes:
        table: Integer, the number of the table in the paper.
        network: String, the network that carries the attention.
        attention: String, the attention as the paper's table names it.
        parameters: Integer, its trainable parameters, or `None`.
        macs: Integer, its multiply-accumulates for one image, or `None`.
        top1_errors: Tuple of numbers, the top-1 error on the test images in
            %, one per seed; empty for a baseline that lacks a seed.
        top1_error, top1_deviation: Numbers, their mean and standard
            deviation (n - 1), which is `None` for one seed.
        difference: Number in %, the mean over the seeds of its error minus
            that of the table's first row; `None` in that row, and if that
            row has no error.
        interval: Tuple of two numbers, the 95 % confidence interval of the
            difference, see `study.Row`; `None` in the first row.
        top5_errors, top5_error, top5_deviation: Likewise, or `None` for data
            of up to ten classes.
        seconds_per_epoch: Number, the median over the seeds, or `None`.
    """

    table: int
    network: str
    attention: str
    parameters: int | None
    macs: int | None
    top1_errors: tuple[float, ...]
    top1_error: float | None
    top1_deviation: float | None
    difference: float | None
    interval: tuple[float, float] | None
    top5_errors: tuple[float, ...] | None
    top5_error: float | None
    top5_deviation: float | None
    seconds_per_epoch: float | None


@dataclasses.dataclass(frozen=True)
class AblationResults(_terminal.Tabular):
    """Results of an ablation; prints as the paper's tables.

    `markdown()`, `csv()` and `json()` return them as text. `to_dataframe()` has
    a row per network and table: the attributes of `AblationRow`, the interval
    as `interval_low` and `interval_high`, and a column for each seed.

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
        seeds = f"{len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"
        return f"{self.rows[0].network} on {self.data}, {seeds}"

    @property
    def verdict(self) -> str:
        """The differences in a sentence or two."""
        # Some are in two tables.
        compared = {
            (row.attention, rows[0].attention): row
            for rows in self._by_table()
            for row in rows
            if row.difference is not None
        }.values()
        if not compared:
            return (
                "No differences: the first row of a table and another are "
                "needed with every seed."
            )
        if unlearned := self.details.unlearned():
            return unlearned
        if len(self.seeds) in TOO_FEW:
            return TOO_FEW[len(self.seeds)]
        clear = [
            f'"{row.attention}" ({"lower" if row.difference < 0 else "higher"} '
            "error)"
            for row in compared
            if row.interval and not row.interval[0] <= 0 <= row.interval[1]
        ]
        listed = f": {', '.join(dict.fromkeys(clear))}" if clear else ""
        return (
            f"{len(clear)} of {len(compared)} differences to the first row of "
            f"a table exclude zero over {len(self.seeds)} seeds{listed}. By "
            f"chance alone about {len(compared) * BY_CHANCE:.1f} would."
        )

    def __str__(self) -> str:
        return f"{super().__str__()}\n\nAll files are in {self.output}"

    def markdown(self) -> str:
        """Returns the tables in Markdown."""
        tables = [table.markdown() for table in self.tables()]
        return "\n\n".join([*tables, self.verdict])

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

    def tables(self) -> Iterator[_terminal.Table]:
        """Yields the tables of text that are printed."""
        for rows in self._by_table():
            table = rows[0].table
            yield _terminal.Table(
                f"Table {table}: {TITLES[table]}, {self.title}",
                [_cells(row) for row in rows],
                note="Mean and standard deviation over the seeds of the error "
                f"on the same {self.test_images:,} test images; differences to "
                f'"{rows[0].attention}", paired by seed.',
            )

    _tables = tables

    def _records(self):
        records = []
        for row in self.rows:
            record = dict(vars(row))
            low, high = record.pop("interval") or (None, None)
            record |= {"interval_low": low, "interval_high": high}
            for key in ("top1_error", "top5_error"):
                names = (f"{key}_seed_{seed}" for seed in self.seeds)
                errors = record.pop(f"{key}s") or ()
                record |= dict(zip(names, errors, strict=False))
            records.append(record)
        return records

    def _by_table(self):
        tables = itertools.groupby(self.rows, lambda row: row.table)
        return [list(rows) for _, rows in tables]


def _cells(row):
    """Returns the cells of a row, by heading."""
    difference = "" if row.difference is None else f"{row.difference:+.2f}"
    if row.interval is not None:
        low, high = row.interval
        difference += f" [{low:+.2f}, {high:+.2f}]"
    cells = {
        "description": row.attention,
        "parameters (M)": _text("{:#.4g}", row.parameters, 1e-6),
        "GMACs": _text("{:#.4g}", row.macs, 1e-9),
        "top-1 error (%)": _spread(row.top1_error, row.top1_deviation),
        "difference (95 %)": difference,
    }
    if row.top5_error is not None:
        cells["top-5 error (%)"] = _spread(row.top5_error, row.top5_deviation)
    return {**cells, "s / epoch": _text("{:.1f}", row.seconds_per_epoch)}


def _text(form, value, factor=1):
    return "" if value is None else form.format(factor * value)


def _spread(mean, deviation):
    if deviation is None:
        return _text("{:.2f}", mean)
    return f"{mean:.2f} \N{PLUS-MINUS SIGN} {deviation:.2f}"


class _TopFive(study.Classification):
    """Classification, measured by its top-5 accuracy too."""

    def evaluate(self, model, data):
        measured = super().evaluate(model, data)
        # With ten classes, it is right by chance half of the time.
        if len(data.class_names) > 10:
            measured["top5_accuracy"] = _top5_accuracy(model, data.test)
        return measured


def _top5_accuracy(model, test):
    """Returns the fraction of test images with the class in the top 5."""
    hits = []
    # A `for` over a PyDataset would not end.
    for index in range(len(test)):
        images, labels, *_ = test[index]
        scores = np.asarray(model.predict_on_batch(np.asarray(images)))
        # The first of equal scores counts, as in top-1.
        first = np.argsort(-scores, axis=-1, kind="stable")[:, :5]
        hits += (first == np.asarray(labels)[:, None]).any(axis=-1).tolist()
    return statistics.fmean(hits)


@_checks.former_names(images="data")
def plan(
    data: Images = "crowded_mnist",
    *,
    model: comparison.Network = "tiny",
    tables: Sequence[int] = (1, 2, 3, 4),
    seeds: int | Sequence[int] = 3,
    recipe: Recipe | str | None = None,
    identity_init: bool = True,
    data_options: Options | None = None,
) -> study.Study:
    """Plans the comparisons of the paper's Tables 1 to 4 on any dataset.

    Table 1 compares the pooling of the channel gate, Table 2 spatial gates
    after it, Table 3 the arrangement of the two, and Table 4 no attention, SE
    and CBAM. Each of the 10 networks is trained once per seed, however many
    tables show it.

    Args:
        data: See `comparison.plan`. Defaults to `"crowded_mnist"`.
        model: String, a network of `comparison.plan`; or a function that
            takes `attention`, as the builders of `cbam_keras.models` do, and
            returns a classifier of the images. Defaults to `"tiny"`.
        tables: Sequence of integers from 1 to 4. Defaults to `(1, 2, 3, 4)`.
        seeds: See `comparison.plan`. Defaults to `3`.
        recipe: See `comparison.plan`. Defaults to `None`.
        identity_init: Boolean, whether all attention layers start as
            `VARIANTS["recommended"]` does, as those of `comparison.plan` do.
            `False` is the start of the paper. Defaults to `True`.
        data_options: See `comparison.plan`. Defaults to `None`.

    Returns:
        A `study.Study`, for `study.run` and `study.estimate`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of a wrong kind.
        ImportError: If a package for the data or the figure is missing.
    """
    # Needed only at the end, but checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    _checks.boolean("identity_init", identity_init)
    build, label = comparison.network_of(model)
    tables = _in_order(tables)
    recipe = find_recipe(recipe, comparison.default_recipe(model))
    task = _TopFive(data, **(data_options or {}))
    shared = comparison.model_options(model)
    variants = []
    for name in dict.fromkeys(name for t in tables for name in TABLES[t]):
        preset, attention, options = ABLATIONS[name], None, {}
        if preset.layer is not None:
            options = {
                **comparison.start_options(preset.layer, identity_init),
                **shared,
                **preset.layer_options,
            }
            attention = functools.partial(ATTENTION[preset.layer], **options)
        built = functools.partial(build, attention=attention)
        variants.append(study.Variant(name, built, options))
    return study.Study(
        task=task,
        variants=variants,
        seeds=comparison.seeds_of(seeds, recipe, task),
        recipe=recipe,
        settings={"model": label, "identity_init": identity_init},
        kind="ablate",
        finish=functools.partial(_finish, tables=tables, network=label),
    )


@_checks.former_names(images="data")
def run(
    data: Images = "crowded_mnist",
    *,
    model: comparison.Network = "tiny",
    tables: Sequence[int] = (1, 2, 3, 4),
    seeds: int | Sequence[int] = 3,
    recipe: Recipe | str | None = None,
    identity_init: bool = True,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
    workers: int = 1,
    executor: Executor | None = None,
    tensorboard: bool = False,
    data_options: Options | None = None,
) -> AblationResults:
    """Runs the comparisons of the paper's Tables 1 to 4 on any dataset.

    What `cbam-keras ablate` runs: `study.run(plan(...), output)`. The output
    folder gets what `study.run` writes, and `tables.md`, `tables.csv` and
    `ablation.png`. The same call given again resumes, or trains what is
    missing.

    Args:
        data: See `plan`. Defaults to `"crowded_mnist"`.
        model: See `plan`. Defaults to `"tiny"`.
        tables: See `plan`. Defaults to `(1, 2, 3, 4)`.
        seeds: See `plan`. Defaults to `3`.
        recipe: See `plan`. Defaults to `None`.
        identity_init: See `plan`. Defaults to `True`.
        output: Path of a folder. Defaults to `None`, which means
            `runs/ablate-<data>-<model>`.
        resume: See `study.run`. Defaults to `True`.
        overwrite: See `study.run`. Defaults to `False`.
        workers: See `study.run`. Defaults to `1`.
        executor: See `study.run`. Defaults to `None`.
        tensorboard: See `study.run`. Defaults to `False`.
        data_options: See `plan`. Defaults to `None`.

    Returns:
        An `AblationResults`.

    Raises:
        ValueError: If an argument is out of range, see `plan`, `study.run`.
        TypeError: If an argument is of a wrong kind.
        ImportError: If a package is missing.

    Example:
        >>> from cbam_keras import ablation
        >>> ablation.TABLES[4]
        ('none', 'se', 'cbam')
        >>> ablation.ABLATIONS["parallel"].attention
        'channel & spatial in parallel'

    Reference:
        Woo, Park, Lee and Kweon, 2018, Tables 1 to 4
        (https://arxiv.org/abs/1807.06521).
    """
    planned = plan(
        data,
        model=model,
        tables=tables,
        seeds=seeds,
        recipe=recipe,
        identity_init=identity_init,
        data_options=data_options,
    )
    results = study.run(
        planned,
        output,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        executor=executor,
        tensorboard=tensorboard,
    )
    return results_of(
        results, _in_order(tables), str(planned.settings["model"])
    )


def estimate(*arguments, workers: int = 1, **options) -> study.Estimate:
    """Estimates how long `run` takes, by the arguments of `plan`."""
    return study.estimate(plan(*arguments, **options), workers=workers)


def _in_order(tables):
    """Returns the numbers of tables, checked, in the order of the paper."""
    chosen = [tables] if isinstance(tables, numbers.Integral) else tables
    return sorted(_checks.subset("tables", chosen, TABLES))


def _finish(results, folder, tables, network):
    """Writes the tables and the figure."""
    ablation = results_of(results, tables, network)
    folder.add(verdict=results.verdict, tables=tables)
    if not ablation.rows:
        return
    texts = {"tables.md": ablation.markdown(), "tables.csv": ablation.csv()}
    for name, text in texts.items():
        with _files.replacing(folder.path / name) as beside:
            beside.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    figure = plotting.plot_ablation(ablation, ablation.title)
    _files.write_figure(folder.path / "ablation.png", figure)


def results_of(
    results: study.Results, tables: Sequence[int], network: str
) -> AblationResults:
    """Returns the tables of a study, by the name of the network."""
    return AblationResults(
        rows=[
            row for table in tables for row in _rows(results, table, network)
        ],
        data=results.data,
        seeds=results.seeds,
        test_images=results.test_images,
        output=results.output,
        details=results,
    )


def _rows(results, table, network):
    """Yields the rows of a table; without networks that lack a seed.

    The first is the baseline, without errors if it lacks one.
    """
    by_name = {row.network: row for row in results.rows}
    complete = [
        name
        for name in TABLES[table]
        if len(by_name[name].seeds) == len(results.seeds)
    ]
    first = TABLES[table][0]
    baseline = _errors(results, first, "test_accuracy")
    for name in dict.fromkeys([first, *complete]) if complete else ():
        row, differences = by_name[name], None
        errors, others = study.Measured((), None), None
        if name in complete:
            top1 = _errors(results, name, "test_accuracy")
            top5 = _errors(results, name, "top5_accuracy")
            if name != first and first in complete:
                pairs = zip(top1, baseline, strict=True)
                differences = [error - other for error, other in pairs]
            images = results.test_images
            errors = study.Measured.of(top1, differences, images, unit=100)
            others = study.Measured.of(top5, None) if top5 else None
        yield AblationRow(
            table=table,
            network=network,
            attention=ABLATIONS[name].attention or "none",
            parameters=row.parameters,
            macs=row.macs,
            top1_errors=errors.values,
            top1_error=errors.mean,
            top1_deviation=errors.deviation,
            difference=errors.difference,
            interval=errors.interval,
            top5_errors=others and others.values,
            top5_error=others and others.mean,
            top5_deviation=others and others.deviation,
            seconds_per_epoch=row.seconds_per_epoch,
        )


def _errors(results, name, metric):
    """Returns the error of a network in %, one per seed."""
    images = results.test_images
    return [
        100 * (images - round(accuracy * images)) / images
        for accuracy in results.values(name, metric).values()
    ]
