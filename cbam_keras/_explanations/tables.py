"""What `explain.json` holds, as rows of text."""

import pathlib
from collections.abc import Sequence

from cbam_keras._files import Json

MEANS = {
    "accuracy": "accuracy (%)",
    "hit_rate": "maximum in the box (%)",
    "energy": "heat in the box (%)",
}


def predictions(
    content: Json, networks: Sequence[str], most: int
) -> list[dict[str, str]]:
    """Returns a row for each of the images that most networks get wrong."""
    mark = " \N{MULTIPLICATION SIGN}"
    rows = []
    for row in content["images"]:
        texts = {
            "image": short(row["image"]),
            "true class": row["true_class"] or "",
        }
        for name in networks:
            answer = row["models"][name]
            predicted = answer["predicted_class"]
            texts[name] = f"{predicted} ({answer['predicted_probability']:.0%})"
            if row["true_class"] not in (None, predicted):
                texts[name] += mark
        rows.append(texts)
    rows.sort(key=lambda texts: -sum(mark in texts[x] for x in networks))
    return rows[:most]


def short(name: str) -> str:
    """Returns the name of an image with its own folder alone."""
    return "/".join(pathlib.PurePath(name).parts[-2:])


def means(content: Json) -> list[dict[str, str]]:
    """Returns a row per network, none where no true class or box is known."""
    summary = dict(content["summary"])
    if "box_fraction" in content:
        fraction = content["box_fraction"]
        summary["uniform heat"] = {"hit_rate": fraction, "energy": fraction}
    known = [key for key in MEANS if any(key in x for x in summary.values())]
    rows = []
    for name, values in summary.items():
        row = {"model": name}
        for key in known:
            row[MEANS[key]] = (
                f"{100 * values[key]:.1f}" if key in values else ""
            )
        rows.append(row)
    return rows if known else []
