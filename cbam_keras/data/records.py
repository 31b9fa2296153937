"""Images of any kind of data set, in one form, and how they are divided."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

SPLITS = ("train", "validation", "test")

# More is not hashed whole.
HASHED_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class Records:
    """Images of one split that can be taken by number, and their labels.

    `images` is an array `(N, H, W, C)`, or an array of objects: paths as
    strings, or encoded images as bytes.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded(self) -> bool:
        return self.images.dtype != object

    def take(self, indices: np.ndarray) -> "Records":
        boxes = None if self.boxes is None else self.boxes[indices]
        return Records(self.images[indices], self.labels[indices], boxes)


@dataclasses.dataclass(frozen=True)
class Stream:
    """Images of one split that come one after the other.

    `make` returns a `tf.data.Dataset` of encoded images and labels.
    """

    make: Callable[[], Any]
    size: int

    def __len__(self) -> int:
        return self.size


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as it was found: its splits, and what is known of it.

    `shape` is the height and width of all images, or `None` where images
    differ; `channels` those to decode to; `root` the folder that files lie
    in.
    """

    name: str
    splits: dict[str, Records | Stream]
    class_names: tuple[str, ...]
    fingerprint: str
    shape: tuple[int, int] | None
    channels: int = 3
    skipped: tuple[str, ...] = ()
    root: str | None = None


def digest(*parts: Any) -> str:
    """Returns a short code of strings, numbers and arrays."""
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
