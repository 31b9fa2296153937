"""Colors, axes, legends, texts and panels of images, as figures share them."""

import itertools
import math
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
# This one shows through transparent colors where there is no image.
BACKGROUND = "0.5"
# The pieces of a word, after each of which a line may end.
WORD_PIECES = re.compile(r"[^_/.-]*[_/.-]+|[^_/.-]+")
# In inches: the room for a color bar, its greatest height, and the space
# between panels.
BAR_ROOM = 0.9
BAR_HEIGHT = 3.2
GAP = 0.14
# How `imshow` draws values along one axis.
FLAT: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest"}
# Font sizes in points.
TITLE = 13
LABEL = 11
SMALL_TEXT = 8.5


def attention_in(name: str) -> str | None:
    """Returns the kind of attention in a name, `None` if there is none."""
    words = set(re.findall("[a-z]+", name.lower()))
    if {"channel", "spatial"} <= words or "cbam" in words:
        return "cbam"
    return next((kind for kind in COLORS if kind in words), None)


def styles_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns arguments of matplotlib's `plot` for each name.

    A name has the color of its kind of attention. Names without a kind get the
    colors that are left.
    """
    kinds = [attention_in(name) for name in names]
    unused = [color for kind, color in COLORS.items() if kind not in kinds]
    further_colors = itertools.cycle([*OTHER_COLORS, *unused, *COLORS.values()])
    return {
        name: {
            "color": COLORS[kind] if kind else next(further_colors),
            "linestyle": DASHES[place % len(DASHES)],
            "marker": MARKERS[place % len(MARKERS)],
        }
        for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
    }


def color_scale(
    colors: str | Sequence[str],
    limits: tuple[float, float],
    first: float = 0,
    alpha: float | np.ndarray = 1,
) -> "ScalarMappable":
    """Returns the scale of a list of colors, or of a colormap, over a range.

    A colormap begins at the fraction `first` of its colors. `alpha` is the
    opacity of its 256 colors.
    """
    cm = _checks.require("matplotlib.cm", extra="plot")
    matplotlib = _checks.require("matplotlib", extra="plot")
    table: Any = colors
    if isinstance(colors, str):
        table = matplotlib.colormaps[colors](np.linspace(first, 1, 256))
        table[:, 3] = alpha
    normalize = matplotlib.colors.Normalize(*limits)
    listed = matplotlib.colors.ListedColormap(table)
    return cm.ScalarMappable(normalize, listed)


def new_figure(width: float, height: float, title: str) -> "Figure":
    """Returns an empty figure of a size in inches, the title not counted."""
    _checks.require("matplotlib.figure", extra="plot")
    # The module subclasses a class of matplotlib.
    from cbam_keras.explain.figures.shown import ShownFigure

    title = wrap_to(title, width, TITLE, 4)
    # Figures made without pyplot open no window and touch no global state.
    figure = ShownFigure(
        figsize=(width, height + text_height(title, TITLE)),
        layout="constrained",
    )
    if title:
        # A dollar sign does not start a formula.
        figure.suptitle(title, fontsize=TITLE, parse_math=False)
    return figure


def style_axes(axes: "Axes", grid: Literal["x", "y", "both"]) -> None:
    """Draws a light grid along `"x"`, `"y"` or `"both"` and two spines."""
    axes.grid(alpha=0.3, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(
    figure: "Figure", panels: Iterable["Axes"], columns: int = 4
) -> "Legend":
    """Puts one legend for all panels below them, and returns it."""
    handles: dict = {}
    for axes in panels:
        for handle, label in zip(
            *axes.get_legend_handles_labels(), strict=True
        ):
            handles.setdefault(label, handle)
    return figure.legend(
        handles.values(),
        handles,
        frameon=False,
        loc="outside lower center",
        ncols=columns,
    )


def wrap_to(text: object, inches: float, size: float, max_lines: int) -> str:
    """Returns a text in lines that fit a width at a font size in points.

    A line of the text starts a new line. A word that is too long ends a line
    after an underscore, slash, dot or hyphen; one without any is cut.
    """
    # The letters of DejaVu Sans are 0.6 of its size wide on average.
    length = max(4, int(inches * 72 / (0.6 * size)))
    printed = _terminal.make_printable(text)
    paragraphs = printed.splitlines()[:max_lines]
    lines: list[str] = []
    for place, paragraph in enumerate(paragraphs, 1):
        # Each of the other paragraphs needs a line, too.
        room = max_lines - len(lines) - (len(paragraphs) - place)
        words = paragraph.split()
        parts = [part for word in words for part in _split_word(word, length)]
        lines += textwrap.wrap(
            " ".join(parts), length, max_lines=room, placeholder="..."
        )
    return "\n".join(lines)


def _split_word(word, length):
    """Returns a word in parts that fit a line, as few as possible.

    Two parts never fit into one line, so no space comes to be between them.
    """
    parts = [""]
    for piece in WORD_PIECES.findall(word):
        for start in range(0, len(piece), length):
            part = piece[start : start + length]
            if len(parts[-1] + part) > length:
                parts.append("")
            parts[-1] += part
    return parts


def text_height(text: str, size: float) -> float:
    """Returns how many inches a text needs at a font size in points."""
    if not text:
        return 0
    # Lines are 1.3 font sizes apart, with 4 points between text and panel.
    num_lines = text.count("\n") + 1
    return (1.3 * size * num_lines + 4) / 72


def panel_size(sample: np.ndarray, side: float) -> tuple[float, float]:
    """Returns the width of a column and the height of an image, in inches.

    Images of all shapes get about the area of a square of that side.
    """
    # Signals `(L, C)` are wide.
    height, width = (2, 5) if sample.ndim == 2 else sample.shape[-3:-1]
    # Names and numbers need some width, too.
    ratio = min(max(width / height, 0.56), 4)
    return side * ratio**0.5 + GAP, side / ratio**0.5


class Grid:
    """Panels of images in rows and columns, with maps in one scale of colors.

    Each of the rows has one panel per height in every column, one below the
    other; each counts as a row in `panels`. `names` are written over the
    columns. Sizes are in inches.
    """

    def __init__(
        self,
        rows: int,
        names: Sequence[str],
        width: float,
        heights: Sequence[float],
        scale: "ScalarMappable",
        title: str,
    ):
        self.width = width
        self.scale = scale
        # How `imshow` draws a map.
        self.colors: dict[str, Any] = {"cmap": scale.cmap, "norm": scale.norm}
        self.figure = new_figure(
            len(names) * width + BAR_ROOM,
            rows * sum(height + GAP for height in heights),
            title,
        )
        self.figure.set_layout_engine(
            "constrained", w_pad=GAP / 2, h_pad=GAP / 2
        )
        self.panels = self.figure.subplots(
            rows * len(heights),
            len(names),
            squeeze=False,
            height_ratios=[*heights] * rows,
        )
        for axes in self.panels.flat:
            axes.set(xticks=[], yticks=[], facecolor=BACKGROUND)
            axes.spines[:].set(color=FRAME, linewidth=0.6)
        for axes, name in zip(self.panels[0], names, strict=True):
            self.write_above(axes, name)

    def write_above(self, axes: "Axes", name: str, size: float = LABEL) -> None:
        """Writes the name of a panel."""
        text = wrap_to(name, self.width, size, 3)
        axes.set_title(text, fontsize=size, parse_math=False)

    def write_below(self, axes: "Axes", *texts: str) -> None:
        """Writes texts, each in lines of its own."""
        lines = [wrap_to(text, self.width, LABEL, 3) for text in texts if text]
        axes.set_xlabel("\n".join(lines), fontsize=LABEL, parse_math=False)

    def draw(
        self, axes: "Axes", sample: np.ndarray, values: np.ndarray | None = None
    ) -> None:
        """Draws an image `(H, W, C)` or a signal `(L, C)`, and a map of it.

        The map, of any size, lies over the image in grayscale or behind the
        channels of the signal.
        """
        if sample.ndim == 2:
            self._draw_signal(axes, sample, values)
        elif values is None:
            axes.imshow(sample, cmap="gray", vmin=0, vmax=1)
        else:
            # The image is pale, so that colors can be seen on it.
            gray = luminance(sample)
            picture = axes.imshow(gray, cmap="gray", vmin=-0.3, vmax=1.3)
            axes.imshow(values, **self.colors, extent=picture.get_extent())

    def _draw_signal(self, axes, signal, values):
        """Draws the channels of a signal as lines, in front of a map of it."""
        length, channels = signal.shape
        limits = (-0.5, length - 0.5, 0, channels)
        if values is None:
            axes.set_facecolor("white")
        else:
            axes.imshow(values[None], **self.colors, **FLAT, extent=limits)
        # Each channel has a lane with a scale of its own, the first on top, or
        # one would hide another or look flat next to it.
        for place, channel in enumerate(signal.T[::-1]):
            margin = 0.08 * np.ptp(channel) or 1
            low = channel.min() - margin
            high = channel.max() + margin
            lane = place + (channel - low) / (high - low)
            # White edges can be seen on dark colors, too.
            axes.plot(lane, color="white", linewidth=2.6)
            axes.plot(lane, color="0.1", linewidth=1.1)
        axes.axis(limits)

    def draw_sorted(
        self,
        axes: "Axes",
        values: np.ndarray,
        ends: tuple[float, float],
        scale: "ScalarMappable",
    ) -> None:
        """Draws values as a curve, the largest first, colored by a scale.

        The vertical axis goes from the first to the second of `ends`.
        """
        low, high = ends
        values = np.sort(values)[::-1]
        curve = axes.stairs(
            values, baseline=low, fill=True, facecolor=BACKGROUND
        )
        limits = (0, len(values), low, high)
        colors: dict = {"cmap": scale.cmap, "norm": scale.norm}
        picture = axes.imshow(
            values[None], **colors, **FLAT, extent=limits, clip_path=curve
        )
        picture.set_zorder(curve.get_zorder())
        axes.axis(limits)
        axes.set_facecolor("white")

    def make_room(self) -> "Figure":
        """Returns the figure, with room for the texts."""

        def height_of(text):
            return text_height(text.get_text(), text.get_fontsize())

        width, height = self.figure.get_size_inches()
        for row in self.panels:
            height += max(
                height_of(axes.title) + height_of(axes.xaxis.label)
                for axes in row
            )
        self.figure.set_size_inches(width, height)
        return self.figure

    def finish(self, label: str) -> "Figure":
        """Returns the figure, with room for the texts and a color bar."""
        ticker = _checks.require("matplotlib.ticker", extra="plot")
        width, height = self.make_room().get_size_inches()
        # The bar stands next to the first rows of a high figure.
        rows = math.ceil(BAR_HEIGHT * len(self.panels) / height)
        bar = self.figure.colorbar(
            self.scale,
            ax=[*self.panels[:rows].flat],
            fraction=0.2 / width,
            pad=0.1 / width,
            panchor=False,
            aspect=20,
            ticks=ticker.MaxNLocator(4),
            format="{x:g}",
        )
        bar.set_label(label, fontsize=LABEL)
        bar.ax.tick_params(labelsize=SMALL_TEXT)
        bar.ax.set_facecolor(BACKGROUND)
        return self.figure


def luminance(images: np.ndarray) -> np.ndarray:
    """Returns images `(..., C)` as luminance `(...)`, ITU-R BT.601."""
    if images.shape[-1] == 1:
        return images[..., 0]
    return images @ np.array([0.299, 0.587, 0.114])
