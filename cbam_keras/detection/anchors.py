"""Anchors that cover the boxes of a dataset."""

import dataclasses
import itertools

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.detection.batches import Examples, overlaps, scale_of

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
    """Arguments of KerasHub's `AnchorGenerator`, and what they cover."""

    min_level: int
    max_level: int
    # In strides, and heights over widths.
    anchor_size: float
    aspect_ratios: tuple[float, ...]
    # The fraction of boxes that overlap an anchor by one half.
    coverage: float = 0.0

    def __str__(self) -> str:
        shapes = ", ".join(f"{ratio:g}" for ratio in self.aspect_ratios)
        return (
            f"Anchors on levels P{self.min_level} to P{self.max_level}, of "
            f"{self.anchor_size:g} strides, height over width {shapes}: "
            f"{self.coverage:.1%} of the boxes overlap one by {POSITIVE} or "
            "more"
        )

    def generator(self) -> keras.layers.Layer:
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
    examples: Examples, size: tuple[int, int], min_level: int, max_level: int
) -> Anchors:
    """Returns the anchors that cover most boxes; warns if they are few."""
    boxes = examples.learned["box"] * scale_of(size)
    rows = np.linspace(0, len(boxes) - 1, min(len(boxes), MAX_BOXES))
    boxes = boxes[rows.astype(int)]
    widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
    tried = []
    for tail, factor in itertools.product(TAILS, FACTORS):
        quantiles = np.quantile(heights / widths, [tail, 0.5, 1 - tail])
        ratios = tuple(round(float(ratio), 2) for ratio in quantiles)
        anchors = Anchors(min_level, max_level, factor, ratios)
        levels = anchors.generator()(np.zeros((1, *size, 1), "float32"))
        tiles = np.concatenate([np.asarray(level) for level in levels.values()])
        # In parts, which need less memory.
        parts = np.array_split(boxes, 10)
        best = np.concatenate([overlaps(p, tiles).max(axis=1) for p in parts])
        coverage = float((best >= POSITIVE).mean())
        anchors = dataclasses.replace(anchors, coverage=coverage)
        # Of those that cover nearly as many, the ones that fit best.
        tried.append(((round(coverage, 2), float(best.mean())), anchors))
    _, chosen = max(tried, key=lambda pair: pair[0])
    if chosen.coverage < MIN_COVERAGE:
        _checks.warn(
            f"Only {chosen.coverage:.0%} of the boxes overlap an anchor by "
            f"{POSITIVE} or more, and the others are hardly learned. They may "
            f"be too small for images of {size[0]} x {size[1]} pixels: pass a "
            "larger image_size"
        )
    return chosen
