"""What a folder of `explain` says."""

import pathlib

from cbam_keras.report.looks import looks_in
from cbam_keras.report.page import Page, Table

MEANS = {
    "accuracy": "accuracy (%)",
    "hit_rate": "maximum in the box (%)",
    "energy": "heat in the box (%)",
}


def results(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The results."""
    summary, count = content["summary"], len(content["images"])
    page.title = f"Explanation: {', '.join(content['models'])}"
    page.question = "Where do the networks look, and are they right?"
    keys = [key for key in MEANS if any(key in x for x in summary.values())]
    page.verdict = f"{count} images are explained."
    if "accuracy" in keys:
        page.verdict = "; ".join(
            f"{model} is right about {means['accuracy']:.1%} of {count} images"
            for model, means in summary.items()
        )
        page.verdict += "."
    if keys:
        page.tables.append(
            Table(
                {"model": "left", **{MEANS[key]: "right" for key in keys}},
                [
                    (model, *(f"{100 * means[key]:.1f}" for key in keys))
                    for model, means in summary.items()
                ],
                f"Means over {count} images",
                _note(content),
            )
        )
    for model, path in content["models"].items():
        page.facts[f"model {model}"] = str(path)
    for key in ("data", "split", "seed"):
        if content["settings"].get(key) is not None:
            page.facts[key] = str(content["settings"][key])


def _note(content):
    if "box_fraction" not in content:
        return ""
    return (
        "Heat spread evenly would have "
        f"{100 * content['box_fraction']:.1f} % in the box."
    )


def looks(page: Page, folder: pathlib.Path, content: dict) -> None:
    """Where the networks look."""
    page.looks, page.looks_note = looks_in(folder)


PARTS = (results, looks)
