"""Images and labels of a dataset, before resizing and batching."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cbam_keras.data.kinds import IMAGES, noun_of

# The class of pixels of no class, in masks that are loaded.
IGNORED = 255

# What labels may be in place of a class for each image: regression targets, or
# 0 and 1 for each of several classes.
NUMBERS, SEVERAL = "numbers", "several"


class Header(NamedTuple):
    """What is known of an image before it is used, with a hash of content."""

    height: int
    width: int
    is_grey: bool
    content: str


@dataclasses.dataclass(frozen=True)
class Rows:
    """Some rows of an array, read when they are asked for."""

    values: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        return self.values[self.rows[key]]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.values.shape[1:])

    @property
    def ndim(self) -> int:
        return self.values.ndim


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images of one split in memory or in files, and their labels.

    Images are an array `(N, H, W, C)`, another one as of `kinds.as_array`, or
    an array of objects `(N,)`: paths as strings, or encoded images as bytes.
    Labels are int32 `(N,)`, or float32 `(N, ..., k)`: numbers, or 0 and 1 for
    each class. Boxes are int32 `(N, 4)`. `places` `(N,)` number the images of
    all splits, in whatever way these are cut; `None` if a seed draws them.

    Masks are an array `(N, H, W)` or paths `(N,)`; labels are then 0, and
    `pixels` counts those of each class, `(N, classes)`.
    """

    images: np.ndarray | Rows
    labels: np.ndarray
    boxes: np.ndarray | None = None
    # Images of one group are not split; folds are those of the authors.
    groups: np.ndarray | None = None
    folds: np.ndarray | None = None
    masks: np.ndarray | Rows | None = None
    pixels: np.ndarray | None = None
    # A `masks.Encoding`, by which values of files are classes.
    encoding: Any = None
    places: np.ndarray | None = None
    names: np.ndarray | Rows | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded(self) -> bool:
        return self.images.dtype != object

    @property
    def is_grouped(self) -> bool:
        """Whether some images must stay together."""
        groups = self.groups
        return groups is not None and len({*groups.tolist()}) < len(self)

    @property
    def strata(self) -> np.ndarray:
        """The class of each image that splits divide evenly, 0 without one."""
        are_classes = self.labels.ndim == 1
        return self.labels if are_classes else np.zeros(len(self), "int32")

    @property
    def paths(self) -> np.ndarray | Rows | None:
        """Where the images come from, `None` for arrays."""
        return self.names if self.decoded else self.images

    def read(self, row: int) -> tuple[np.ndarray | str | bytes, Any]:
        return self.images[row], self.labels[row]

    def read_mask(self, row: int) -> np.ndarray:
        """Returns the class of each pixel, `(H, W)`."""
        mask = np.asarray(self.masks)[row]
        return mask if self.encoding is None else self.encoding.read(mask)

    def take(self, rows: np.ndarray) -> "Examples":
        taken: dict[str, Any] = {
            name: values[rows]
            for name, values in vars(self).items()
            if isinstance(values, np.ndarray | Rows) and name != "images"
        }
        images = self.images
        if isinstance(images, Rows):
            taken["images"] = Rows(images.values, images.rows[rows])
        elif self.decoded and self.names is not None:
            # What was read from files is not changed by anyone else, so that
            # all splits share its memory.
            taken["images"] = Rows(images, rows)
        else:
            taken["images"] = images[rows]
        return dataclasses.replace(self, **taken)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset, before resizing and batching.

    `shape` is the size of all images, `None` if they differ; `channels` are
    those to decode to, 0 until known; `grouped_by` is the argument by which
    images stay together; `left_out` are the numbers of files that are not read,
    by the reason; `copies` say by which rule copies were split, `None` without
    any; `draw` makes images of what has been split, by a seed.
    """

    # `Examples`, of which masks, groups and others may be `None`.
    splits: dict[str, Any]
    class_names: tuple[str, ...]
    fingerprint: str = ""
    kind: str = IMAGES
    shape: tuple[int, ...] | None = None
    channels: int = 0
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    root: pathlib.Path | None = None
    grouped_by: str = ""
    remarks: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    copies: str | None = None
    headers: Mapping[str, Header] = dataclasses.field(default_factory=dict)
    draw: Callable[[Examples, str, int], Examples] | None = None

    def name_of(self, path: str) -> str:
        """Returns the path of a file from the root, if there is one."""
        if self.root is None:
            return path
        start = f"{self.root}{os.sep}"
        if path.startswith(start) and ".." not in path:
            # Faster by far for the names of 100,000 files.
            return path.removeprefix(start).replace(os.sep, "/")
        try:
            return pathlib.PurePath(os.path.relpath(path, self.root)).as_posix()
        except ValueError:
            # It is on another drive of Windows.
            return path

    @property
    def noun(self) -> str:
        """What one example is called."""
        return noun_of(self.kind)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the images before anything is trained."""
        if not self.left_out:
            return self.remarks
        total, counts = sum(self.left_out.values()), self.left_out
        note = f"{total:,} left out: {describe_counts(counts)}"
        return (note, *self.remarks)


def describe_counts(counts: Mapping[str, int]) -> str:
    """Returns how many files are left out for each reason, as text."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


def digest(*parts: object) -> str:
    """Returns a short hash of strings, numbers, bytes and arrays."""
    code = hashlib.sha256()
    for part in parts:
        # Several inputs of one example are of the second type.
        if isinstance(part, np.ndarray | np.void):
            code.update(f"{part.dtype}{part.shape}".encode())
            # An array in memory is hashed in place, without a copy.
            is_in_place = isinstance(part, np.ndarray) and part.size > 0
            is_in_place = is_in_place and part.flags.c_contiguous
            code.update(part.data if is_in_place else part.tobytes())
        elif isinstance(part, bytes):
            code.update(part)
        else:
            code.update(repr(part).encode())
    return code.hexdigest()[:16]
