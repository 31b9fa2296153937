"""Images of any kind of data set, in one form, and how they are divided."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks

TEST_FRACTION = 0.2
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


def stratified(
    labels: np.ndarray,
    validation_fraction: float | None,
    seed: int,
    *,
    test: bool = True,
) -> dict[str, np.ndarray]:
    """Returns the indices of each split, the same part from each class.

    Without a `validation_fraction`, or without `test`, that split is empty.
    """
    split: dict[str, list] = {name: [] for name in SPLITS}
    # The test images are chosen without the user's seed, so that results
    # for different seeds can be compared.
    fixed, seeded = np.random.default_rng(0), np.random.default_rng([seed, 1])
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        tested = 0
        if test:
            indices = fixed.permutation(indices)
            tested = round(TEST_FRACTION * len(indices))
            # One is left to train where there is one, two where there are
            # enough for each split.
            tested = min(max(1, tested), max(0, len(indices) - 2))
        trained = seeded.permutation(indices[tested:])
        held_out = 0
        if validation_fraction is not None:
            # Both sides of the split keep at least one image of each class.
            held_out = round(validation_fraction * len(trained))
            held_out = min(max(1, held_out), len(trained) - 1)
        split["test"].append(indices[:tested])
        split["validation"].append(trained[:held_out])
        split["train"].append(trained[held_out:])
    return {
        name: np.sort(np.concatenate(parts)) for name, parts in split.items()
    }


def complete(
    splits: dict[str, Records], validation_fraction: float, seed: int
) -> dict[str, Records]:
    """Returns all three splits, those not given taken off the training's."""
    train = splits["train"]
    missing = [name for name in SPLITS if name not in splits]
    if not missing:
        return splits
    parts = stratified(
        train.labels,
        validation_fraction if "validation" in missing else None,
        seed,
        test="test" in missing,
    )
    return {
        name: train.take(parts[name])
        if name in missing or name == "train"
        else splits[name]
        for name in SPLITS
    }


def check_classes(
    splits: dict[str, Records], class_names: Sequence[str], received: str
) -> None:
    """Raises unless there are several classes and each split has them all."""
    if len(class_names) < 2:
        raise ValueError(
            "A data set must have at least two classes. Received: "
            f"{received}, which has {len(class_names)}: "
            f"{_checks.first_few(class_names)}"
        )
    for split, records in splits.items():
        counts = np.bincount(records.labels, minlength=len(class_names))
        absent = [class_names[i] for i in np.flatnonzero(counts == 0).tolist()]
        if absent:
            raise ValueError(
                "Every split must have images of every class. Received: "
                f'{received}, whose split "{split}" has none of class '
                f"{_listed(absent)}. Remove the class everywhere, or add "
                "images"
            )


def check_divisible(
    splits: dict[str, Records], class_names: Sequence[str], received: str
) -> None:
    """Raises unless each class can lend an image to each missing split."""
    needed = 1 + sum(name not in splits for name in SPLITS)
    counts = np.bincount(splits["train"].labels, minlength=len(class_names))
    few = [class_names[i] for i in np.flatnonzero(counts < needed).tolist()]
    if few and needed > 1:
        raise ValueError(
            f"Each class needs at least {needed} training images, one for "
            "each split that is made from them. Received: "
            f"{received}, with fewer of class {_listed(few)}"
        )


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


def _listed(names):
    return _checks.first_few([f'"{name}"' for name in names])
