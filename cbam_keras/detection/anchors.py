"""Anchors chosen from the boxes of a dataset."""

import dataclasses
import itertools
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.detection.records import Records
from cbam_keras.detection.scenes import overlaps

# An anchor learns boxes that it overlaps by this, as RetinaNet.
POSITIVE = 0.5
# Below this fraction of boxes with such an anchor, users are warned.
LEAST = 0.9
SCALES = 3
# Sizes of an anchor that are tried, in strides of its level.
FACTORS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
# Fractions of the boxes that are narrower than the narrowest shape, and wider
# than the widest.
TAILS = (0.02, 0.05, 0.1, 1 / 6)
# Boxes that are looked at, evenly spaced.
MOST_BOXES = 500


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Arguments of KerasHub's `AnchorGenerator`, and what they cover.

    Attributes:
        min_level: Integer, the finest level.
        max_level: Integer, the coarsest level.
        anchor_size: Number, the size in strides.
        aspect_ratios: Tuple of numbers, heights over widths.
        coverage: Number in [0, 1], the fraction of boxes that overlap an
            anchor by at least one half.
    """

    min_level: int
    max_level: int
    anchor_size: float
    aspect_ratios: tuple[float, ...]
    coverage: float

    def __str__(self) -> str:
        shapes = ", ".join(f"{ratio:g}" for ratio in self.aspect_ratios)
        return (
            f"Anchors on levels P{self.min_level} to P{self.max_level}, of "
            f"{self.anchor_size:g} strides, height over width {shapes}: "
            f"{self.coverage:.1%} of the boxes overlap one by {POSITIVE} or "
            "more"
        )

    def generator(self) -> Any:
        """Returns KerasHub's layer."""
        return _generator(
            self.min_level, self.max_level, self.anchor_size, self.aspect_ratios
        )


def choose_anchors(
    records: Records, size: tuple[int, int], min_level: int, max_level: int
) -> Anchors:
    """Returns the anchors that cover most boxes; warns if they are few."""
    boxes = np.concatenate(
        [
            own[~ignored]
            for own, ignored in zip(records.boxes, records.ignored, strict=True)
        ]
    ) * np.array([size[1], size[0]] * 2, "float32")
    rows = np.linspace(0, len(boxes) - 1, min(len(boxes), MOST_BOXES))
    boxes = boxes[rows.astype(int)]
    sides = boxes[:, 2:] - boxes[:, :2]
    shapes = sides[:, 1] / sides[:, 0]
    best: tuple = (-1.0, 0.0)
    for tail, factor in itertools.product(TAILS, FACTORS):
        quantiles = np.quantile(shapes, [tail, 0.5, 1 - tail])
        ratios = tuple(round(float(ratio), 2) for ratio in quantiles)
        coverage, mean = _covered(
            boxes, _anchors(min_level, max_level, factor, ratios, size)
        )
        # Of those that cover nearly as many, the ones that fit best.
        if (round(coverage, 2), mean) > best[:2]:
            best = round(coverage, 2), mean, factor, ratios, coverage
    chosen = Anchors(min_level, max_level, *best[2:])
    if chosen.coverage < LEAST:
        _checks.warn(
            f"Only {chosen.coverage:.0%} of the boxes overlap an anchor by "
            f"{POSITIVE} or more, so the others are hardly learned. They may "
            f"be too small for images of {size[0]} x {size[1]} pixels: pass a "
            "larger image_size"
        )
    return chosen


def _generator(min_level, max_level, factor, ratios):
    keras_hub = _checks.require("keras_hub", extra="detect")
    return keras_hub.layers.AnchorGenerator(
        "xyxy",
        min_level=min_level,
        max_level=max_level,
        num_scales=SCALES,
        aspect_ratios=list(ratios),
        anchor_size=factor,
    )


def _anchors(min_level, max_level, factor, ratios, size):
    images = np.zeros((1, *size, 1), "float32")
    levels = _generator(min_level, max_level, factor, ratios)(images)
    return np.concatenate([np.asarray(x) for x in levels.values()])


def _covered(boxes, anchors):
    """Returns the fraction of boxes with an anchor, and the mean overlap."""
    best = np.concatenate(
        [
            overlaps(boxes[start : start + 50], anchors).max(axis=1)
            for start in range(0, len(boxes), 50)
        ]
    )
    return float((best >= POSITIVE).mean()), float(best.mean())
