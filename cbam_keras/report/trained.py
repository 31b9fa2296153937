"""What a folder of `train` says, of one seed or several."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from cbam_keras import comparison, training
from cbam_keras._run_folder import LOOKS
from cbam_keras.report import pictures
from cbam_keras.report.looks import looks_in
from cbam_keras.report.page import Page, Table
from cbam_keras.training import Run

RESUME = "The same command resumes the run."


def of_one(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The results."""
    settings = content["settings"]
    _facts(page, settings, settings["data"])
    page.facts["seed"] = str(settings["recipe"]["seed"])
    runs = {run["network"]: [Run(**run)] for run in content["runs"]}
    _compare(page, settings, runs, settings["data"])
    absent = [name for name in settings["networks"] if name not in runs]
    if absent:
        page.missing.append(f"Not trained yet: {', '.join(absent)}. {RESUME}")


def of_seeds(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The results."""
    settings = content["settings"]
    described = settings["data"]
    first = next(iter(described.values()))
    _facts(page, settings, first)
    page.facts["seeds"] = ", ".join(described)
    names, ends = settings["networks"], {}
    for seed in described:
        own = _runs_of(folder / f"seed-{seed}")
        absent = [name for name in names if name not in own]
        if absent:
            page.missing.append(
                f"Seed {seed} lacks {', '.join(absent)} and is left out. "
                f"{RESUME}"
            )
        else:
            ends[seed] = own
    runs = {name: [own[name] for own in ends.values()] for name in names}
    _compare(page, settings, runs if ends else {}, first)
    page.tables.append(
        Table(
            {"seed": "right", **dict.fromkeys(names, "right")},
            [
                (seed, *(f"{100 * own[n].test_accuracy:.2f}" for n in names))
                for seed, own in ends.items()
            ],
            "Test accuracy by seed (%)",
        )
    )


def _runs_of(folder):
    path = folder / "results.json"
    if not path.exists():
        return {}
    content = json.loads(path.read_text("utf-8"))
    return {run["network"]: Run(**run) for run in content["runs"]}


def _facts(page, settings, data):
    model = settings.get("model", "your own")
    page.title = f"{model} on {data['name']}"
    page.question = (
        f"Does attention improve the accuracy of the network {model} on "
        f"{data['name']}?"
    )
    page.facts |= facts_of(data)


def facts_of(data: Mapping[str, Any]) -> dict[str, str]:
    """Returns what identifies a dataset, by name."""
    sizes = ", ".join(f"{n:,} {split}" for split, n in data["sizes"].items())
    return {
        "data": str(data["name"]),
        "images": sizes,
        "data fingerprint": str(data.get("fingerprint", "unknown")),
    }


def _compare(page, settings, runs, data):
    """Adds the table of what has been trained, and the verdict."""
    if not runs:
        page.verdict = "Nothing is known yet: no network is trained."
        return
    baseline = "none" if "none" in runs else None
    rows = training.compared(runs, data["sizes"]["test"], baseline)
    page.verdict = comparison.verdict(rows)
    many = len(rows[0].test_accuracies)
    columns = {
        "network": "left",
        "test accuracy (%)": "right",
        'difference to "none"': "right",
        "parameters": "right",
        "validation accuracy (%)": "right",
        "seconds per epoch": "right",
    }
    cells = [
        (
            row.network,
            row.measured.mean_cell(),
            row.measured.difference_cell(),
            f"{row.parameters:,}",
            f"{100 * row.validation_accuracy:.2f}",
            f"{row.seconds_per_epoch:.1f}",
        )
        for row in rows
    ]
    note = (
        f"Measured on the same {data['sizes']['test']:,} test images, with the "
        "weights of the epoch of the highest validation accuracy."
    )
    title = "Networks, one seed"
    if many > 1:
        title = f"Networks, mean over {many} seeds"
        note += " In brackets: the 95 % interval of the difference."
    page.tables.append(Table(columns, cells, title, note))


def curves(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The curves."""
    add_figure(
        page,
        folder / "curves.png",
        "Loss and accuracy over the epochs, a line per network",
        "Loss and accuracy over the epochs. Thin lines: training images. "
        "Bold lines with markers: validation images.",
    )


def curves_of_seeds(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The curves."""
    curves(page, folder / f"seed-{next(iter(content['settings']['data']))}", {})


def looks(page: Page, folder: pathlib.Path, content: dict) -> None:
    """Where the networks look."""
    if not (folder / LOOKS / "explain.json").exists():
        page.missing.append(
            "Where the networks look: not drawn yet. The command draws it "
            "when all networks are trained."
        )
        return
    page.looks, note = looks_in(folder / LOOKS)
    page.looks_note = f"The networks of the first seed on test images. {note}"


def add_figure(page: Page, path: pathlib.Path, alt: str, caption: str) -> None:
    """Adds a figure of the folder, or a line that it is missing."""
    if path.exists():
        page.figures.append(pictures.of_file(path, alt, caption))
    else:
        page.missing.append(f"{path.name}: not drawn yet.")


PARTS = (of_one, curves, looks)
PARTS_OF_SEEDS = (of_seeds, curves_of_seeds, looks)
