"""Figures of images with maps over them, laid out to the inch.

Each panel and each line of text has a place of its own: nothing overlaps,
whatever the names, the numbers and the shapes of the images are.
"""

import re

import numpy as np

from cbam_keras import _checks
from cbam_keras.plotting.style import figure

# In inches: around the figure, between panels, and the bar of colours with
# its numbers.
EDGE, GAP = 0.14, 0.14

BAR, BAR_TEXT, BAR_HEIGHT = 0.15, 0.66, 3.2

# In points.
HEADING, LABEL, NAME, NUMBER = 13, 11, 8.5, 8

# Paler than the image, so that colours show on black and on white; more so
# where no part is left without colour.
PALE = {"cmap": "gray", "vmin": -0.18, "vmax": 1.12}

# What is behind colours that let it through where no image is.
BEHIND = "0.5"

FRAME = "0.75"

# Panels side by side are no wider together, where they may be smaller.
WIDEST = 12.5


def sides(pictures, side, widest):
    """Returns width and height of panels in inches, and of their cells.

    All shapes of images get the same area, unless they are too long.
    """
    ratio = pictures.shape[2] / pictures.shape[1]
    width, height = side * ratio**0.5, side / ratio**0.5
    shrink = min(1, max(widest, side) / width, 2.2 * side / height)
    width, height = width * shrink, height * shrink
    # Names and numbers need some room too.
    return width, height, max(width, 0.75 * side)


def sheet(width, height, title):
    """Returns a figure with room for so many inches, and where they begin."""
    title = wrapped(title, width, HEADING, 4)
    head = room([title], HEADING) + GAP / 2 * bool(title)
    size = width + 2 * EDGE, height + head + 2 * EDGE
    made = figure(size, "")
    made.set_layout_engine("none")
    if title:
        made.suptitle(
            title,
            y=1 - EDGE / size[1],
            va="top",
            fontsize=HEADING,
            parse_math=False,
        )
    return made, EDGE + head


def panel(made, place, size):
    """Returns axes of that size in inches, so far from the upper left."""
    whole_width, whole_height = made.get_size_inches()
    axes = made.add_axes(
        (
            place[0] / whole_width,
            1 - (place[1] + size[1]) / whole_height,
            size[0] / whole_width,
            size[1] / whole_height,
        )
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=FRAME, linewidth=0.6)
    axes.set_facecolor(BEHIND)
    return axes


def draw_picture(axes, picture):
    if picture.shape[-1] == 1:
        axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(picture)


def draw_box(axes, box):
    """Draws a box of pixels, which lie around whole numbers."""
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
            # To be seen on white too.
            path_effects=[
                effects.withStroke(linewidth=2.4, foreground="black")
            ],
        )
    )


def draw_bar(made, place, tall, limits, colors, label):
    """Draws a bar of colours with its numbers on the right."""
    cm = _checks.require("matplotlib.cm", extra="plot")
    axes = panel(made, place, (BAR, min(tall, BAR_HEIGHT)))
    shown = cm.ScalarMappable(cmap=colors)
    shown.set_clim(*limits)
    bar = made.colorbar(shown, cax=axes)
    bar.outline.set(edgecolor=FRAME, linewidth=0.6)
    bar.set_label(label, fontsize=LABEL)
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    bar.locator = ticker.MaxNLocator(4 if tall > 1 else 2)
    bar.formatter = ticker.StrMethodFormatter("{x:g}")
    bar.ax.tick_params(labelsize=NAME, color=FRAME)


def seen_through(name, first, alpha, power):
    """Returns a map of colours that let an image through.

    It begins at `first` of the map of that name; a `power` above 0 makes
    small values clearer than large ones.
    """
    matplotlib = _checks.require("matplotlib", extra="plot")
    colors = _checks.require("matplotlib.colors", extra="plot")
    steps = np.linspace(0, 1, 256)
    found = matplotlib.colormaps[name](first + (1 - first) * steps)
    found[:, 3] = alpha * steps**power
    return colors.ListedColormap(found)


def write(made, place, text, size):
    width, height = made.get_size_inches()
    made.text(
        place[0] / width,
        1 - place[1] / height,
        text,
        fontsize=size,
        va="top",
        parse_math=False,
    )


def write_above(axes, text, size):
    axes.set_title(text, fontsize=size, pad=3, parse_math=False)


def write_below(axes, text, size=LABEL):
    axes.set_xlabel(text, fontsize=size, labelpad=3, parse_math=False)


def write_range(axes, values):
    low, high = values.min(), values.max()
    write_below(axes, f"{low:.2f} to {high:.2f}", NUMBER)


def room(texts, size):
    """Returns the inches that the highest of these texts needs."""
    lines = max(text.count("\n") + 1 for text in texts)
    return (lines * 1.3 * size + 4) / 72 if any(texts) else 0


def wrapped(text, inches, size, most):
    """Returns a text in lines no wider than that, cut after so many."""
    lines = [""]
    words = re.findall(r"[^_+/\s-]*(?:[_+/-]+|\s|$)", " ".join(text.split()))
    for word in words:
        if lines[-1] and width_of(lines[-1] + word.rstrip(), size) > inches:
            lines.append("")
        for letter in word if width_of(word, size) > inches else [word]:
            if lines[-1] and width_of(lines[-1] + letter, size) > inches:
                lines.append("")
            lines[-1] += letter
    lines = [line.strip() for line in lines]
    if len(lines) > most:
        last = lines[most - 1] + "..."
        while width_of(last, size) > inches:
            last = last[:-4] + "..."
        lines = [*lines[: most - 1], last]
    return "\n".join(lines)


def width_of(text, size):
    """Returns how many inches wide a line is, drawn at that size."""
    fonts = _checks.require("matplotlib.font_manager", extra="plot")
    paths = _checks.require("matplotlib.textpath", extra="plot")
    width, _, _ = paths.text_to_path.get_text_width_height_descent(
        text, fonts.FontProperties(size=size), ismath=False
    )
    # Letters are set to whole pixels, which may be wider.
    return 1.04 * width / 72
