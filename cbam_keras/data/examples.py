"""Images and labels of a dataset, before resizing and batching."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras._terminal import watched


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images of one split in memory or in files, and their labels.

    Images are an array `(N, H, W, C)` or an array of objects `(N,)`: paths as
    strings, or encoded images as bytes. Labels are int32 `(N,)`, boxes int32
    `(N, 4)`.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded(self) -> bool:
        return self.images.dtype != object

    def read(self, row: int) -> tuple[np.ndarray | str | bytes, int]:
        return self.images[row], self.labels[row]

    def take(self, rows: np.ndarray) -> "Examples":
        boxes = None if self.boxes is None else self.boxes[rows]
        return Examples(self.images[rows], self.labels[rows], boxes)


@dataclasses.dataclass(frozen=True)
class DiskExamples:
    """Images of one split that are read from disk, each with its label."""

    examples: Sequence[Mapping]
    rows: np.ndarray
    boxes: None = None
    decoded: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> tuple[bytes, int]:
        example = self.examples[int(self.rows[row])]
        return example["image"], example["label"]

    def take(self, rows: np.ndarray) -> "DiskExamples":
        return DiskExamples(self.examples, self.rows[rows])

    def load(self, count: int, title: str) -> Examples:
        """Returns the first `count` images, encoded in memory."""
        images, labels = np.empty(count, object), np.empty(count, "int32")
        for row in watched(range(count), count, title):
            images[row], labels[row] = self.read(row)
        return Examples(images, labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset, before resizing and batching.

    `shape` is the size of all images, `None` if they differ; `channels` those
    to decode to, 0 until known; `root` the folder of the files, if any.
    """

    name: str
    # `DiskExamples` where they are too large for memory.
    splits: dict[str, Any]
    class_names: tuple[str, ...]
    fingerprint: str = ""
    shape: tuple[int, int] | None = None
    channels: int = 0
    skipped: tuple[str, ...] = ()
    root: pathlib.Path | None = None


def digest(*parts: object) -> str:
    """Returns a short hash of strings, numbers, bytes and arrays."""
    code = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            code.update(f"{part.dtype}{part.shape}".encode())
            code.update(part.tobytes())
        elif isinstance(part, bytes):
            code.update(part)
        else:
            code.update(repr(part).encode())
    return code.hexdigest()[:16]
