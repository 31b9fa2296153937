"""The fraction of heat inside boxes and regions, and the pointing game."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cbam_keras import _checks
from cbam_keras._graph import ArrayLike

if TYPE_CHECKING:
    import pandas

# The maximum of a map may lie so far beside a region, of the longer side.
MARGIN = 15 / 224


def pointing_game(
    heat_maps: ArrayLike, boxes: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Measures whether heat lies on the object, given a box around it.

    Args:
        heat_maps: Array `(B, H, W)`, not negative, as `grad_cam` returns.
        boxes: Array `(B, 4)` of integers, as in `data.load(..., boxes=True)`.
            They are `y_min, x_min, y_max, x_max` in pixels, the maxima
            exclusive.

    Returns:
        Tuple of two arrays `(B,)`: whether the maximum lies in the box, and
        the fraction of the heat in the box. Of several maxima the first one
        counts. Maps that are all 0 count as misses
        with a fraction of 0.

    Raises:
        ValueError: If the shapes do not match, if heat is negative or not
            finite, or if a box is empty or extends beyond the image.

    Example:
        >>> heat = np.zeros((1, 4, 4))
        >>> heat[0, 1, 2] = 1.0
        >>> pointing_game(heat, [[0, 2, 2, 4]])
        (array([ True]), array([1.]))

    Reference:
        Zhang et al., 2016 (https://arxiv.org/abs/1608.00507), for the
        pointing game; Wang et al., 2020 (https://arxiv.org/abs/1910.01279),
        for the fraction of the heat.
    """
    heat, boxes = _check_heat(heat_maps), np.asarray(boxes)
    if boxes.shape != (len(heat), 4):
        raise ValueError(
            f"`boxes` must be of shape ({len(heat)}, 4), a box per heat map. "
            f"Received: boxes.shape={boxes.shape}"
        )
    height, width = heat.shape[1:]
    y_min, x_min, y_max, x_max = boxes.T[..., None, None]
    fits = (0 <= y_min) & (y_min < y_max) & (y_max <= height)
    fits &= (0 <= x_min) & (x_min < x_max) & (x_max <= width)
    if not fits.all():
        raise ValueError(
            "`boxes` must be y_min, x_min, y_max, x_max within heat maps of "
            f"{height} x {width} pixels. Received: "
            f"{boxes[~fits.ravel()][0].tolist()}"
        )
    y, x = np.arange(height)[:, None], np.arange(width)
    inside = (y_min <= y) & (y < y_max) & (x_min <= x) & (x < x_max)
    total = heat.sum(axis=(1, 2))
    flat = heat.reshape(len(heat), -1)
    hottest = flat.argmax(axis=1)[:, None]
    hits = np.take_along_axis(inside.reshape(flat.shape), hottest, 1)[:, 0]
    energy = (heat * inside).sum(axis=(1, 2)) / np.where(total == 0, 1, total)
    return hits & (total > 0), energy


def heat_in_region(
    heat_maps: ArrayLike, masks: np.ndarray | Sequence[ArrayLike]
) -> "pandas.DataFrame":
    """Measures how well heat agrees with a region of any shape.

    Args:
        heat_maps: Array `(B, H, W)`, not negative, as `grad_cam` returns.
        masks: Array `(B, H, W)` or sequence of arrays, not 0 in the region. One
            of another size is resized without interpolation.

    Returns:
        A `pandas.DataFrame` with a row per image: `energy`, the fraction of the
        heat in the region; `iou` of the region and as many of the hottest
        pixels; `hit`, whether the maximum is in the region or at most 15 of 224
        pixels beside it. All are missing where the region is empty. A map of
        zeros misses it.

    Raises:
        ValueError: If the shapes do not match, or if heat is negative or not
            finite.
        ImportError: If pandas is not installed.

    Example:
        >>> heat = np.zeros((1, 4, 4))
        >>> heat[0, 1, 2] = 1.0
        >>> heat_in_region(heat, heat > 0).iloc[0].tolist()
        [1.0, 1.0, 1.0]

    Reference:
        Zhang et al., 2016 (https://arxiv.org/abs/1608.00507), for the margin.
    """
    pandas = _checks.require("pandas", extra="plot")
    heat = _check_heat(heat_maps)
    regions = [np.asarray(mask) != 0 for mask in masks]
    shapes = {region.shape for region in regions}
    if len(regions) != len(heat) or any(len(x) != 2 for x in shapes):
        raise ValueError(
            f"`masks` must be {len(heat)} of shape (H, W), one per heat map. "
            f"Received: {len(regions)} masks of the shapes {shapes}"
        )
    rows = [_agreement(*pair) for pair in zip(heat, regions, strict=True)]
    return pandas.DataFrame(rows, columns=["energy", "iou", "hit"])


def _agreement(heat, region):
    """Returns energy, IoU and hit of one image."""
    # The nearest row and column of a mask of another size.
    places = [
        (np.arange(size) + 0.5) * side // size
        for size, side in zip(heat.shape, region.shape, strict=True)
    ]
    region = region[np.ix_(*(x.astype(int) for x in places))]
    if not region.any():
        return [np.nan] * 3
    if not heat.any():
        return [0.0] * 3
    hot = (heat >= np.quantile(heat, 1 - region.mean())) & (heat > 0)
    hottest = np.unravel_index(heat.argmax(), heat.shape)
    distances = np.hypot(*(np.argwhere(region) - hottest).T)
    return [
        heat[region].sum() / heat.sum(),
        (hot & region).sum() / (hot | region).sum(),
        float(distances.min() <= MARGIN * max(heat.shape)),
    ]


def _check_heat(heat_maps):
    heat = np.asarray(heat_maps, "float64")
    # Comparisons with NaN are false.
    if heat.ndim != 3 or not np.all((heat >= 0) & (heat < np.inf)):
        raise ValueError(
            "`heat_maps` must be of shape (B, H, W), finite and not negative. "
            f"Received: heat_maps.shape={heat.shape}, numbers from "
            f"{heat.min(initial=0)} to {heat.max(initial=0)}"
        )
    return heat
