"""`Records`: images and their objects before batching; boxes checked."""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

# Annotations round coordinates, in pixels.
TOLERANCE = 1.0


@dataclasses.dataclass(frozen=True)
class Records:
    """Images of one split, and the objects in each.

    Attributes:
        images: uint8 array `(N, H, W, C)`, or array of objects `(N,)`: paths
            as strings, or encoded images as bytes.
        sizes: int32 array `(N, 2)`, height and width of each image in pixels.
        boxes: List of float32 arrays `(n, 4)`, `"rel_xyxy"`: left, top,
            right, bottom as fractions of the image.
        labels: List of int32 arrays `(n,)`.
        ignored: List of boolean arrays `(n,)`: crowds and difficult objects,
            which are neither learned nor counted.
    """

    images: np.ndarray
    sizes: np.ndarray
    boxes: list[np.ndarray]
    labels: list[np.ndarray]
    ignored: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> "Records":
        """Returns the records of the first images."""
        return Records(*(rows[:count] for rows in vars(self).values()))

    def learned_boxes(self) -> np.ndarray:
        """Returns all boxes that are learned, `(n, 4)`."""
        pairs = zip(self.boxes, self.ignored, strict=True)
        return np.concatenate([boxes[~ignored] for boxes, ignored in pairs])


def listed(items: list[Any]) -> np.ndarray:
    """Returns paths or encoded images as an array of objects."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def scale_of(height: int, width: int) -> np.ndarray:
    """Returns what fractions of an image are multiplied by to be pixels."""
    return np.array([width, height, width, height], "float32")


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns intersections over union, `(n, m)`, of boxes as `"xyxy"`."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(x[:, 2:] - x[:, :2]).prod(axis=1) for x in (boxes, others)]
    return common / (areas[0][:, None] + areas[1] - common)


def relative(
    boxes: Sequence[Sequence[float]], height: int, width: int, where: str
) -> np.ndarray:
    """Returns the boxes of an image as `"rel_xyxy"`, after checking them.

    Args:
        boxes: Sequence of boxes as COCO has them: left, top, width, height.
        height: Integer, of the image in pixels.
        width: Integer, of the image in pixels.
        where: String, what errors call the image.

    Raises:
        ValueError: If a box is not four numbers, leaves the image or has no
            area.
    """
    for box in boxes:
        if len(box) != 4 or not all(map(_is_number, box)):
            raise ValueError(
                f"A box must be four finite numbers. Received: {box} in {where}"
            )
    pixels = np.array(boxes, "float32").reshape(-1, 4)
    pixels[:, 2:] += pixels[:, :2]
    limits = scale_of(height, width)
    outside = (pixels < -TOLERANCE) | (pixels > limits + TOLERANCE)
    pixels = np.clip(pixels, 0, limits)
    flat = pixels[:, 2:] <= pixels[:, :2]
    for wrong, requirement in ((outside, "lie in"), (flat, "have an area in")):
        rows = np.flatnonzero(wrong.any(axis=1))
        if len(rows):
            raise ValueError(
                f"A box must {requirement} its image. Received: "
                f"{boxes[rows[0]]} in {where} of {width} x {height} pixels. "
                "Correct or remove it"
            )
    return pixels / limits


def _is_number(value):
    return isinstance(value, numbers.Real) and math.isfinite(value)


def check_labels(records: Records, classes: int, received: str) -> None:
    """Raises unless there are objects, and all labels are of a class."""
    if all(ignored.all() for ignored in records.ignored):
        raise ValueError(
            "A split must have at least one box that is not of a crowd or "
            f"difficult (an image may have none). Received: {received}, which "
            "has none"
        )
    labels = np.concatenate(records.labels)
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(
            f"Labels must be integers from 0 to {classes - 1}, one per class. "
            f"Received: {received} with label {wrong[0]}"
        )
