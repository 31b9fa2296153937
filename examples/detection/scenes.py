"""Embedded scenes: digits of several sizes among clutter, with their boxes."""

import functools

import numpy as np

from cbam_keras import data
from examples.detection.pictures import Picture, overlaps

# Sides in pixels: of a scene, and of a digit with the margin of its image.
CANVAS = 64
MIN_SIDE, MAX_SIDE = 22, 44
# Each scene has so many fragments of other digits, of this side.
FRAGMENTS, FRAGMENT = 8, 8
MAX_DIGITS = 3
# Two boxes overlap by at most this, as intersection over union.
MAX_OVERLAP = 0.3
# Darker pixels of a digit do not count for its box.
INK = 32


def digit_scenes(seed: int) -> tuple[dict[str, list[Picture]], tuple[str, ...]]:
    """Returns the scenes of each split, and the names of the classes."""
    digits, labels = data.load_digits()
    rows_of = data.stratify(labels, None, seed)
    splits = {}
    # The test scenes are the same for every seed.
    for split, seed_of_split, share in (("train", seed, 1), ("test", 0, 2)):
        rows = rows_of[split]
        rng = np.random.default_rng([seed_of_split, *split.encode()])
        splits[split] = [
            _make_scene(digits[rows], labels[rows], rng)
            for _ in range(max(1, len(rows) // share))
        ]
    return splits, tuple(map(str, range(10)))


def _make_scene(digits, labels, rng):
    """Returns a scene of some of these digits."""
    canvas = np.zeros((CANVAS, CANVAS), "uint8")
    for digit in digits[rng.integers(len(digits), size=FRAGMENTS)]:
        # The ink is in the middle of a digit.
        y, x = rng.integers(4, digit.shape[0] - 3 - FRAGMENT, size=2)
        top, left = rng.integers(0, CANVAS - FRAGMENT + 1, size=2)
        patch = digit[y : y + FRAGMENT, x : x + FRAGMENT]
        _overlay(canvas, patch, top, left)
    boxes, rows_with_room = np.zeros((0, 4)), []
    rows = rng.integers(len(digits), size=rng.integers(1, MAX_DIGITS + 1))
    for row in rows:
        box = _add_digit(canvas, digits[row], boxes, rng)
        if box is not None:
            boxes = np.concatenate([boxes, box[None]])
            rows_with_room.append(row)
    return Picture(
        image=canvas[..., None],
        size=canvas.shape,
        boxes=boxes,
        labels=labels[rows_with_room],
        scores=np.ones(len(boxes)),
    )


def _add_digit(canvas, digit, others, rng):
    """Adds a digit, and returns its box; `None` where there is no room."""
    side = int(rng.integers(MIN_SIDE, MAX_SIDE + 1))
    weights = _weights(digit.shape[0], side)
    # Sums of integers are exact, while those of floats depend on the CPU.
    patch = np.rint(weights @ digit @ weights.T / (2 * side) ** 2)
    patch = patch.astype("uint8")
    rows, columns = (np.flatnonzero((patch >= INK).any(a)) for a in (1, 0))
    extent = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    for _ in range(10):
        top, left = rng.integers(0, CANVAS - side + 1, size=2)
        box = np.array([left, top, left, top]) + extent
        if overlaps(box[None], others).max(initial=0) <= MAX_OVERLAP:
            _overlay(canvas, patch, top, left)
            return box
    return None


def _overlay(canvas, patch, top, left):
    place = canvas[top : top + patch.shape[0], left : left + patch.shape[1]]
    # The brighter one of overlapping pixels stays.
    np.maximum(place, patch, out=place)


@functools.cache
def _weights(old, new):
    """Returns `(new, old)` weights of linear interpolation, times `2 * new`."""
    unit = 2 * new
    position = (2 * np.arange(new) + 1) * old - new
    position = np.clip(position, 0, (old - 1) * unit)
    distance = np.abs(position[:, None] - np.arange(old) * unit)
    return np.clip(unit - distance, 0, None)
