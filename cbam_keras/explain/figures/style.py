"""Colors, and the figures, axes, legends and texts that all figures share."""

import itertools
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cbam_keras import _checks, _terminal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

# Okabe and Ito's palette, which color-blind people can distinguish.
COLORS = {
    "none": "#0072B2",
    "se": "#D55E00",
    "cbam": "#009E73",
    "channel": "#CC79A7",
    "spatial": "#E69F00",
}
OTHER_COLORS = "#56B4E9", "#000000"
# Markers and dashes distinguish networks in black and white.
MARKERS = "os^DvPX<>ph*"
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
# Panels of images have frames of this color.
FRAME = "0.75"
# Font sizes in points.
TITLE, LABEL, SMALL = 13, 11, 8.5


def kind_of(name: str) -> str | None:
    """Returns the kind of attention in a name, `None` if there is none."""
    words = set(re.findall("[a-z]+", name.lower()))
    if {"channel", "spatial"} <= words or "cbam" in words:
        return "cbam"
    return next((kind for kind in COLORS if kind in words), None)


def styles_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns arguments of matplotlib's `plot` for each name.

    A name has the color of its kind of attention.
    """
    kinds = [kind_of(name) for name in names]
    unused = [color for kind, color in COLORS.items() if kind not in kinds]
    others = itertools.cycle([*OTHER_COLORS, *unused, *COLORS.values()])
    return {
        name: {
            "color": COLORS[kind] if kind else next(others),
            "linestyle": DASHES[place % len(DASHES)],
            "marker": MARKERS[place % len(MARKERS)],
        }
        for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
    }


def color_scale(
    name: str,
    limits: tuple[float, float],
    first: float = 0,
    alpha: float | np.ndarray = 1,
) -> "ScalarMappable":
    """Returns a colormap over a range of values.

    It begins at `first` of 1; `alpha` are the opacities of its 256 colors.
    """
    matplotlib = _checks.require("matplotlib", extra="plot")
    table = matplotlib.colormaps[name](np.linspace(first, 1, 256))
    table[:, 3] = alpha
    return scale_of(matplotlib.colors.ListedColormap(table), limits)


def scale_of(colors: Any, limits: tuple[float, float]) -> "ScalarMappable":
    """Returns a colormap over a range of values."""
    cm = _checks.require("matplotlib.cm", extra="plot")
    scale = cm.ScalarMappable(cmap=colors)
    scale.set_clim(*limits)
    return scale


def new_figure(width: float, height: float, title: str) -> "Figure":
    """Returns an empty figure of a size in inches, the title not counted."""
    title = wrap(title, width, TITLE, 4)
    # Figures made without pyplot open no window and touch no global state.
    figure = _checks.require("matplotlib.figure", extra="plot").Figure(
        figsize=(width, height + text_height(title, TITLE)),
        layout="constrained",
    )
    if title:
        # A dollar sign does not start a formula.
        figure.suptitle(title, fontsize=TITLE, parse_math=False)
    return figure


def capitalize(text: str) -> str:
    """Returns a text as the label of an axis; "mIoU" becomes "MIoU"."""
    return f"{text[:1].upper()}{text[1:]}"


def style_axes(axes: "Axes", grid: Literal["x", "y", "both"]) -> None:
    """Draws a light grid along `"x"`, `"y"` or `"both"` and two spines."""
    axes.grid(alpha=0.3, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(
    figure: "Figure", panels: Iterable["Axes"], **options: Any
) -> "Legend":
    """Puts one legend for all panels below them, and returns it."""
    handles: dict = {}
    for axes in panels:
        for handle, label in zip(
            *axes.get_legend_handles_labels(), strict=True
        ):
            handles.setdefault(label, handle)
    options = {"loc": "outside lower center", "ncols": 4, **options}
    return figure.legend(handles.values(), handles, frameon=False, **options)


def wrap(text: object, inches: float, size: float, max_lines: int) -> str:
    """Returns a text in lines that fit a width at a font size in points."""
    # The letters of DejaVu Sans are 0.6 of its size wide on average.
    length = max(4, int(inches * 72 / (0.6 * size)))
    printed = _terminal.make_printable(text)
    return textwrap.fill(
        printed, length, max_lines=max_lines, placeholder="..."
    )


def text_height(text: str, size: float) -> float:
    """Returns how many inches a text needs at a font size in points."""
    return (1.3 * size * (text.count("\n") + 1) + 4) / 72 if text else 0
