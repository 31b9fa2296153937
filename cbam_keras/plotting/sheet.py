"""Grids of images, with maps over them and a colour bar."""

import numpy as np

from cbam_keras import _checks

# Font sizes in points.
LABEL, NAME, NUMBER = 11, 8.5, 8
# In inches: the widest grid, the room for the colour bar, its width, its
# greatest height, and what matplotlib leaves around a panel.
MAX_WIDTH, BAR_ROOM, BAR_WIDTH, BAR_HEIGHT, GAP = 12.5, 0.9, 0.15, 3.2, 0.14
FRAME = "0.75"
# Shows through transparent colours where there is no image.
BACKGROUND = "0.5"
# Lighter than the image, so that colours can be seen on black and on white.
PALE = {"cmap": "gray", "vmin": -0.18, "vmax": 1.12}


def panel_size(images, side, widest):
    """Returns width and height of a panel, and its column's width, in inches.

    Images of all shapes get the same area, unless they are too long.
    """
    ratio = images.shape[2] / images.shape[1]
    width, height = side * ratio**0.5, side / ratio**0.5
    shrink = min(1, max(widest, side) / width, 2.2 * side / height)
    width, height = width * shrink, height * shrink
    # Names and numbers need some width too.
    return width, height, max(width, 0.75 * side) + GAP


def frame_panel(axes):
    """Removes the ticks of axes and gives them a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=FRAME, linewidth=0.6)
    axes.set_facecolor(BACKGROUND)


def luminance(images: np.ndarray) -> np.ndarray:
    """Returns images `(..., C)` as luminance `(...)`, ITU-R BT.601."""
    if images.shape[-1] == 1:
        return images[..., 0]
    return images @ np.array([0.299, 0.587, 0.114])


def draw_image(axes, image):
    if image.shape[-1] == 1:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(image)


def draw_box(axes, box):
    """Draws a box, whose edges lie between pixels."""
    effects = _checks.require("matplotlib.patheffects", extra="plot")
    patches = _checks.require("matplotlib.patches", extra="plot")
    y_min, x_min, y_max, x_max = box
    axes.add_patch(
        patches.Rectangle(
            (x_min - 0.5, y_min - 0.5),
            x_max - x_min,
            y_max - y_min,
            fill=False,
            edgecolor="white",
            linewidth=1.1,
            # A black outline, to be seen on white too.
            path_effects=[
                effects.withStroke(linewidth=2.4, foreground="black")
            ],
        )
    )


def transparent_colors(name, first, alpha, power):
    """Returns a colormap through which an image can be seen.

    Args:
        name: Name of a colormap of matplotlib.
        first: Number in [0, 1], where in that colormap it begins.
        alpha: Opacity of the greatest value.
        power: Exponent of the opacity over the value: 0 is the same for all.
    """
    matplotlib = _checks.require("matplotlib", extra="plot")
    colors = _checks.require("matplotlib.colors", extra="plot")
    steps = np.linspace(0, 1, 256)
    table = matplotlib.colormaps[name](first + (1 - first) * steps)
    table[:, 3] = alpha * steps**power
    return colors.ListedColormap(table)


def heat_colors():
    # Inferno without its blackest quarter, which would look like shadow.
    return transparent_colors("inferno", 0.25, 0.85, 0.7)


def draw_color_bar(figure, axes, limits, colors, label):
    """Draws a colour bar into axes, from their top."""
    cm = _checks.require("matplotlib.cm", extra="plot")
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    mappable = cm.ScalarMappable(cmap=colors)
    mappable.set_clim(*limits)
    bar = figure.colorbar(mappable, cax=axes)
    bar.outline.set(edgecolor=FRAME, linewidth=0.6)
    bar.set_label(label, fontsize=LABEL)
    bar.locator = ticker.MaxNLocator(4)
    bar.formatter = ticker.StrMethodFormatter("{x:g}")
    axes.tick_params(labelsize=NAME, color=FRAME)
    axes.set_facecolor(BACKGROUND)
