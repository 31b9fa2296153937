"""What a folder of `tune` says."""

import json
import pathlib
from typing import Any

from cbam_keras._run_folder import LOOKS
from cbam_keras.report.looks import looks_in
from cbam_keras.report.page import Map, Page, Point, Table
from cbam_keras.report.trained import RESUME, add_figure, facts_of

RATIO, KERNEL = "reduction_ratio", "kernel_size"
FINISHED = "finished"
NO_VALUE = "none"


def results(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The results."""
    settings = content["settings"]
    data = settings["data"]
    page.title = f"Search: {settings['model']} on {data['name']}"
    page.question = (
        f"Which attention suits the network {settings['model']} on "
        f"{data['name']}, and does it improve the accuracy?"
    )
    page.facts |= facts_of(data)
    page.facts["seed"] = str(settings["recipe"]["seed"])
    ended = _ended(page, folder)
    page.verdict = ended.get("verdict") or "Nothing is confirmed yet."
    page.code = ended.get("code") or ""
    _confirmation(page, ended.get("confirmation") or [])
    trials = ended["trials"]
    page.map = map_of(trials)
    page.tables.append(_trials(trials))


def _ended(page, folder):
    """Returns `results.json`, or as much of it as trials have ended."""
    path = folder / "results.json"
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
        if "verdict" not in found:
            page.missing.append(f"The confirmation is not finished. {RESUME}")
        return found
    page.missing.append(f"The search is not finished. {RESUME}")
    trials = []
    for path in sorted(folder.glob("trial_*/outcome.json")):
        try:
            outcome = json.loads(path.read_text("utf-8"))
            number = int(path.parent.name.removeprefix("trial_"))
            trials.append({"number": number, **outcome})
        except (OSError, ValueError, TypeError):
            page.missing.append(f"{path.parent.name}: outcome.json is damaged.")
    return {"trials": trials}


def _confirmation(page, rows):
    if not rows:
        return
    seeds = ", ".join(map(str, rows[0]["seeds"]))
    page.tables.append(
        Table(
            {
                "trial": "right",
                "network": "left",
                "test accuracy (%)": "right",
                "difference to none (points)": "right",
                "95 % interval": "right",
            },
            [
                (
                    str(row["trial"]),
                    row["compared"]["network"],
                    f"{100 * row['test_accuracy']:.2f}",
                    _points(row["difference"]),
                    " to ".join(map(_points, row["interval"] or ())),
                )
                for row in rows
            ],
            f"Confirmation: trained again, mean over seeds {seeds}",
            "The highest of many accuracies is partly luck, so the best "
            "configurations and the controls are trained again from fresh "
            "seeds. The verdict is of these.",
        )
    )


def _trials(trials):
    values = list(dict.fromkeys(key for t in trials for key in t["values"]))
    # What is the same in all trials says nothing.
    varying = [
        key
        for key in values
        if not key.startswith("tuner/")
        and len({str(t["values"][key]) for t in trials if key in t["values"]})
        > 1
    ]
    ranked = sorted(trials, key=lambda t: -(t.get("val_accuracy") or 0))
    return Table(
        {
            "trial": "right",
            **dict.fromkeys((key.replace("_", " ") for key in varying), "left"),
            "validation accuracy (%)": "right",
            "epochs": "right",
            "parameters": "right",
            "MMACs": "right",
            "seconds": "right",
            "outcome": "left",
        },
        [
            (
                str(trial["number"]),
                *(str(trial["values"].get(key, "")) for key in varying),
                _percent(trial.get("val_accuracy")),
                str(trial.get("epochs", "")),
                _formatted("{:,}", trial.get("parameters")),
                _formatted("{:,.4g}", trial.get("macs"), 1e6),
                _formatted("{:.1f}", trial.get("seconds")),
                trial["outcome"],
            )
            for trial in ranked
        ],
        "Trials",
        ids=[f"trial-{trial['number']}" for trial in ranked],
    )


def _percent(value):
    return "" if value is None else f"{100 * value:.2f}"


def _points(value):
    return "" if value is None else f"{100 * value:+.2f}"


def _formatted(text, value, unit=1):
    if value is None:
        return ""
    return text.format(value / unit if unit != 1 else value)


def map_of(trials: list[dict[str, Any]]) -> Map | None:
    """Returns finished trials by ratio and kernel, `None` without either."""
    finished = [t for t in trials if t["outcome"] == FINISHED]
    columns = _values(finished, RATIO)
    rows = _values(finished, KERNEL)
    if columns == [NO_VALUE] or rows == [NO_VALUE] or not finished:
        return None
    cells: dict[tuple[str, str], list[dict]] = {}
    for trial in finished:
        cells.setdefault(_cell(trial), []).append(trial)
    accuracies = [trial["val_accuracy"] for trial in finished]
    low, spread = min(accuracies), max(accuracies) - min(accuracies)
    points = []
    for (column, row), own in cells.items():
        for place, trial in enumerate(own):
            # Side by side within the middle of the cell.
            shift = 0.6 * ((place + 0.5) / len(own) - 0.5)
            points.append(
                Point(
                    columns.index(column) + shift,
                    rows.index(row),
                    (trial["val_accuracy"] - low) / spread if spread else 1,
                    trial["number"],
                    _text(trial),
                )
            )
    return Map(columns, rows, points)


def _values(trials, key):
    """Returns the values of a hyperparameter in order, "none" last."""
    found = {t["values"][key] for t in trials if key in t["values"]}
    names = [str(value) for value in sorted(found)]
    if any(key not in t["values"] for t in trials):
        names.append(NO_VALUE)
    return names


def _cell(trial):
    values = trial["values"]
    return str(values.get(RATIO, NO_VALUE)), str(values.get(KERNEL, NO_VALUE))


def _text(trial):
    values = (
        f"{key.replace('_', ' ')} {value}"
        for key, value in trial["values"].items()
        if not key.startswith("tuner/")
    )
    return (
        f"Trial {trial['number']}: {', '.join(values)}. Validation accuracy "
        f"{100 * trial['val_accuracy']:.2f} %."
    )


def figures(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The figures."""
    add_figure(
        page,
        folder / "effects.png",
        "Validation accuracy by the value of each hyperparameter",
        "The effect of each hyperparameter; a point is a trial.",
    )
    add_figure(
        page,
        folder / "pareto.png",
        "Validation accuracy against parameters and multiply-accumulates",
        "Accuracy against cost. On the line no other trial is as accurate at "
        "a lower cost.",
    )


def looks(page: Page, folder: pathlib.Path, content: dict) -> None:
    """Where the best network looks."""
    if (folder / LOOKS / "explain.json").exists():
        page.looks, page.looks_note = looks_in(folder / LOOKS)


PARTS = (results, figures, looks)
