"""`Records` and its relatives: images and labels that a source returns."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras._terminal import watched

SPLITS = ("train", "validation", "test")

# Of a larger array, evenly spaced rows of as many bytes are hashed.
HASHED_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class Records:
    """Images of one split in memory or in files, and their labels.

    Attributes:
        images: Array `(N, H, W, C)`, or array of objects `(N,)`: paths as
            strings, or encoded images as bytes.
        labels: int32 array `(N,)`.
        boxes: int32 array `(N, 4)`, or `None`.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded(self) -> bool:
        return self.images.dtype != object

    def read(self, row: int) -> tuple[Any, int]:
        """Returns one image, encoded or decoded, and its label."""
        return self.images[row], self.labels[row]

    def take(self, indices: np.ndarray) -> "Records":
        boxes = None if self.boxes is None else self.boxes[indices]
        return Records(self.images[indices], self.labels[indices], boxes)


@dataclasses.dataclass(frozen=True)
class DiskRecords:
    """Images of one split that are read from disk, each with its label.

    Attributes:
        examples: Sequence of dictionaries of `"image"`, encoded, and `"label"`.
        rows: Range of the examples that belong to the split.
    """

    examples: Sequence[Any]
    rows: range
    boxes: None = None
    decoded: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> tuple[bytes, int]:
        """Returns one encoded image and its label."""
        example = self.examples[self.rows[row]]
        return example["image"], example["label"]

    def load(self, count: int, title: str) -> Records:
        """Returns the first `count` images, encoded in memory."""
        images, labels = np.empty(count, object), np.empty(count, "int32")
        for row in watched(range(count), count, title):
            images[row], labels[row] = self.read(row)
        return Records(images, labels)


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset as it was found, before resizing and batching.

    Attributes:
        name: String, the name of the dataset.
        splits: Dictionary of all three splits.
        class_names: Tuple of strings, in label order.
        fingerprint: String, a short hash of the dataset.
        shape: Tuple `(H, W)` of all images, or `None` if they differ.
        channels: Integer, the channels to decode to.
        skipped: Tuple of strings, the images that could not be read.
        root: String, the folder of the files, or `None`.
    """

    name: str
    splits: dict[str, Any]
    class_names: tuple[str, ...]
    fingerprint: str
    shape: tuple[int, int] | None
    channels: int = 3
    skipped: tuple[str, ...] = ()
    root: str | None = None


def digest(*parts: Any) -> str:
    """Returns a short hash of strings, numbers and arrays."""
    code = hashlib.sha256()
    for part in parts:
        if not isinstance(part, np.ndarray):
            code.update(repr(part).encode())
            continue
        code.update(f"{part.dtype}{part.shape}".encode())
        if part.nbytes > HASHED_BYTES:
            rows = max(1, HASHED_BYTES * len(part) // part.nbytes)
            part = part[np.linspace(0, len(part) - 1, rows, dtype="int64")]
        code.update(np.ascontiguousarray(part).tobytes())
    return code.hexdigest()[:16]
