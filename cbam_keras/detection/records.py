"""`Records`: images and their objects before batching; boxes checked."""

import dataclasses
import math
import numbers
from typing import Any

import keras
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

    def most_objects(self) -> int:
        """Returns the most objects that are learned in any image."""
        return max(int((~ignored).sum()) for ignored in self.ignored)


def convert(
    boxes: Any, source: str, target: str, height: int, width: int
) -> np.ndarray:
    """Returns boxes in another of Keras' formats, as float32 array."""
    boxes = np.asarray(boxes, "float32").reshape(-1, 4)
    if not len(boxes):
        return boxes
    return keras.ops.convert_to_numpy(
        keras.utils.bounding_boxes.convert_format(
            boxes, source=source, target=target, height=height, width=width
        )
    )


def relative(
    boxes: Any, source: str, height: int, width: int, where: str
) -> np.ndarray:
    """Returns the boxes of an image as `"rel_xyxy"`, after checking them.

    Args:
        boxes: Array `(n, 4)` in the format `source`.
        source: String, one of Keras' formats of bounding boxes.
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
                "A box must be four finite numbers. Received: "
                f"{source} {box} in {where}"
            )
    pixels = convert(boxes, source, "xyxy", height, width)
    limits = np.array([width, height, width, height], "float32")
    outside = (pixels < -TOLERANCE) | (pixels > limits + TOLERANCE)
    pixels = np.clip(pixels, 0, limits)
    flat = (pixels[:, 2:] <= pixels[:, :2]).any(axis=1)
    for wrong, what in (
        (outside.any(axis=1), "lie in"),
        (flat, "have an area in"),
    ):
        if wrong.any():
            box = np.asarray(boxes)[np.argmax(wrong)].tolist()
            raise ValueError(
                f"A box must {what} its image. Received: {source} {box} in "
                f"{where} of {width} x {height} pixels. Correct or remove it"
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
