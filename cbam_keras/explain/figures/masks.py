"""Masks, what networks predict for them, and where they are wrong."""

from collections.abc import Mapping, Sequence

import numpy as np

from cbam_keras import _checks
from cbam_keras.explain.figures import style
from cbam_keras.explain.figures.grid import MAX_WIDTH, Grid, panel_size

# Pixels of no class, and wrong ones.
IGNORED, WRONG = "white", "#E4007F"
# The width of a panel, at most, in inches.
SIDE = 2.1


def plot_masks(
    images: np.ndarray,
    masks: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    ignore_index: int = 255,
    labels: Sequence[str] = (),
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
    pixels = np.asarray(images, "float32") / 255
    side = min(SIDE, MAX_WIDTH / len(columns))
    width, height = panel_size(pixels[0], side)
    scale = style.scale_of(colors.ListedColormap([WRONG]), (0, 1))
    grid = Grid(len(images), columns, width, [height], scale, "")
    for row, (image, mask) in enumerate(zip(pixels, masks, strict=True)):
        first, second, *others = grid.panels[row]
        grid.draw(first, image)
        grid.write_below(first, *labels[row : row + 1])
        draw(second, mask)
        is_known = mask != ignore_index
        for name, above, below in zip(
            predictions, others[::2], others[1::2], strict=True
        ):
            predicted = predictions[name][row]
            is_wrong = is_known & (predicted != mask)
            draw(above, np.where(is_known, predicted, mask))
            grid.draw(below, image, np.where(is_wrong, 1, np.nan))
            right = 1 - is_wrong.sum() / max(1, is_known.sum())
            grid.write_below(below, f"{right:.1%} right")
    handles = [
        patches.Patch(color=color, label=name)
        for name, color in zip(class_names, palette, strict=True)
    ]
    handles.append(patches.Patch(color=WRONG, label="wrong"))
    grid.figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(columns),
        frameon=False,
        fontsize=style.SMALL,
    )
    return grid.make_room()
