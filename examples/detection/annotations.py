"""Annotated objects, and their check against the images.

An entry that is not perfect does not cost the others: `make_pictures` clips
boxes to their images, leaves out what cannot be used, and counts it.
"""

import collections
import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks, data
from examples.detection.pictures import Picture

Splits = dict[str, list[Picture]]
# Annotations round coordinates, by up to so many pixels.
TOLERANCE = 1.0
PLURALS = {"box": "boxes", "image": "images"}


class Annotation(NamedTuple):
    """An annotated object, not checked yet."""

    class_name: str
    # Left, top, right and bottom.
    box: np.ndarray
    is_ignored: bool = False


class Problems(dict):
    """Where boxes and images are left out or clipped, and why."""

    def add(self, noun: str, what: str, reason: str, *places: object) -> None:
        reasons = self.setdefault((noun, what), collections.defaultdict(list))
        reasons[reason] += places

    def __str__(self):
        sentences = []
        for (noun, what), reasons in sorted(self.items(), reverse=True):
            places = [place for each in reasons.values() for place in each]
            count = len(places)
            name = noun if count == 1 else PLURALS[noun]
            counts = {reason: len(each) for reason, each in reasons.items()}
            first = _checks.first_few(list(dict.fromkeys(places)))
            text = f"{data.describe_counts(counts)} ({first})"
            sentences.append(f"{count:,} {name} {what}: {text}")
        return "; ".join(sentences)


@dataclasses.dataclass
class Annotated:
    """What a folder or a dataset holds, not checked yet.

    `splits` are images (paths or encoded) and their objects, to train and to
    test.
    """

    splits: dict[str, list[tuple[str | bytes, list[Annotation]]]]
    class_names: tuple[str, ...]
    problems: Problems = dataclasses.field(default_factory=Problems)
    # Boxes are fractions of their image in place of pixels.
    in_fractions: bool = False


def parse_numbers(values: Any) -> np.ndarray:
    """Returns four finite numbers, NaN in place of anything else."""
    try:
        numbers = np.array(values, "float64")
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    is_box = numbers.shape == (4,) and np.isfinite(numbers).all()
    return numbers if is_box else np.full(4, np.nan)


def is_true(value: object) -> bool:
    """Returns whether a flag is set, as a number or as text."""
    return str(value).strip().lower() in ("1", "1.0", "true", "yes")


def make_pictures(annotated: Annotated, source: str | os.PathLike) -> Splits:
    """Returns pictures of images that can be read, with boxes in them.

    Warns of everything that is left out. Raises a `ValueError` if an image is
    both to train and to test, or a split is left without a box.
    """
    splits, problems = annotated.splits, annotated.problems
    paths = (
        {image for image, _ in entries if isinstance(image, str)}
        for entries in splits.values()
    )
    both = sorted(map(os.path.basename, set.intersection(*paths)))
    if both or not all(splits.values()):
        train, test = map(len, splits.values())
        raise ValueError(
            "There must be images to train and others to test. Received: "
            f'data="{source}" with {train} and {test} images, '
            f"{len(both)} of both: {_checks.first_few(both)}. Correct the "
            "lists or the folders that divide them, or remove them for a split "
            f"at random. {problems}"
        )
    pictures = {
        split: _make_pictures(entries, annotated)
        for split, entries in splits.items()
    }
    for split, of_split in pictures.items():
        if not any(picture.scores.any() for picture in of_split):
            raise ValueError(
                "A split must have at least one box that is not of a crowd or "
                "difficult (an image may have none). Received: data="
                f'"{source}" without one in "{split}". {problems}'
            )
    if problems:
        _checks.warn(f'Annotations of "{source}": {problems}')
    return pictures


def _make_pictures(entries, annotated):
    """Returns the pictures of a split, and adds to the problems."""
    images, annotations = zip(*entries, strict=True)
    heads = data.read_headers(images, "Reading headers")
    pictures: list[Picture] = []
    for number, (image, head) in enumerate(zip(images, heads, strict=True)):
        is_path = isinstance(image, str)
        name = os.path.basename(image) if is_path else f"image {number}"
        if head is None:
            is_missing = is_path and not os.path.exists(image)
            reason = "missing" if is_missing else "damaged"
            annotated.problems.add("image", "left out", reason, name)
            continue
        limits = np.array([head.width, head.height] * 2)
        objects = annotations[number]
        boxes = np.array([each.box for each in objects]).reshape(-1, 4)
        boxes = boxes * limits if annotated.in_fractions else boxes
        kept = _keep(objects, boxes, limits, annotated, name)
        labels = [annotated.class_names.index(objects[i][0]) for i in kept]
        pictures.append(
            Picture(
                image=image,
                size=(head.height, head.width),
                boxes=np.clip(boxes[kept], 0, limits),
                labels=np.array(labels, int),
                scores=np.array([1.0 - objects[i].is_ignored for i in kept]),
                content=head.content,
            )
        )
    return pictures


def _keep(objects, boxes, limits, annotated, name):
    """Returns the rows of the boxes to keep, and reports the others."""
    clipped = np.clip(boxes, 0, limits)
    is_far = (np.abs(clipped - boxes) > TOLERANCE).any(axis=1)
    reasons = np.select(
        [
            np.isnan(boxes).any(axis=1),
            (boxes[:, :2] > boxes[:, 2:]).any(axis=1),
            (boxes[:, :2] == boxes[:, 2:]).any(axis=1),
            (clipped[:, :2] >= clipped[:, 2:]).any(axis=1),
        ],
        ["not four numbers", "with exchanged corners", "empty", "outside"],
        "",
    )
    problems = annotated.problems
    kept: dict[tuple[object, ...], int] = {}
    for row, (each, reason) in enumerate(zip(objects, reasons, strict=True)):
        entry = (each.class_name, each.is_ignored, *boxes[row])
        if reason:
            problems.add("box", "left out", str(reason), name)
        elif each.class_name not in annotated.class_names:
            place = f'"{each.class_name}" in {name}'
            problems.add("box", "left out", "of another class", place)
        elif entry in kept:
            problems.add("box", "left out", "repeated", name)
        else:
            kept[entry] = row
            if is_far[row]:
                problems.add("box", "clipped", "beyond the edge", name)
    return list(kept.values())
