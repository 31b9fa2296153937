"""Masks, what networks predict for them, and where they are wrong."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cbam_keras import _checks
from cbam_keras.explain.figures import style
from cbam_keras.explain.figures.grid import luminance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pixels of no class, and wrong ones.
IGNORED, WRONG = "white", "#D55E00"
# The width of a panel in inches.
SIDE = 2.1


def plot_masks(
    images: np.ndarray,
    masks: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    ignore_index: int = 255,
    labels: Sequence[str] = (),
    title: str = "",
) -> "Figure":
    """Draws images, masks, predictions, and the pixels that are wrong.

    Args:
        images: Array `(N, H, W, C)` in [0, 255].
        masks: Array `(N, H, W)` of classes.
        predictions: Mapping of names of networks to arrays like the masks.
        class_names: Sequence of strings, the classes by number.
        ignore_index: Integer, the value of pixels without a class, which are
            white. Defaults to `255`.
        labels: Sequence of strings, one per image. Defaults to `()`.
        title: String, written over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`: a row per image, and below each
        prediction its wrong pixels in orange, with the fraction of pixels that
        are right.

    Raises:
        ValueError: If the arrays do not fit each other.
        ImportError: If matplotlib is not installed.

    Example:
        >>> images = np.random.randint(0, 256, (2, 8, 8, 3))
        >>> masks = np.random.randint(0, 2, (2, 8, 8))
        >>> figure = plot_masks(images, masks, {"cbam": masks}, ["no", "yes"])
    """
    shapes = {name: np.shape(x) for name, x in predictions.items()}
    if not shapes or {*shapes.values(), np.shape(images)[:3]} != {masks.shape}:
        raise ValueError(
            "`images`, `masks` and `predictions` must be of the same images. "
            f"Received: images {np.shape(images)}, masks {masks.shape}, "
            f"predictions {shapes}"
        )
    colors = _checks.require("matplotlib.colors", extra="plot")
    patches = _checks.require("matplotlib.patches", extra="plot")
    matplotlib = _checks.require("matplotlib", extra="plot")
    palette = [
        matplotlib.colormaps["tab20"](index % 20)
        for index in range(len(class_names))
    ]
    map_of = colors.ListedColormap([*palette, IGNORED])

    def draw(axes, mask):
        mask = np.where(mask == ignore_index, len(palette), mask)
        axes.imshow(mask, cmap=map_of, vmin=-0.5, vmax=len(palette) + 0.5)

    height, width = masks.shape[1:]
    columns = ["image", "mask", *predictions]
    figure = style.new_figure(
        SIDE * len(columns),
        2 * len(images) * (SIDE * height / width + 0.1),
        title,
    )
    panels = figure.subplots(2 * len(images), len(columns), squeeze=False)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=style.FRAME, linewidth=0.6)
    for axes, name in zip(panels[0], columns, strict=True):
        text = style.wrap(name, SIDE, style.LABEL, 2)
        axes.set_title(text, fontsize=style.LABEL, parse_math=False)
    for row, (image, mask) in enumerate(zip(images, masks, strict=True)):
        above, below = panels[2 * row], panels[2 * row + 1]
        above[0].imshow(np.asarray(image, "float32") / 255, cmap="gray", vmin=0)
        draw(above[1], mask)
        if labels:
            text = style.wrap(labels[row], SIDE, style.SMALL, 3)
            above[0].set_xlabel(text, fontsize=style.SMALL, parse_math=False)
        for axes in below[:2]:
            axes.set_visible(False)
        is_known = mask != ignore_index
        gray = luminance(np.asarray(image, "float32") / 255)
        for column, prediction in enumerate(predictions.values(), 2):
            draw(above[column], np.where(is_known, prediction[row], mask))
            is_wrong = is_known & (prediction[row] != mask)
            axes = below[column]
            axes.imshow(gray, cmap="gray", vmin=-0.3, vmax=1.3)
            shown = np.ma.masked_where(~is_wrong, np.ones(mask.shape))
            axes.imshow(shown, cmap=colors.ListedColormap([WRONG]))
            right = 1 - is_wrong.sum() / max(1, is_known.sum())
            axes.set_xlabel(f"{right:.1%} right", fontsize=style.SMALL)
    handles = [
        patches.Patch(color=color, label=name)
        for name, color in zip(class_names, palette, strict=True)
    ]
    handles.append(patches.Patch(color=WRONG, label="wrong"))
    count = max(2, len(columns))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=count,
        frameon=False,
        fontsize=style.SMALL,
    )
    return figure
