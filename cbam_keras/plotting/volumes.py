"""Heat over slices of volumes."""

from typing import Any

import numpy as np

from cbam_keras.plotting.sheet import (
    BAR_HEIGHT,
    BAR_ROOM,
    BAR_WIDTH,
    GAP,
    LABEL,
    MAX_WIDTH,
    PALE,
    draw_color_bar,
    frame_panel,
    heat_colors,
    panel_size,
)
from cbam_keras.plotting.style import line_length, new_figure, wrap

# More do not fit beside each other.
MAX_SLICES = 6


def draw_volumes(
    volumes: Any, heat_maps: Any, notes: Any, labels: Any, title: str
) -> Any:
    """Draws a row per volume `(D, H, W)` and network, a column per slice."""
    count = min(volumes.shape[1], MAX_SLICES)
    slices = np.linspace(0, volumes.shape[1] - 1, count).round().astype(int)
    _, height, column = panel_size(volumes[:, 0], 1.6, MAX_WIDTH / count - GAP)
    rows = [(i, name) for i in range(len(volumes)) for name in heat_maps]
    figure = new_figure(
        count * column + 2 * BAR_ROOM, len(rows) * (height + GAP) + 0.3, title
    )
    figure.get_layout_engine().set(w_pad=GAP / 2, h_pad=GAP / 2)
    grid = figure.add_gridspec(
        len(rows), count + 1, width_ratios=[column] * count + [BAR_WIDTH]
    )
    colors = heat_colors()
    for row, (index, name) in enumerate(rows):
        for place, depth in enumerate(slices):
            axes = figure.add_subplot(grid[row, place])
            frame_panel(axes)
            axes.imshow(volumes[index, depth], **PALE)
            axes.imshow(heat_maps[name][index, depth], cmap=colors, clim=(0, 1))
            if row == 0:
                axes.set_title(f"Slice {depth}", fontsize=LABEL)
            if place == 0:
                texts = [labels[index], name]
                texts += notes[name][index] if name in notes else []
                length = line_length(height, LABEL)
                text = "\n".join(wrap(x, length, 2) for x in texts if x)
                axes.set_ylabel(text, fontsize=LABEL, parse_math=False)
    bar = figure.add_subplot(grid[:, -1], anchor="N")
    bar.set_box_aspect(BAR_HEIGHT / BAR_WIDTH)
    draw_color_bar(figure, bar, (0, 1), colors, "Heat")
    return figure
