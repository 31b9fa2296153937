"""Anchors chosen from the boxes of a dataset."""

import dataclasses
import itertools
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.detection.records import Records, overlaps, scale_of

# An anchor learns boxes that it overlaps by this, as RetinaNet.
POSITIVE = 0.5
# Below this fraction of boxes with such an anchor, users are warned.
MIN_COVERAGE = 0.9
SCALES = 3
# Sizes of an anchor that are tried, in strides of its level.
FACTORS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
# Fractions of the boxes that are narrower than the narrowest shape, and wider
# than the widest.
TAILS = (0.02, 0.05, 0.1, 1 / 6)
# Boxes that are looked at, evenly spaced.
MAX_BOXES = 500


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
        keras_hub = _checks.require("keras_hub", extra="detect")
        return keras_hub.layers.AnchorGenerator(
            "xyxy",
            min_level=self.min_level,
            max_level=self.max_level,
            num_scales=SCALES,
            aspect_ratios=list(self.aspect_ratios),
            anchor_size=self.anchor_size,
        )


def choose_anchors(
    records: Records, size: tuple[int, int], min_level: int, max_level: int
) -> Anchors:
    """Returns the anchors that cover most boxes; warns if they are few."""
    boxes = records.learned_boxes() * scale_of(*size)
    rows = np.linspace(0, len(boxes) - 1, min(len(boxes), MAX_BOXES))
    boxes = boxes[rows.astype(int)]
    sides = boxes[:, 2:] - boxes[:, :2]
    shapes = sides[:, 1] / sides[:, 0]

    def tried(tail, factor):
        quantiles = np.quantile(shapes, [tail, 0.5, 1 - tail])
        ratios = tuple(round(float(ratio), 2) for ratio in quantiles)
        anchors = Anchors(min_level, max_level, factor, ratios, 0.0)
        coverage, mean = _covered(boxes, anchors, size)
        anchors = dataclasses.replace(anchors, coverage=coverage)
        # Of those that cover nearly as many, the ones that fit best.
        return (round(coverage, 2), mean), anchors

    candidates = itertools.starmap(tried, itertools.product(TAILS, FACTORS))
    _, chosen = max(candidates, key=lambda candidate: candidate[0])
    if chosen.coverage < MIN_COVERAGE:
        _checks.warn(
            f"Only {chosen.coverage:.0%} of the boxes overlap an anchor by "
            f"{POSITIVE} or more, so the remaining boxes contribute little to "
            "training. They may be too small for images of "
            f"{size[0]} x {size[1]} pixels: pass a larger image_size"
        )
    return chosen


def _covered(boxes, anchors, size):
    """Returns the fraction of boxes with an anchor, and the mean overlap."""
    levels = anchors.generator()(np.zeros((1, *size, 1), "float32"))
    tiles = np.concatenate([np.asarray(level) for level in levels.values()])
    best = np.concatenate(
        [
            overlaps(boxes[start : start + 50], tiles).max(axis=1)
            for start in range(0, len(boxes), 50)
        ]
    )
    return float((best >= POSITIVE).mean()), float(best.mean())
