"""Anchors that cover the boxes of a dataset."""

import functools
import itertools

import keras
import keras_hub
import numpy as np

from cbam_keras import _checks
from examples.detection.pictures import Batches, overlaps, scale_of

# An anchor learns boxes that it overlaps by this, as RetinaNet.
POSITIVE = 0.5
# Below this fraction of boxes with such an anchor, users are warned.
MIN_COVERAGE = 0.9
# These sizes of an anchor are tried, in strides of its level.
FACTORS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
# These fractions of the boxes may be narrower than the narrowest shape, and
# wider than the widest.
TAILS = (0.02, 0.05, 0.1, 1 / 6)
# The fit is measured on so many boxes, evenly spaced.
MAX_BOXES = 500


# All networks of a seed have the same anchors.
@functools.lru_cache(maxsize=1)
def choose_anchors(
    batches: Batches, min_level: int, max_level: int
) -> dict[str, object]:
    """Returns arguments of `AnchorGenerator` that cover most boxes.

    KerasHub's own cover less than half of the digits in the scenes. Warns if
    few boxes are covered.
    """
    height, width = batches.size
    boxes = np.concatenate(batches.boxes) * scale_of(batches.size)
    rows = np.linspace(0, len(boxes) - 1, min(len(boxes), MAX_BOXES))
    boxes = boxes[rows.astype(int)]
    widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
    candidates = []
    for tail, factor in itertools.product(TAILS, FACTORS):
        quantiles = np.quantile(heights / widths, [tail, 0.5, 1 - tail])
        arguments = {
            "min_level": min_level,
            "max_level": max_level,
            "num_scales": 3,
            # Heights over widths.
            "aspect_ratios": [round(float(ratio), 2) for ratio in quantiles],
            "anchor_size": factor,
        }
        generator = keras_hub.layers.AnchorGenerator("xyxy", **arguments)
        levels = generator(np.zeros((1, height, width, 1), "float32"))
        tiles = keras.ops.concatenate(list(levels.values()))
        tiles = keras.ops.convert_to_numpy(tiles)
        # Parts of the boxes need less memory than all at once.
        parts = np.array_split(boxes, 10)
        best = np.concatenate([overlaps(x, tiles).max(axis=1) for x in parts])
        coverage = float((best >= POSITIVE).mean())
        # Of anchors that cover nearly as many, those that fit best win.
        fit = round(coverage, 2), float(best.mean())
        candidates.append((fit, coverage, arguments))
    _, coverage, arguments = max(candidates, key=lambda candidate: candidate[0])
    if coverage < MIN_COVERAGE:
        _checks.warn(
            f"Only {coverage:.0%} of the boxes overlap an anchor by {POSITIVE} "
            "or more, and the others are hardly learned. They may be too small "
            f"for images of {height} x {width} pixels: pass a larger image_size"
        )
    return arguments
