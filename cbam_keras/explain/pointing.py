"""The pointing game: the fraction of heat inside boxes."""

import numpy as np

from cbam_keras._graph import ArrayLike


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
    heat, boxes = np.asarray(heat_maps, "float64"), np.asarray(boxes)
    # Comparisons with NaN are false.
    if heat.ndim != 3 or not np.all((heat >= 0) & (heat < np.inf)):
        raise ValueError(
            "`heat_maps` must be of shape (B, H, W), finite and not negative. "
            f"Received: heat_maps.shape={heat.shape}, numbers from "
            f"{heat.min(initial=0)} to {heat.max(initial=0)}"
        )
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
