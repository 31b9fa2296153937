"""Images and labels of a source, and how they are split."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import watched

SPLITS = ("train", "validation", "test")

# The fraction of the training images used for testing if a dataset has no
# test images.
TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True)
class Records:
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

    def read(self, row: int) -> tuple[Any, int]:
        return self.images[row], self.labels[row]

    def take(self, rows: np.ndarray) -> "Records":
        boxes = None if self.boxes is None else self.boxes[rows]
        return Records(self.images[rows], self.labels[rows], boxes)


@dataclasses.dataclass(frozen=True)
class DiskRecords:
    """Images of one split that are read from disk, each with its label."""

    examples: Sequence[Any]
    rows: np.ndarray
    boxes: None = None
    decoded: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> tuple[bytes, int]:
        example = self.examples[int(self.rows[row])]
        return example["image"], example["label"]

    def take(self, rows: np.ndarray) -> "DiskRecords":
        return DiskRecords(self.examples, self.rows[rows])

    def load(self, count: int, title: str) -> Records:
        """Returns the first `count` images, encoded in memory."""
        images, labels = np.empty(count, object), np.empty(count, "int32")
        for row in watched(range(count), count, title):
            images[row], labels[row] = self.read(row)
        return Records(images, labels)


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset, before resizing and batching.

    `shape` is the size of all images, `None` if they differ; `channels` those
    to decode to, 0 until known; `root` the folder of the files, if any.
    """

    name: str
    splits: dict[str, Any]
    class_names: tuple[str, ...]
    fingerprint: str
    shape: tuple[int, int] | None = None
    channels: int = 0
    skipped: tuple[str, ...] = ()
    root: Any = None


def digest(*parts: Any) -> str:
    """Returns a short hash of strings, numbers and arrays."""
    code = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            code.update(f"{part.dtype}{part.shape}".encode())
            code.update(part.tobytes())
        else:
            code.update(repr(part).encode())
    return code.hexdigest()[:16]


def stratified(
    labels: np.ndarray,
    validation_fraction: float | None,
    seed: int,
    test: bool = True,
) -> dict[str, np.ndarray]:
    """Returns the indices of each split, the same fraction of each class."""
    splits: dict[str, list] = {name: [] for name in SPLITS}
    # The test images are chosen without the user's seed, so that results
    # for different seeds can be compared.
    fixed, seeded = np.random.default_rng(0), np.random.default_rng([seed, 1])
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        tested = validated = 0
        if test:
            indices = fixed.permutation(indices)
            tested = round(TEST_FRACTION * len(indices))
            # One is left to train where there is one, two where there are
            # enough for each split.
            tested = min(max(1, tested), max(0, len(indices) - 2))
        trained = seeded.permutation(indices[tested:])
        if validation_fraction is not None:
            # Both sides of the split keep at least one image of each class.
            validated = round(validation_fraction * len(trained))
            validated = min(max(1, validated), len(trained) - 1)
        splits["test"].append(indices[:tested])
        splits["validation"].append(trained[:validated])
        splits["train"].append(trained[validated:])
    return {
        name: np.sort(np.concatenate(parts)) for name, parts in splits.items()
    }


def completed(source: Source, validation_fraction: float, seed: int) -> Source:
    """Returns all three splits, the missing ones split off training."""
    splits = source.splits
    if len(splits) == len(SPLITS):
        return source
    train = splits["train"]
    fraction = None if "validation" in splits else validation_fraction
    if isinstance(train, DiskRecords):
        rows = _cut(len(train), fraction, "test" not in splits)
    else:
        rows = stratified(train.labels, fraction, seed, "test" not in splits)
    parts = {split: train.take(rows[split]) for split in SPLITS}
    parts |= {split: splits[split] for split in splits if split != "train"}
    return dataclasses.replace(source, splits=parts)


def _cut(count, validation_fraction, test):
    """Returns the indices of each split where labels are not known."""
    tested = round(TEST_FRACTION * count) if test else 0
    validated = 0
    if validation_fraction is not None:
        validated = max(1, round(validation_fraction * (count - tested)))
    parts = np.split(np.arange(count), [tested, count - validated])
    return dict(zip(("test", "train", "validation"), parts, strict=True))


def check_classes(source: Source, received: str) -> None:
    """Raises unless there are two classes and enough images of each."""
    names, splits = source.class_names, source.splits
    if len(names) < 2:
        raise ValueError(
            "A dataset must have at least two classes, in a folder a folder "
            f"of images for each. Received: {received} with the classes "
            f"{list(names)}"
        )
    for split, records in splits.items():
        # One for each split that is split off.
        needed = 1 + (split == "train") * (len(SPLITS) - len(splits))
        counts = np.bincount(records.labels, minlength=len(names))
        few = [f'"{names[i]}"' for i in np.flatnonzero(counts < needed)]
        if few:
            raise ValueError(
                f'Each class must have at least {needed} images in "{split}". '
                f"Received: {received}, with fewer of class "
                f"{_checks.first_few(few)}. Add images, or remove the class "
                "everywhere"
            )
