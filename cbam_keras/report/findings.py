"""What detectors find, image by image, from `detections.npz`."""

import dataclasses
import pathlib

import numpy as np

from cbam_keras import detection
from cbam_keras.report.looks import MOST_BYTES, MOST_IMAGES, Look, Seen
from cbam_keras.report.pictures import Box, in_color, of_array

# A detection is right from this intersection over union on.
OVERLAP = 0.5


def findings_in(
    folder: pathlib.Path, class_names: list[str]
) -> tuple[list[Look], str]:
    """Returns the images on which detectors are compared, and a note.

    Those with the most mistakes come first.

    Args:
        folder: Path of the output folder of `detect`.
        class_names: List of strings.
    """
    with np.load(folder / "detections.npz") as file:
        arrays = {name: file[name] for name in file.files}
    images, truth = arrays.pop("images"), arrays.pop("truth")
    found = []
    for number, image in enumerate(images):
        rows = {name: _of_image(rows, number) for name, rows in arrays.items()}
        found.append(
            _look(number, image, _of_image(truth, number), rows, class_names)
        )
    found.sort(key=lambda pair: -pair[0])
    looks: list[Look] = []
    for _, look in found[:MOST_IMAGES]:
        if looks and sum(x.size for x in (*looks, look)) > MOST_BYTES:
            break
        looks.append(look)
    shown = f"{len(looks)} of the" if len(looks) < len(images) else "The"
    return looks, (
        f"{shown} first {len(images)} test images, those with the most "
        "mistakes first, and what the detectors of the first seed find there "
        "with 50 % confidence or more. Dashed: no object of that class "
        "overlaps by half."
    )


def _of_image(rows, number):
    return rows[rows[:, 0] == number][:, 1:]


def _look(number, image, truth, rows, class_names):
    """Returns the number of all mistakes in an image, and its `Look`."""
    name = f"Test image {number + 1}"
    drawn = of_array(in_color(image), f"{name} with its objects", "truth")
    seen, mistakes = [], 0
    for model, found in rows.items():
        right, hits = matched(truth, found)
        objects = truth[:, 1] > 0
        missed, wrong = int((objects & ~hits).sum()), int((~right).sum())
        mistakes += missed + wrong
        says = f"{objects.sum() - missed} of {objects.sum()} found"
        says += f", {wrong} too many" if wrong else ""
        seen.append(
            Seen(
                model,
                says,
                bool(missed or wrong),
                _with_boxes(
                    drawn, f"{name}: {model}, {says}", found, right, class_names
                ),
            )
        )
    shown = np.ones(len(truth), bool)
    drawn = _with_boxes(drawn, drawn.alt, truth, shown, class_names)
    return mistakes, Look(name, None, drawn, seen)


def matched(
    truth: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which detections are right, and which objects are found.

    Args:
        truth: Array `(n, 6)`: class, confidence, left, top, right, bottom.
        found: Array `(m, 6)` likewise.
    """
    right = np.zeros(len(found), bool)
    hits = np.zeros(len(truth), bool)
    # The surest detection of an object counts.
    for index in np.argsort(-found[:, 1]):
        overlaps = detection.overlaps(truth[:, 2:], found[[index], 2:])[:, 0]
        overlaps[hits | (truth[:, 0] != found[index, 0])] = 0
        if len(truth) and overlaps.max() >= OVERLAP:
            right[index] = hits[overlaps.argmax()] = True
    return right, hits


def _with_boxes(picture, alt, rows, right, class_names):
    boxes = [
        Box(
            *(100 * edge for edge in (left, top, end - left, bottom - top)),
            f"{class_names[int(label)]} {confidence:.0%}"
            if 0 < confidence < 1
            else class_names[int(label)],
            wrong=not good,
        )
        for (label, confidence, left, top, end, bottom), good in zip(
            rows.tolist(), right, strict=True
        )
    ]
    return dataclasses.replace(picture, alt=alt, boxes=boxes)
