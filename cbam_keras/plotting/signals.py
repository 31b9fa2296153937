"""Heat behind signals."""

from typing import Any

from cbam_keras.plotting.sheet import (
    BAR_ROOM,
    BAR_WIDTH,
    LABEL,
    MAX_WIDTH,
    draw_color_bar,
    frame_panel,
    transparent_colors,
)
from cbam_keras.plotting.style import line_length, new_figure, text_height, wrap

# In inches.
HEIGHT, WIDTH = 1.3, 6


def draw_signals(
    signals: Any, heat_maps: Any, notes: Any, labels: Any, title: str
) -> Any:
    """Draws a row per signal `(L, C)`: a panel per network, lines over heat."""
    column = min(WIDTH, MAX_WIDTH / len(heat_maps))
    line = text_height(["one"], LABEL)
    figure = new_figure(
        len(heat_maps) * column + BAR_ROOM,
        len(signals) * (HEIGHT + bool(notes) * line) + line,
        title,
    )
    grid = figure.add_gridspec(
        len(signals),
        len(heat_maps) + 1,
        width_ratios=[column] * len(heat_maps) + [BAR_WIDTH],
    )
    # Darker with the heat, as there is no image below.
    colors = transparent_colors("Oranges", 0, 1, 0)
    for row, signal in enumerate(signals):
        for place, (name, heat) in enumerate(heat_maps.items()):
            axes = figure.add_subplot(grid[row, place])
            frame_panel(axes)
            axes.set_facecolor("white")
            _draw_signal(axes, signal, heat[row], colors)
            if row == 0:
                axes.set_title(
                    wrap(name, line_length(column, LABEL), 2),
                    fontsize=LABEL,
                    parse_math=False,
                )
            if place == 0:
                text = wrap(labels[row], line_length(HEIGHT, LABEL), 2)
                axes.set_ylabel(text, fontsize=LABEL, parse_math=False)
            if name in notes:
                text = "  ".join(x for x in notes[name][row] if x)
                axes.set_xlabel(text, fontsize=LABEL, parse_math=False)
    bar = figure.add_subplot(grid[:, -1])
    draw_color_bar(figure, bar, (0, 1), colors, "Heat")
    return figure


def _draw_signal(axes, signal, heat, colors):
    """Draws the channels of a signal as lines over its heat."""
    low, high = signal.min(), signal.max()
    margin = 0.08 * (high - low) or 1
    limits = (-0.5, len(signal) - 0.5, low - margin, high + margin)
    axes.imshow(
        heat[None],
        cmap=colors,
        vmin=0,
        vmax=1,
        aspect="auto",
        extent=limits,
        interpolation="nearest",
    )
    # White edges, to be seen on dark heat too.
    for channel in signal.T:
        axes.plot(channel, color="white", linewidth=2.6)
        axes.plot(channel, color="0.1", linewidth=1.1)
    axes.axis(limits)
