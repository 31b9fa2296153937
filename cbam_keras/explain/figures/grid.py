"""Panels of images with maps over them, in rows and columns."""

import math
from collections.abc import Sequence

import numpy as np

from cbam_keras import _checks
from cbam_keras.explain.figures import style

# Inches: the widest grid, the room for the color bar, its greatest height,
# and the space between panels.
MAX_WIDTH, BAR_ROOM, BAR_HEIGHT, GAP = 12.5, 0.9, 3.2, 0.14
# Shows through transparent colors where there is no image.
BACKGROUND = "0.5"


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

    Each of the rows has a panel of each of the heights below the other, in
    `panels` too; `names` are written over the columns. Sizes are in inches.
    """

    def __init__(
        self,
        rows: int,
        names: Sequence[str],
        width: float,
        heights: Sequence[float],
        scale: "style.ScalarMappable",
        title: str,
    ):
        self.width, self.scale = width, scale
        self.figure = style.new_figure(
            len(names) * width + BAR_ROOM,
            rows * sum(height + GAP for height in heights),
            title,
        )
        space = {"w_pad": GAP / 2, "h_pad": GAP / 2}
        self.figure.set_layout_engine("constrained", **space)
        self.panels = self.figure.subplots(
            rows * len(heights),
            len(names),
            squeeze=False,
            height_ratios=[*heights] * rows,
        )
        for axes in self.panels.flat:
            axes.set(xticks=[], yticks=[], facecolor=BACKGROUND)
            axes.spines[:].set(color=style.FRAME, linewidth=0.6)
        for axes, name in zip(self.panels[0], names, strict=True):
            self.write_above(axes, name)

    def write_above(
        self, axes: "style.Axes", name: str, size: float = style.LABEL
    ) -> None:
        """Writes the name of a panel."""
        text = style.wrap(name, self.width, size, 3)
        axes.set_title(text, fontsize=size, parse_math=False)

    def write_below(self, axes: "style.Axes", *texts: str) -> None:
        """Writes texts, each in lines of its own."""
        size = style.LABEL
        lines = [style.wrap(x, self.width, size, 3) for x in texts if x]
        axes.set_xlabel("\n".join(lines), fontsize=size, parse_math=False)

    def draw(
        self,
        axes: "style.Axes",
        sample: np.ndarray,
        values: np.ndarray | None = None,
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
            drawn = axes.imshow(gray, cmap="gray", vmin=-0.3, vmax=1.3)
            self._draw_map(axes, values, extent=drawn.get_extent())

    def _draw_map(self, axes, values, **options):
        drawn = axes.imshow(values, cmap=self.scale.cmap, **options)
        drawn.set_clim(*self.scale.get_clim())

    def _draw_signal(self, axes, signal, values):
        length, channels = signal.shape
        limits = (-0.5, length - 0.5, 0, channels)
        if values is None:
            axes.set_facecolor("white")
        else:
            options = {"aspect": "auto", "interpolation": "nearest"}
            self._draw_map(axes, values[None], extent=limits, **options)
        # Each channel has a lane with a scale of its own, the first on top, or
        # one would hide another or look flat next to it.
        for place, channel in enumerate(signal.T[::-1]):
            margin = 0.08 * np.ptp(channel) or 1
            low, high = channel.min() - margin, channel.max() + margin
            lane = place + (channel - low) / (high - low)
            # White edges can be seen on dark colors, too.
            axes.plot(lane, color="white", linewidth=2.6)
            axes.plot(lane, color="0.1", linewidth=1.1)
        axes.axis(limits)

    def draw_sorted(
        self, axes: "style.Axes", values: np.ndarray, ends: tuple[float, float]
    ) -> None:
        """Draws values as a curve, the largest first, colored below.

        The heights are from the first to the second of the ends.
        """
        low, high = ends
        values = np.sort(values)[::-1]
        curve = axes.stairs(
            values,
            baseline=low,
            fill=True,
            facecolor=BACKGROUND,
            edgecolor="0.2",
            linewidth=0.8,
        )
        self._draw_map(
            axes,
            values[None],
            extent=(0, len(values), low, high),
            aspect="auto",
            interpolation="nearest",
            clip_path=curve,
            zorder=curve.get_zorder(),
        )
        axes.set(xlim=(0, len(values)), ylim=(low, high), facecolor="white")

    def make_room(self) -> "style.Figure":
        """Returns the figure, with room for the texts."""

        def height_of(text):
            return style.text_height(text.get_text(), text.get_fontsize())

        width, height = self.figure.get_size_inches()
        for row in self.panels:
            height += max(
                height_of(axes.title) + height_of(axes.xaxis.label)
                for axes in row
            )
        self.figure.set_size_inches(width, height)
        return self.figure

    def finish(self, label: str) -> "style.Figure":
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
        bar.set_label(label, fontsize=style.LABEL)
        bar.ax.tick_params(labelsize=style.SMALL)
        bar.ax.set_facecolor(BACKGROUND)
        return self.figure


def luminance(images: np.ndarray) -> np.ndarray:
    """Returns images `(..., C)` as luminance `(...)`, ITU-R BT.601."""
    if images.shape[-1] == 1:
        return images[..., 0]
    return images @ np.array([0.299, 0.587, 0.114])
