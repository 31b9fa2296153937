"""Panels of images with maps over them, in rows and columns."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cbam_keras import _checks
from cbam_keras.plotting import style

# Inches: the widest grid, the room for the colour bar, its greatest height,
# and the space between panels.
MAX_WIDTH, BAR_ROOM, BAR_HEIGHT, GAP = 12.5, 0.9, 3.2, 0.14
# Shows through transparent colours where there is no image.
BACKGROUND = "0.5"


def panel_size(samples: np.ndarray, side: float) -> tuple[float, float]:
    """Returns the width of a column and the height of an image, in inches.

    Images of all shapes get about the area of a square of that side.
    """
    # Signals `(B, L, C)` are wide.
    height, width = (2, 5) if samples.ndim == 3 else samples.shape[-3:-1]
    # Names and numbers need some width, too.
    ratio = min(max(width / height, 0.56), 4)
    return side * ratio**0.5 + GAP, side / ratio**0.5


def new_grid(
    rows: int, names: Sequence[str], width: float, *heights: float, title: str
) -> tuple["style.Figure", np.ndarray]:
    """Returns a figure and its panels, with a name over each column.

    Each row has a panel of each height below the other, in inches.
    """
    height = rows * sum(x + GAP for x in heights)
    figure = style.new_figure(len(names) * width + BAR_ROOM, height, title)
    figure.set_layout_engine("constrained", w_pad=GAP / 2, h_pad=GAP / 2)
    panels = figure.subplots(
        rows * len(heights),
        len(names),
        squeeze=False,
        height_ratios=heights * rows,
    )
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[], facecolor=BACKGROUND)
        axes.spines[:].set(color=style.FRAME, linewidth=0.6)
    for axes, name in zip(panels[0], names, strict=True):
        write(axes, "title", [name], width)
    return figure, panels


def write(
    axes: "style.Axes",
    place: str,
    texts: Sequence[str],
    inches: float,
    size: float = style.LABEL,
) -> None:
    """Writes the `"title"` or `"xlabel"` of a panel in lines."""
    lines = [style.wrap(text, inches, size, 3) for text in texts if text]
    setter = getattr(axes, f"set_{place}")
    setter("\n".join(lines), fontsize=size, parse_math=False)


def finish_grid(
    figure: "style.Figure",
    panels: np.ndarray,
    scale: "style.ScalarMappable",
    label: str,
) -> None:
    """Makes room for the texts of a grid, and adds the colour bar."""

    def height_of(text):
        return style.text_height(text.get_text(), text.get_fontsize())

    below = [
        max(height_of(axes.title) + height_of(axes.xaxis.label) for axes in row)
        for row in panels
    ]
    width, height = figure.get_size_inches()
    height += sum(below)
    figure.set_size_inches(width, height)
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    # Beside the first rows of a high figure.
    rows = math.ceil(BAR_HEIGHT * len(panels) / height)
    bar = figure.colorbar(
        scale,
        ax=[*panels[:rows].flat],
        fraction=0.2 / width,
        pad=0.1 / width,
        panchor=False,
        aspect=20,
        ticks=ticker.MaxNLocator(4),
        format="{x:g}",
    )
    bar.set_label(label, fontsize=style.LABEL)
    bar.ax.tick_params(labelsize=style.SMALL)
    bar.ax.set_facecolor(BACKGROUND)


def luminance(images: np.ndarray) -> np.ndarray:
    """Returns images `(..., C)` as luminance `(...)`, ITU-R BT.601."""
    if images.shape[-1] == 1:
        return images[..., 0]
    return images @ np.array([0.299, 0.587, 0.114])


def draw_sample(
    axes: "style.Axes",
    sample: np.ndarray,
    values: np.ndarray | None = None,
    scale: "style.ScalarMappable | None" = None,
) -> None:
    """Draws an image `(H, W, C)` or a signal `(L, C)`, with a map or without.

    The map, of any size and in the colours of a scale, lies over the image in
    grayscale or behind the channels of the signal.
    """
    if sample.ndim == 2:
        _draw_signal(axes, sample, values, scale)
    elif values is None or scale is None:
        axes.imshow(sample, cmap="gray", vmin=0, vmax=1)
    else:
        # Pale, so that colours can be seen on black and white.
        gray = luminance(sample)
        drawn = axes.imshow(gray, cmap="gray", vmin=-0.3, vmax=1.3)
        over = axes.imshow(values, cmap=scale.cmap, extent=drawn.get_extent())
        over.set_clim(*scale.get_clim())


def _draw_signal(axes, signal, values, scale):
    low, high = signal.min(), signal.max()
    margin = 0.08 * (high - low) or 1
    limits = (-0.5, len(signal) - 0.5, low - margin, high + margin)
    if values is None:
        axes.set_facecolor("white")
    else:
        draw_stripes(axes, values, scale, limits)
    # White edges, to be seen on dark colours too.
    for channel in signal.T:
        axes.plot(channel, color="white", linewidth=2.6)
        axes.plot(channel, color="0.1", linewidth=1.1)
    axes.axis(limits)


def draw_stripes(
    axes: "style.Axes",
    values: np.ndarray,
    scale: "style.ScalarMappable",
    extent: tuple[float, float, float, float],
    **options: Any,
) -> None:
    """Draws values `(N,)` as vertical stripes in the colours of a scale."""
    drawn = axes.imshow(
        values[None],
        cmap=scale.cmap,
        extent=extent,
        aspect="auto",
        interpolation="nearest",
        **options,
    )
    drawn.set_clim(*scale.get_clim())


def draw_box(axes: "style.Axes", box: ArrayLike, color: str = "white") -> None:
    """Draws a box `y_min, x_min, y_max, x_max` of pixels, around them."""
    effects = _checks.require("matplotlib.patheffects", extra="plot")
    patches = _checks.require("matplotlib.patches", extra="plot")
    y_min, x_min, y_max, x_max = np.subtract(box, 0.5)
    drawn = patches.Rectangle((x_min, y_min), x_max - x_min, y_max - y_min)
    # A black outline, to be seen on every image.
    outline = effects.withStroke(linewidth=2.7, foreground="black")
    drawn.set(fill=False, edgecolor=color, linewidth=1.5)
    drawn.set_path_effects([outline])
    axes.add_patch(drawn)
