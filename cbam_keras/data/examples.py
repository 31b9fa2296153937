"""Images and labels of a dataset, before resizing and batching."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras._terminal import show_progress


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images of one split in memory or in files, and their labels.

    Images are an array `(N, H, W, C)` or an array of objects `(N,)`: paths as
    strings, or encoded images as bytes. Labels are int32 `(N,)`, boxes int32
    `(N, 4)`. Images of one group, `(N,)`, are not split; 16-bit grey ones hold
    so many bits, `None` without any.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None = None
    groups: np.ndarray | None = None
    bits: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded(self) -> bool:
        return self.images.dtype != object

    def read(self, row: int) -> tuple[np.ndarray | str | bytes, int]:
        return self.images[row], self.labels[row]

    def take(self, rows: np.ndarray) -> "Examples":
        boxes = None if self.boxes is None else self.boxes[rows]
        groups = None if self.groups is None else self.groups[rows]
        return dataclasses.replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            boxes=boxes,
            groups=groups,
        )


@dataclasses.dataclass(frozen=True)
class DiskExamples:
    """Images of one split that are read from disk, each with its label."""

    examples: Sequence[Mapping]
    rows: np.ndarray
    boxes: None = None
    groups: None = None
    bits: None = None
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
        for row in show_progress(range(count), count, title):
            images[row], labels[row] = self.read(row)
        return Examples(images, labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset, before resizing and batching.

    `shape` is the size of all images, `None` if they differ; `channels` those
    to decode to, 0 until known; `root` the folder of the files, if any;
    `left_out` the numbers of files that are not read, by the reason, `damaged`
    those of them that cannot be read, and `skipped` their names;
    `contents` short hashes of files, by their paths; `draw` a function of
    what has been split, the name of the split and the seed that makes the
    images from it.
    """

    # `DiskExamples` where they are too large for memory.
    splits: dict[str, Any]
    class_names: tuple[str, ...]
    fingerprint: str = ""
    shape: tuple[int, int] | None = None
    channels: int = 0
    skipped: tuple[str, ...] = ()
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    damaged: Mapping[str, int] = dataclasses.field(default_factory=dict)
    root: pathlib.Path | None = None
    contents: Mapping[str, str] = dataclasses.field(default_factory=dict)
    draw: Callable[[Examples, str, int], Examples] | None = None

    def name_of(self, path: str) -> str:
        """Returns the path of a file from the root, if there is one."""
        if self.root is None:
            return path
        try:
            return pathlib.PurePath(os.path.relpath(path, self.root)).as_posix()
        except ValueError:
            # It is on another drive of Windows.
            return path

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the images before anything is trained."""
        notes = []
        if self.left_out:
            total = sum(self.left_out.values())
            notes.append(
                f"{total:,} left out: {describe_counts(self.left_out)}"
            )
        if bits := self.splits["train"].bits:
            notes.append(f"16-bit images hold {bits} bits, scaled to 8")
        return tuple(notes)


def describe_counts(counts: Mapping[str, int]) -> str:
    """Returns how many files are left out for each reason, as text."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


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
