"""What a folder of `ablate` says."""

import pathlib

from cbam_keras import ablation
from cbam_keras.report.page import Page, Table
from cbam_keras.report.trained import RESUME, add_figure, facts_of, looks


def results(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The results."""
    settings = content["settings"]
    data = next(iter(settings["data"].values()))
    page.title = f"Ablation: {settings['model']} on {data['name']}"
    page.question = (
        "Which parts of CBAM lower the error of the network "
        f"{settings['model']} on {data['name']}?"
    )
    page.facts |= facts_of(data)
    page.facts["seeds"] = ", ".join(settings["data"])
    if "rows" not in content:
        page.verdict = "Nothing is known yet: the ablation is not finished."
        done = len(list(folder.glob("*/seed-*/*.keras")))
        page.missing.append(
            f"The tables: {done} trainings are finished so far. {RESUME}"
        )
        return
    found = ablation.AblationResults(
        [ablation.AblationRow(**row) for row in content["rows"]],
        content["data"],
        tuple(content["seeds"]),
        content["test_images"],
        folder,
    )
    for title, columns, cells, note in found.tables():
        page.tables.append(Table(columns, cells, title, note))
    page.verdict = found.verdict


def figures(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The figure."""
    add_figure(
        page,
        folder / "ablation.png",
        "Test errors of each table, with the interval of each difference to "
        "the first row",
        "Test errors by table. Where an interval does not touch the line of "
        "the first row, the difference excludes zero.",
    )


PARTS = (results, looks, figures)
