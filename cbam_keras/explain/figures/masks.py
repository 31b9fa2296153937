"""Masks, what networks predict for them, and where they are wrong."""

from collections.abc import Mapping, Sequence

import numpy as np

from cbam_keras import _checks
from cbam_keras.explain.figures import style
from cbam_keras.explain.figures.grid import luminance

# Pixels of no class, and wrong ones.
IGNORED, WRONG = "white", "#E4007F"
# The widths of a panel and of the figure, at most, in inches.
SIDE, WIDTH = 2.1, 13


def plot_masks(
    images: np.ndarray,
    masks: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    ignore_index: int = 255,
    labels: Sequence[str] = (),
    title: str = "",
) -> "style.Figure":
    """Draws images with true and predicted masks, and wrong pixels.

    Args:
        images: Array `(N, H, W, C)` in [0, 255].
        masks: Array `(N, H, W)` of classes.
        predictions: Mapping of names of networks to arrays like the masks.
        class_names: Sequence of strings, the classes by number.
        ignore_index: Integer, the value of pixels without a class, drawn in
            white. Defaults to `255`.
        labels: Sequence of strings, one per image. Defaults to `()`.
        title: String, written over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`. It has a row per image, and next to each
        prediction its wrong pixels in magenta, with the fraction that is right.

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

    columns = ["image", "mask"]
    for name in predictions:
        columns += [name, "wrong pixels"]
    side = min(SIDE, WIDTH / len(columns))
    height, width = masks.shape[1:]
    figure = style.new_figure(
        side * len(columns), len(images) * (side * height / width + 0.3), title
    )
    panels = figure.subplots(len(images), len(columns), squeeze=False)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=style.FRAME, linewidth=0.6)
    for axes, name in zip(panels[0], columns, strict=True):
        text = style.wrap(name, side, style.SMALL, 2)
        axes.set_title(text, fontsize=style.SMALL, parse_math=False)

    def write(axes, text):
        text = style.wrap(text, side, style.SMALL, 3)
        axes.set_xlabel(text, fontsize=style.SMALL, parse_math=False)

    pixels = np.asarray(images, "float32") / 255
    for row, (image, mask) in enumerate(zip(pixels, masks, strict=True)):
        first, second, *others = panels[row]
        first.imshow(image, cmap="gray", vmin=0, vmax=1)
        draw(second, mask)
        if labels:
            write(first, labels[row])
        is_known = mask != ignore_index
        for name, above, below in zip(
            predictions, others[::2], others[1::2], strict=True
        ):
            predicted = predictions[name][row]
            is_wrong = is_known & (predicted != mask)
            draw(above, np.where(is_known, predicted, mask))
            below.imshow(luminance(image), cmap="gray", vmin=-0.3, vmax=1.3)
            shown = np.ma.masked_where(~is_wrong, np.ones(mask.shape))
            below.imshow(shown, cmap=colors.ListedColormap([WRONG]))
            right = 1 - is_wrong.sum() / max(1, is_known.sum())
            write(below, f"{right:.1%} right")
    handles = [
        patches.Patch(color=color, label=name)
        for name, color in zip(class_names, palette, strict=True)
    ]
    handles.append(patches.Patch(color=WRONG, label="wrong"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(columns),
        frameon=False,
        fontsize=style.SMALL,
    )
    return figure
