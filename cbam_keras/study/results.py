"""`Results`: rows as tables, data frame, JSON and figure, and a verdict."""

import dataclasses
import json
import os
import pathlib
import statistics

from cbam_keras import _terminal, plotting
from cbam_keras._terminal import number_cell
from cbam_keras.study.checkpoints import DAMAGE
from cbam_keras.study.content import RESULTS, read_content
from cbam_keras.study.outcomes import NOTHING, Outcomes

# What `json` holds of each training.
RUN = (
    *("network", "seed", "parameters", "best_epoch"),
    *("best_validation_accuracy", "test_accuracy", "seconds_per_epoch"),
    "file",
)
# What it does not hold of each row.
UNWRITTEN = ("label", "table")


@dataclasses.dataclass(frozen=True)
class Results(Outcomes, _terminal.Tabular):
    """Results of a run of any kind; prints as tables with a verdict.

    `to_dataframe()` has a row per variant: `variant`, `seeds` (how many),
    `mean`, `std` (n - 1), `difference` to the baseline paired by seed, `low`
    and `high` (its 95 % interval over two seeds or more), `parameters` and
    `macs`. Of an ablation it has a row per network and table, with its errors
    in %, those of each seed among them, and of detectors one per network and
    seed, with what was measured. `csv()` and `latex()` return it as
    text.

    Attributes:
        output: Path of the output folder.
        outcomes: Tuple of `Outcome`, one per variant and seed that has been
            trained, in the order of training.
        variants, seeds: Tuples of all variants (strings) and seeds.
        comparisons: Tuple of `Comparison`, one per table.
        measures: Tuple of `Measure`, first the one that is compared.
        data: String, the name of the dataset.
        sizes: Dictionary, the number of images by split.
        guess: Number in [0, 1], the test accuracy of guessing: the part of
            the commonest class of the test images or, where their labels are
            not known, of each of so many classes; `None` for other data.
        kind: String, `"study"`, `"train"`, `"ablate"`, `"detect"` or
            `"tune"`.
        settings: Dictionary, what a resumed run must agree in.
        labels: Dictionary of variants to what tables call them, where that is
            not their name.
        runs: List of the `Outcome` of all trainings that finished.
        baseline: String, the variant that the others of the first table are
            compared with, or `None`.
        rows: List of `Row`, one per table and variant.
        history: List of dictionaries, one per network and epoch: `seed` (if
            there are several), `network`, `epoch` (from 1), the metrics of
            the task, `seconds`.
        test_images: Integer, the number of test images.
        verdict: String, the differences in a sentence, or that no network
            has learned; empty without a baseline.
    """

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
            return cls.of(path, read_content(path))
        except DAMAGE as error:
            raise ValueError(
                "`folder` must be the output folder of a study. Received: "
                f'folder="{path}", whose {RESULTS} cannot be read '
                f"({type(error).__name__}: {error})"
            ) from error

    def __str__(self) -> str:
        text = super().__str__()
        if self.kind == "ablate":
            text += f"\n\nAll files are in {self.output}"
        if self.kind == "detect":
            text += f"\nResults in {self.output}, detections in detections.png"
        return text

    def markdown(self) -> str:
        """Returns tables and verdict in Markdown."""
        tables = [table.markdown() for table in self.tables()]
        return "\n\n".join(filter(None, [*tables, self.verdict]))

    def json(self) -> str:
        """Returns the results as a JSON object."""
        written = {"ablate": _ablation_json, "detect": _detection_json}
        content = written.get(self.kind, _networks_json)(self)
        return json.dumps(content, indent=1)

    def tables(self) -> list[_terminal.Table]:
        """Returns the tables, without the names of folders."""
        tables = {"ablate": _ablation_tables, "detect": _detection_tables}
        return tables.get(self.kind, _networks_tables)(self)

    def _tables(self):
        tables = self.tables()
        if self.kind in ("ablate", "detect"):
            return tables
        several = len(self.seeds) > 1
        seeds = f", {len(self.seeds)} seeds" if several else ""
        title = f"Results in {self.output}{seeds}"
        return [dataclasses.replace(x, title=title, note="") for x in tables]

    def _records(self):
        records = {"ablate": _ablation_records, "detect": _detection_records}
        return records.get(self.kind, _networks_records)(self)

    def plot(self) -> "plotting.style.Figure | plotting.style.Axes":
        """Returns a matplotlib figure of means, seeds and intervals."""
        if self.kind == "ablate":
            return plotting.plot_ablation(self, _ablation_title(self))
        rows = [row for row in self.rows if row.values]
        names = [row.label for row in rows]
        figure = plotting.new_figure(8, 1.2 + 0.5 * len(rows), self.data)
        axes = figure.subplots()
        plotting.style_axes(axes, "x")
        styles = plotting.styles_of(names)
        means = [100 * statistics.fmean(row.values) for row in rows]
        networks = [row.network for row in rows]
        if self.baseline in networks:
            # Where an interval does not touch this line, it excludes zero.
            start = means[networks.index(self.baseline)]
            axes.axvline(start, c="0.35", ls="--", lw=1)
        for place, row in enumerate(rows):
            accuracies = [100 * value for value in row.values]
            color = styles[row.label]["color"]
            axes.plot(accuracies, [place + 0.2] * len(accuracies), ".", c=color)
            axes.plot(means[place], place, "o", c=color)
            if row.interval is not None:
                ends = [start + 100 * end for end in row.interval]
                axes.plot(ends, [place, place], "k|-")
        axes.set_yticks(range(len(rows)), names, parse_math=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        alone = max((row.pairs for row in rows), default=0) == 1
        heading = self.measures[0].heading
        axes.set_xlabel(
            f"{heading} (%): mean, seeds, and 95 % interval of the difference"
            f"{' (test images alone)' if alone else ''}",
            parse_math=False,
        )
        return figure


# Networks compared by one measure.


def _networks_tables(results):
    seeds = len(results.seeds)
    first, *further = results.measures
    note = f"Measured on the same {results.test_images:,} test images."
    title = "Networks, one seed"
    if seeds > 1:
        title = f"Networks, mean over {seeds} seeds"
        note += " In brackets: the 95 % interval of a difference."
    elif any(row.interval for row in results.rows):
        note += (
            " In brackets: the 95 % interval of a difference from these "
            "images alone."
        )
    tables = []
    for comparison in results.comparisons:
        baseline = comparison.baseline
        to = f' to "{baseline}"' if baseline else ""
        others = {x: results.compared(x, comparison) for x in further}
        rows = []
        for row in results.rows_of(comparison):
            cells = {
                "network": row.label,
                "parameters": f"{row.parameters:,}" if row.parameters else "",
                f"{first.heading} (%)": row.mean_cell(first.digits)
                or "; ".join(row.failures),
                f"difference{to}": row.difference_cell(first.digits),
            }
            for measure, compared in others.items():
                measured = compared.get(row.network, NOTHING)
                cell = measured.mean_cell(measure.digits)
                cells[f"{measure.heading} (%)"] = cell
            seconds = row.seconds_per_epoch
            cells["s / epoch"] = f"{seconds:.1f}" if seconds else ""
            rows.append(cells)
        titles = ": ".join(filter(None, [comparison.title, title]))
        tables.append(_terminal.Table(titles, rows, note=note))
    return tables


def _networks_records(results):
    records = []
    for row in results.rows:
        # The interval of a single seed lacks the variation between seeds.
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


def _networks_json(results):
    rows = []
    for row in results.rows:
        held = dataclasses.asdict(row)
        for name in UNWRITTEN:
            del held[name]
        if results.measures[0].key == "test_accuracy":
            held["test_accuracies"] = row.values
            held["test_accuracy"] = row.mean
        rows.append(held)
    return {
        "data": results.data,
        "seeds": results.seeds,
        "test_images": results.sizes.get("test"),
        "rows": rows,
        "verdict": results.verdict,
        "runs": [
            {name: getattr(run, name) for name in RUN} for run in results.runs
        ],
        "output": str(results.output),
    }


# The paper's tables, of errors in %.


def _ablation_title(results):
    """Returns the network, the data and the seeds in words."""
    count = len(results.seeds)
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    return f"{results.model} on {results.data}, {seeds}"


def _ablation_rows(results, comparison):
    """Yields a dictionary for each row of a table."""
    top5 = results.compared(results.measures[1], comparison)
    for row in results.rows_of(comparison):
        yield {
            "table": row.table,
            "network": results.model,
            "attention": row.label,
            "parameters": row.parameters,
            "macs": row.macs,
            **_errors("top1", row),
            "difference": _percent(row.difference),
            "interval": row.interval and tuple(map(_percent, row.interval)),
            **_errors("top5", top5.get(row.network)),
            "seconds_per_epoch": row.seconds_per_epoch,
        }


def _errors(name, measured):
    each = measured and tuple(map(_percent, measured.values))
    return {
        f"{name}_errors": each,
        f"{name}_error": measured and _percent(measured.mean),
        f"{name}_deviation": measured and _percent(measured.deviation),
    }


def _percent(fraction):
    # Without the digits that binary fractions add.
    return None if fraction is None else round(100 * fraction, 10)


def _ablation_tables(results):
    tables = []
    for comparison in results.comparisons:
        rows = [*_ablation_rows(results, comparison)]
        if rows:
            about = f"{comparison.title}, {_ablation_title(results)}"
            table = _terminal.Table(
                f"Table {comparison.number}: {about}",
                [_ablation_cells(row) for row in rows],
                note="Mean and standard deviation over the seeds of the error "
                f"on the same {results.test_images:,} test images; differences "
                f'to "{rows[0]["attention"]}", paired by seed.',
            )
            tables.append(table)
    return tables


def _ablation_cells(row):
    difference = number_cell("{:+.2f}", row["difference"])
    if row["interval"]:
        difference += " [{:+.2f}, {:+.2f}]".format(*row["interval"])
    cells = {
        "description": row["attention"],
        "parameters (M)": number_cell("{:#.4g}", row["parameters"], 1e-6),
        "GMACs": number_cell("{:#.4g}", row["macs"], 1e-9),
        "top-1 error (%)": _spread(row["top1_error"], row["top1_deviation"]),
        "difference (95 %)": difference,
    }
    if row["top5_error"] is not None:
        five = _spread(row["top5_error"], row["top5_deviation"])
        cells["top-5 error (%)"] = five
    return {
        **cells,
        "s / epoch": number_cell("{:.1f}", row["seconds_per_epoch"]),
    }


def _spread(mean, deviation):
    if deviation is None:
        return number_cell("{:.2f}", mean)
    return f"{mean:.2f} \N{PLUS-MINUS SIGN} {deviation:.2f}"


def _ablation_records(results):
    records = []
    for comparison in results.comparisons:
        for record in _ablation_rows(results, comparison):
            low, high = record.pop("interval") or (None, None)
            record |= {"interval_low": low, "interval_high": high}
            for key in ("top1_error", "top5_error"):
                names = (f"{key}_seed_{seed}" for seed in results.seeds)
                errors = record.pop(f"{key}s") or ()
                record |= dict(zip(names, errors, strict=False))
            records.append(record)
    return records


def _ablation_json(results):
    return {
        "data": results.data,
        "seeds": results.seeds,
        "test_images": results.test_images,
        "rows": [
            row
            for x in results.comparisons
            for row in _ablation_rows(results, x)
        ],
    }


# Detectors, with several measures.


def _detection_tables(results):
    first, *others = results.measures
    measured = {x.key: results.compared(x) for x in results.measures}
    rows = []
    for row in results.rows:
        if not row.values:
            continue
        cells = {"backbone": row.label, "parameters": f"{row.parameters:,}"}
        for measure in (*others, first):
            own = measured[measure.key].get(row.network, NOTHING)
            cells[measure.heading] = own.mean_cell(measure.digits)
        to = f'difference to "{results.baseline or "none"}"'
        rows.append({**cells, to: row.difference_cell(first.digits)})
    seeds = ", ".join(map(str, results.seeds))
    title = (
        f"Mean average precision (%) on {results.test_images} test images of "
        f"{results.data}, seed {seeds}"
    )
    return [_terminal.Table(title, rows)] if rows else []


def _detection_runs(results):
    return [
        {
            "network": run.network,
            "seed": run.seed,
            "parameters": run.parameters,
            "precision": run.metrics,
            "seconds_per_epoch": run.seconds_per_epoch,
            "file": run.file,
        }
        for run in results.runs
    ]


def _detection_records(results):
    records = _detection_runs(results)
    for record in records:
        record |= record.pop("precision")
    return records


def _detection_json(results):
    measured = {x.key: results.compared(x) for x in results.measures}
    return {
        "data": results.data,
        "backbone": results.model,
        "seeds": results.seeds,
        "test_images": results.test_images,
        "anchors": results.settings["data"][str(results.seeds[0])]["anchors"],
        "rows": {
            network: {
                key: dataclasses.asdict(compared[network])
                for key, compared in measured.items()
            }
            for network in results.compared()
        },
        "verdict": results.verdict,
        "runs": _detection_runs(results),
        "output": str(results.output),
    }
