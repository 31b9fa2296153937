"""`"digit_scenes"`: several digits of several sizes among clutter."""

import functools

import numpy as np

from cbam_keras import data
from cbam_keras.detection.records import Records

# Sides in pixels: of a scene, and of a digit with the margin of its image.
CANVAS = 64
SMALLEST, LARGEST = 22, 44
# Fragments of other digits in each scene, and their side.
FRAGMENTS, FRAGMENT = 8, 8
MOST_DIGITS = 3
# Two boxes overlap by at most this, as intersection over union.
OVERLAP = 0.3
# Darker pixels of a digit do not count for its box.
INK = 32


def digit_scenes(seed: int) -> tuple[dict[str, Records], tuple[str, ...]]:
    """Returns the splits and the names of the classes.

    A training scene per digit for training, and half as many scenes as digits
    for testing; the test scenes are the same for every seed.
    """
    digits, labels = data.mnist_digits()
    indices = data.stratified(labels, None, seed)
    splits = {}
    for split, share in (("train", 1), ("test", 2)):
        own = indices[split]
        rng = np.random.default_rng(
            [0 if split == "test" else seed, *split.encode()]
        )
        splits[split] = _scenes(
            digits[own], labels[own], max(1, len(own) // share), rng
        )
    return splits, tuple(str(digit) for digit in range(10))


def _scenes(digits, labels, count, rng):
    """Returns records of `count` scenes of these digits."""
    images = np.zeros((count, CANVAS, CANVAS, 1), "uint8")
    boxes, classes = [], []
    for canvas in images[..., 0]:
        for source in digits[rng.integers(len(digits), size=FRAGMENTS)]:
            _add_fragment(canvas, source, rng)
        found = np.zeros((0, 4), "float32")
        shown = rng.integers(len(digits), size=rng.integers(1, MOST_DIGITS + 1))
        kept = []
        for index in shown:
            box = _add_digit(canvas, digits[index], found, rng)
            if box is not None:
                found = np.concatenate([found, box[None]])
                kept.append(labels[index])
        boxes.append(found / CANVAS)
        classes.append(np.array(kept, "int32"))
    return Records(
        images=images,
        sizes=np.full((count, 2), CANVAS, "int32"),
        boxes=boxes,
        labels=classes,
        ignored=[np.zeros(len(own), bool) for own in classes],
    )


def _add_fragment(canvas, source, rng):
    # From the middle of a digit, where the ink is.
    y, x = rng.integers(4, source.shape[0] - 3 - FRAGMENT, size=2)
    top, left = rng.integers(0, CANVAS - FRAGMENT + 1, size=2)
    _overlay(canvas, source[y : y + FRAGMENT, x : x + FRAGMENT], top, left)


def _add_digit(canvas, digit, others, rng):
    """Adds a digit, and returns its box; `None` where there is no room."""
    side = int(rng.integers(SMALLEST, LARGEST + 1))
    patch = _resized(digit, side)
    rows, columns = (np.flatnonzero((patch >= INK).any(a)) for a in (1, 0))
    extent = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    for _ in range(10):
        top, left = rng.integers(0, CANVAS - side + 1, size=2)
        box = np.array([left, top, left, top], "float32") + extent
        if overlaps(box[None], others).max(initial=0) <= OVERLAP:
            _overlay(canvas, patch, top, left)
            return box
    return None


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns intersections over union, `(n, m)`, of boxes as `"xyxy"`."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(x[:, 2:] - x[:, :2]).prod(axis=1) for x in (boxes, others)]
    return common / (areas[0][:, None] + areas[1] - common)


def _overlay(canvas, patch, top, left):
    place = canvas[top : top + patch.shape[0], left : left + patch.shape[1]]
    # Of overlapping pixels the brighter one stays.
    np.maximum(place, patch, out=place)


def _resized(digit, side):
    weights = _weights(digit.shape[0], side)
    return np.rint(weights @ digit @ weights.T).astype("uint8")


@functools.cache
def _weights(old, new):
    """Returns the matrix `(new, old)` of linear interpolation."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    distance = np.abs(position[:, None] - np.arange(old))
    return np.clip(1 - distance, 0, None)
