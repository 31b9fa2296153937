"""Annotated objects, and their check against the images.

An entry that is not perfect does not cost the others: `make_pictures` clips
boxes to their images, leaves out what cannot be used, and counts it.
"""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks, data
from cbam_keras.data.decoding import map_in_threads
from examples.detection.pictures import Picture

# Pictures by split, "train" and "test", and the names of the classes.
Pictures = tuple[dict[str, list[Picture]], tuple[str, ...]]
# Annotations round coordinates, by up to so many pixels.
TOLERANCE = 1.0
# What is the matter with a box that is not left out.
CLIPPED = "beyond the edge"
PLURALS = {"box": "boxes", "image": "images"}


class Annotation(NamedTuple):
    """An annotated object, not checked yet."""

    class_name: str
    # Left, top, right and bottom.
    box: np.ndarray
    is_ignored: bool = False


# An image, by its path or encoded, and its objects.
Entry = tuple[str | bytes, list[Annotation]]
# Why and where boxes and images are left out or clipped, by a noun and what is
# done with it, e.g. "box" and "left out".
Problems = collections.defaultdict[tuple[str, str], list[tuple[str, str]]]


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


def make_pictures(
    splits: Mapping[str, list[Entry]],
    class_names: Sequence[str],
    source: str | os.PathLike,
    problems: Problems,
    in_fractions: bool = False,
) -> Pictures:
    """Returns pictures of images that can be read, with boxes in them.

    Boxes may be fractions of their image in place of pixels. Warns of
    everything that is left out. Raises a `ValueError` if an image is both to
    train and to test, or a split is left without a box.
    """
    splits = _divide(splits)
    paths = [
        {image for image, _ in entries if isinstance(image, str)}
        for entries in splits.values()
    ]
    both = sorted(map(os.path.basename, set.intersection(*paths)))
    if both or not all(splits.values()):
        train, test = map(len, splits.values())
        raise ValueError(
            "There must be images to train and others to test. Received: "
            f'data="{source}" with {train} and {test} images, '
            f"{len(both)} of both: {_checks.first_few(both)}. Correct the "
            "lists or the folders that divide them, or remove them for a split "
            f"at random. {_describe(problems)}"
        )
    pictures = {
        split: _make_pictures(entries, class_names, problems, in_fractions)
        for split, entries in splits.items()
    }
    for split in pictures:
        if not any(picture.scores.any() for picture in pictures[split]):
            raise ValueError(
                "A split must have at least one box that is not of a crowd or "
                "difficult (an image may have none). Received: data="
                f'"{source}" without one in "{split}". '
                f"{_describe(problems)}"
            )
    if text := _describe(problems):
        _checks.warn(f'Annotations of "{source}": {text}')
    return pictures, tuple(class_names)


def _describe(problems):
    """Returns how many boxes and images are left out or clipped, and why."""
    sentences = []
    for (noun, what), pairs in sorted(problems.items(), reverse=True):
        if pairs:
            reasons, places = zip(*pairs, strict=True)
            name = noun if len(pairs) == 1 else PLURALS[noun]
            counts = data.describe_counts(collections.Counter(reasons))
            first = _checks.first_few([*dict.fromkeys(places)])
            sentences.append(
                f"{len(pairs):,} {name} {what}: {counts} ({first})"
            )
    return "; ".join(sentences)


def _divide(splits):
    """Returns what to train on and what to test on, of images and objects.

    If the test images have objects, the validation images are used for
    training, as is common for VOC; otherwise for testing, as for COCO. Without
    either, a fifth of the images is tested on, the same for each seed.
    `splits[""]` are images of no split.
    """
    train, val, test, trainval, rest = (
        splits.get(name, [])
        for name in ("train", "val", "test", "trainval", "")
    )
    trainval = trainval or train + val
    if any(objects for _, objects in test):
        return {"train": trainval, "test": test}
    if val:
        return {"train": train, "test": val}
    entries = trainval or rest
    if not entries:
        return {"train": [], "test": []}
    rows = data.stratify(np.zeros(len(entries)), None, seed=0)
    return {x: [entries[i] for i in rows[x]] for x in ("train", "test")}


def _make_pictures(entries, class_names, problems, in_fractions):
    """Returns the pictures of a split, and adds to the problems."""
    images = [image for image, _ in entries]
    title = "Reading headers"
    heads = list(map_in_threads(data.read_header, images, title))
    numbers = {name: number for number, name in enumerate(class_names)}
    pictures = []
    for number, (image, objects) in enumerate(entries):
        head = heads[number]
        is_path = isinstance(image, str)
        name = os.path.basename(image) if is_path else f"image {number}"
        if isinstance(head, str):
            reason = "missing" if head == "missing" else "damaged"
            problems["image", "left out"].append((reason, name))
            continue
        limits = np.array([head.width, head.height] * 2)
        boxes = np.array([each.box for each in objects]).reshape(-1, 4)
        boxes = boxes * limits if in_fractions else boxes
        scores = np.array([1.0 - each.is_ignored for each in objects])
        labels = [numbers.get(each.class_name, -1) for each in objects]
        labels = np.array(labels, int)
        reasons = _find_faults(boxes, labels, scores, limits)
        for each, reason in zip(objects, reasons, strict=True):
            place = name
            if reason == "of another class":
                place = f'"{each.class_name}" in {name}'
            if reason:
                what = "clipped" if reason == CLIPPED else "left out"
                problems["box", what].append((str(reason), place))
        kept = (reasons == "") | (reasons == CLIPPED)
        pictures.append(
            Picture(
                image=image,
                size=(head.height, head.width),
                boxes=np.clip(boxes[kept], 0, limits),
                labels=labels[kept],
                scores=scores[kept],
                content=head.content,
            )
        )
    return pictures


def _find_faults(boxes, labels, scores, limits):
    """Returns what is wrong with each object, "" if nothing is."""
    clipped = np.clip(boxes, 0, limits)
    objects = np.column_stack([labels, scores, boxes])
    _, first = np.unique(objects, axis=0, return_index=True)
    faults = {
        "not four numbers": np.isnan(boxes).any(axis=1),
        "with exchanged corners": (boxes[:, :2] > boxes[:, 2:]).any(axis=1),
        "empty": (boxes[:, :2] == boxes[:, 2:]).any(axis=1),
        "outside": (clipped[:, :2] >= clipped[:, 2:]).any(axis=1),
        "of another class": labels < 0,
        "repeated": ~np.isin(np.arange(len(boxes)), first),
        CLIPPED: (np.abs(clipped - boxes) > TOLERANCE).any(axis=1),
    }
    return np.select([*faults.values()], [*faults], "")
