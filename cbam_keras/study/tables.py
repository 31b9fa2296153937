"""What each kind of run shows: its tables, records and JSON.

Each function takes the `Results` of a run of its kind.
"""

import collections
import dataclasses
from collections.abc import Sequence

from cbam_keras._terminal import Table, number_cell
from cbam_keras.study.cell import Outcome
from cbam_keras.study.measures import ACCURACY
from cbam_keras.study.statistics import NOTHING, noun_of

# What `json` holds of each training.
RUN = (
    *("network", "seed", "parameters", "best_epoch"),
    *("best_validation_accuracy", "test_accuracy", "seconds_per_epoch"),
    "file",
)
# What it does not hold of each row: of any, and of one that is no trial's.
OF_TRIAL = ("trial", "attention", "options")
UNWRITTEN = ("label", "table", *OF_TRIAL)
# What it holds of each trial, beside its values.
TRIAL = (
    *("number", "outcome", "message", "val_accuracy", "val_loss"),
    *("best_epoch", "epochs", "parameters", "macs", "seconds"),
)
# With so many networks, tables have their multiply-accumulates, too.
MANY = 4
# How many trials are printed.
MAX_TRIALS = 20


# Networks compared by one measure.


def _networks_tables(results):
    first, *further = results.measures
    note = f"Measured on {_test_images(results)}."
    title = "Networks, one seed"
    if len(results.seeds) > 1:
        title = f"Networks, mean over {results.counted_seeds}"
        note += " In brackets: the 95 % interval of a difference."
    tables = []
    for comparison in results.comparisons:
        baseline = comparison.baseline
        to = f' to "{baseline}"' if baseline else ""
        others = {x: results.compared(x, comparison) for x in further}
        is_many = len(comparison.variants) >= MANY
        rows = []
        for row in results.rows_of(comparison):
            cells = {
                "network": row.label,
                "parameters": f"{row.parameters:,}" if row.parameters else "",
                **({"MMACs": _millions(row.macs)} if is_many else {}),
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
        tables.append(Table(titles, rows, note=note))
    return tables


def _test_images(results):
    if results.folds is None:
        return f"the same {results.test_images:,} test images"
    return f"{results.test_images:,} images, each in one of the folds"


def _millions(macs):
    return number_cell("{:,.4g}", macs, 1e-6)


def _printed_networks_tables(results):
    several = len(results.seeds) > 1
    seeds = f", {results.counted_seeds}" if several else ""
    title = f"Results in {results.output}{seeds}"
    tables = _networks_tables(results)
    return [dataclasses.replace(x, title=title, note="") for x in tables]


def _networks_records(results):
    records = []
    for row in results.rows:
        low, high = row.interval or (None, None)
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
        if results.measures[0].key == ACCURACY:
            held["test_accuracies"] = row.values
            held["test_accuracy"] = row.mean
        rows.append(held)
    return {
        "data": results.data,
        "seeds": results.seeds,
        "folds": results.folds,
        "test_images": results.test_images,
        "rows": rows,
        "verdict": results.verdict,
        "runs": [
            {name: getattr(run, name) for name in RUN} for run in results.runs
        ],
        "output": str(results.output),
    }


# The paper's tables, of errors in %.


def _ablation_rows(results, comparison):
    """Yields a dictionary for each row of a table."""
    first, *others = results.measures
    compared = {x: results.compared(x, comparison) for x in others}
    for row in results.rows_of(comparison):
        yield {
            "table": row.table,
            "network": results.model,
            "attention": row.label,
            "parameters": row.parameters,
            "macs": row.macs,
            **_errors(first, row),
            "difference": _percent(row.difference),
            "interval": row.interval and tuple(map(_percent, row.interval)),
            **{
                name: value
                for x in others
                for name, value in _errors(
                    x, compared[x].get(row.network)
                ).items()
            },
            "seconds_per_epoch": row.seconds_per_epoch,
        }


def _key(measure):
    """Returns what the errors of a measure are called, as "top1"."""
    return measure.key.replace(ACCURACY, "top1").replace("5_accuracy", "5")


def _errors(measure, measured):
    name = _key(measure)
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
            about = f"{comparison.title}, {results.title}"
            noun = noun_of(results.folds)
            table = Table(
                f"Table {comparison.number}: {about}",
                [_ablation_cells(row, results.measures) for row in rows],
                note=f"Mean and standard deviation over the {noun}s of the "
                f"error on {_test_images(results)}; differences to "
                f'"{rows[0]["attention"]}", paired by {noun}.',
            )
            tables.append(table)
    return tables


def _ablation_cells(row, measures):
    difference = number_cell("{:+.2f}", row["difference"])
    if row["interval"]:
        difference += " [{:+.2f}, {:+.2f}]".format(*row["interval"])
    errors = {}
    for measure in measures:
        key = _key(measure)
        # Few classes have no top-5 error.
        if row[f"{key}_errors"] is not None:
            mean, deviation = row[f"{key}_error"], row[f"{key}_deviation"]
            errors[f"{measure.heading} (%)"] = _spread(mean, deviation)
    first, *others = errors.items()
    return {
        "description": row["attention"],
        "parameters (M)": number_cell("{:#.4g}", row["parameters"], 1e-6),
        "GMACs": number_cell("{:#.4g}", row["macs"], 1e-9),
        first[0]: first[1],
        "difference (95 %)": difference,
        **dict(others),
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
            for key in map(_key, results.measures):
                names = (f"{key}_error_seed_{seed}" for seed in results.seeds)
                errors = record.pop(f"{key}_errors") or ()
                record |= dict(zip(names, errors, strict=False))
            records.append(record)
    return records


def _ablation_json(results):
    return {
        "data": results.data,
        "seeds": results.seeds,
        "folds": results.folds,
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
    return [Table(title, rows)] if rows else []


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


# Trials of a search, and what it has confirmed.


def counted_trials(trials: Sequence[Outcome]) -> str:
    """Returns how many trials ended in which way, as a sentence."""
    counts = collections.Counter(trial.status for trial in trials)
    each = ", ".join(f"{count} {name}" for name, count in counts.items())
    total = len(trials)
    return f"{total} trial{'s' * (total != 1)}: {each}."


def _search_tables(results):
    trials = Table("Trials", _trial_rows(results))
    tables = (_confirmation_table(results), trials)
    return [table for table in tables if table.rows]


def _printed_search_tables(results):
    title = f"Best trials in {results.output}"
    trials = _trial_rows(results)[:MAX_TRIALS]
    tables = (Table(title, trials), _confirmation_table(results))
    return [dataclasses.replace(x, note="") for x in tables if x.rows]


def _confirmation_table(results):
    rows = results.confirmation
    seeds = dict.fromkeys(seed for row in rows for seed in row.seeds)
    return Table(
        "Confirmation: trained again, mean over seeds "
        f"{', '.join(map(str, seeds))}",
        [_confirmed_cells(row, results) for row in rows],
        note="The highest of many accuracies is partly luck, so the best "
        "configurations and the controls are trained again from fresh seeds. "
        "The verdict is of these.",
    )


def _trial_rows(results):
    return [
        {
            "trial": str(trial.number),
            "values": trial.label,
            **{
                _short(x.heading): number_cell(
                    "{:.2f}", trial.metrics.get(x.key), 100
                )
                for x in results.measures
            },
            "epochs": str(trial.epochs),
            "parameters": number_cell("{:,}", trial.parameters),
            "MMACs": _millions(trial.macs),
            "seconds": number_cell("{:.1f}", trial.seconds),
        }
        for trial in results.ranked
    ]


def _short(heading):
    """Returns the heading of a column, as "val accuracy (%)"."""
    return f"{heading.replace('validation', 'val', 1)} (%)"


def _confirmed_cells(row, results):
    validation = number_cell("{:.2f}", row.validation_accuracy, 100)
    return {
        "trial": str(row.trial),
        "values": row.label,
        _short(results.measures[0].heading): validation,
        _short(results.confirmed_by): row.mean_cell(),
        "difference to none": row.difference_cell(),
    }


def _search_records(results):
    return [
        {
            **trial.values,
            **{name: getattr(trial, name) for name in TRIAL},
            **{x.key: trial.metrics.get(x.key) for x in results.measures},
        }
        for trial in results.trials
    ]


def _search_json(results):
    names = ("attention", "reduction_ratio", "kernel_size")
    confirmation = []
    for row in results.confirmation:
        compared = {**dataclasses.asdict(row), "network": row.label}
        own = {name: compared.pop(name) for name in OF_TRIAL}
        own |= {
            "seeds": row.seeds,
            "test_accuracy": row.test_accuracy,
            "difference": row.difference,
            "interval": row.interval,
        }
        confirmation.append({**row.options, **own, "compared": compared})
    return {
        "trials": [
            {
                **dict.fromkeys(names),
                **trial.values,
                "score": trial.score,
                "values": trial.values,
                **{name: getattr(trial, name) for name in TRIAL},
            }
            for trial in results.trials
        ],
        "confirmation": confirmation,
        "verdict": results.verdict,
        "best": results.best and results.best.number,
        "best_options": results.best_options,
        "code": results.code,
        "test_accuracy": results.test_accuracy,
        "output": str(results.output),
    }


# The functions of each kind of run; others have those of a study.
TABLES = {
    "study": _networks_tables,
    "ablate": _ablation_tables,
    "detect": _detection_tables,
    "tune": _search_tables,
}
# With the folder in their titles.
PRINTED = {
    **TABLES,
    "study": _printed_networks_tables,
    "tune": _printed_search_tables,
}
RECORDS = {
    "study": _networks_records,
    "ablate": _ablation_records,
    "detect": _detection_records,
    "tune": _search_records,
}
JSON = {
    "study": _networks_json,
    "ablate": _ablation_json,
    "detect": _detection_json,
    "tune": _search_json,
}
