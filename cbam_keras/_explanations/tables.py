"""What `explain.json` holds, as rows of text."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from cbam_keras._files import Json

# These numbers of each image and network are written where they are known.
NUMBERS = "probability", "predicted_probability", "hit", "energy"

MEANS = {
    "accuracy": "accuracy (%)",
    "hit_rate": "maximum in the box (%)",
    "energy": "heat in the box (%)",
}


def rows_of(
    arrays: Mapping[str, np.ndarray],
    networks: Sequence[str],
    class_names: Sequence[str] | None,
) -> Json:
    """Returns the rows of images, and the means of networks."""

    def name_of(index):
        return class_names[index] if class_names else f"class {index}"

    labels, boxes = arrays["labels"], arrays.get("boxes")
    rows = [
        {
            "image": name,
            "true_class": name_of(label) if label >= 0 else None,
            "models": {},
        }
        for name, label in zip(arrays["names"].tolist(), labels, strict=True)
    ]
    content: Json = {"summary": {}, "images": rows}
    if boxes is not None:
        for row, box in zip(rows, boxes.tolist(), strict=True):
            row["box"] = box
        low, high = np.hsplit(boxes, 2)
        areas = (high - low).prod(axis=1)
        size = arrays["images"].shape[1:3]
        content["box_fraction"] = float(areas.mean() / np.prod(size))
    for name in networks:
        explained = arrays[f"{name}/explained"]
        predicted = arrays[f"{name}/predicted"]
        known = {x: arrays.get(f"{name}/{x}") for x in NUMBERS}
        for number, row in enumerate(rows):
            row["models"][name] = {
                "class": name_of(explained[number]),
                "class_index": explained[number].item(),
                "predicted_class": name_of(predicted[number]),
                "predicted_class_index": predicted[number].item(),
                **{
                    key: values[number].item()
                    for key, values in known.items()
                    if values is not None
                },
            }
        means = {
            "accuracy": (predicted == labels)[labels >= 0],
            "hit_rate": arrays.get(f"{name}/hit", ()),
            "energy": arrays.get(f"{name}/energy", ()),
        }
        content["summary"][name] = {
            key: float(np.mean(x)) for key, x in means.items() if len(x)
        }
    return content


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
