"""Attention maps over images."""

import dataclasses
from typing import Any

import numpy as np

from cbam_keras.plotting.checks import (
    MAX_BLOCKS,
    SLACK,
    check_attention_maps,
    check_images,
    check_labels,
)
from cbam_keras.plotting.sheet import (
    BAR_HEIGHT,
    BAR_ROOM,
    BAR_WIDTH,
    GAP,
    MAX_WIDTH,
    NAME,
    NUMBER,
    draw_color_bar,
    draw_image,
    frame_panel,
    luminance,
    panel_size,
    transparent_colors,
)
from cbam_keras.plotting.style import (
    TITLE_SIZE,
    line_length,
    new_figure,
    text_height,
    wrap,
)


def plot_attention_maps(
    images: Any, maps: Any, *, labels: Any = None, title: str = ""
) -> Any:
    """Draws the attention maps of a model, a block per image.

    Each block starts with the image. A tile per layer follows, in the order
    in which the layers run: the spatial map over the image, below it the
    channel map as a sorted curve, the largest value first. The least and the
    greatest value are written below each. All share one colour scale, from 0
    to 1, or to 2 if a value is above 1 or all of them are 1, as with
    `identity_init`.

    Args:
        images: Array `(B, H, W, C)` with `C` 1 or 3, or `(B, H, W)`, from
            before preprocessing, at most 8 images: in [0, 1] if none of them
            has more than 1, in [0, 255] otherwise.
        maps: Mapping of layer names to tuples of a channel map `(B, C)` and a
            spatial map `(B, h, w)`, either of which may be `None`, as
            `explain.attention_maps` returns.
        labels: Sequence of `B` strings, e.g. the true classes, written over
            the blocks. Defaults to `None`, which writes none.
        title: String, written over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shapes of the arguments do not match, if values
            are not finite, or if there are no layers, no images or too many.
        TypeError: If an argument is of a wrong type.
        ImportError: If matplotlib is not installed.

    Example:
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> gates = np.random.rand(2, 16), np.random.rand(2, 8, 8)
        >>> figure = plot_attention_maps(images, {"stage1_attention": gates})
    """
    images = check_images(images, MAX_BLOCKS)
    return draw_attention_maps(
        images,
        check_attention_maps(maps, len(images)),
        check_labels(labels, len(images)),
        title,
    )


# Dimmer than the image, so that the colours of a map stand out.
PALE = {"cmap": "gray", "vmin": -0.45, "vmax": 1.45}
SPATIAL_NOTE = "Over the image: the spatial gate. "
CHANNEL_NOTE = "Curve: the channel gates, the largest first. "
NUMBERS_NOTE = "Numbers: the least and the greatest."


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How the tiles of a block are laid out.

    Attributes:
        rows: Rows of tiles.
        columns: Tiles in a row.
        heights: Inches of the panels of a tile: the image where a layer has
            a spatial map, the curve where one has a channel map.
        column: Inches from one tile to the next.
        spatial: Whether a layer has a spatial map.
        channel: Whether a layer has a channel map.
    """

    rows: int
    columns: int
    heights: tuple[float, ...]
    column: float
    spatial: bool
    channel: bool

    @property
    def note(self):
        return (
            SPATIAL_NOTE * self.spatial
            + CHANNEL_NOTE * self.channel
            + NUMBERS_NOTE
        )


def draw_attention_maps(images, maps, labels, title):
    """Draws a block per image: the image, and a tile per attention layer."""
    tiling = choose_tiling(images, maps)
    width = tiling.columns * tiling.column
    names = {
        name: wrap(name, line_length(tiling.column - GAP, NAME), 4)
        for name in maps
    }
    labels = [wrap(x, line_length(width, TITLE_SIZE), 2) for x in labels]
    note = wrap(tiling.note, line_length(width + BAR_ROOM, NUMBER), 4)
    # The range of the values is written below each panel.
    tile = sum(tiling.heights) + text_height([*names.values()], NAME)
    tile += len(tiling.heights) * (text_height(["0"], NUMBER) + GAP)
    block = tiling.rows * tile + text_height(labels, TITLE_SIZE) + GAP
    figure = new_figure(
        width + BAR_ROOM,
        len(images) * block + text_height([note], NUMBER),
        title,
    )
    figure.get_layout_engine().set(w_pad=GAP / 2, h_pad=GAP / 2)
    figure.supxlabel(note, x=0.01, ha="left", fontsize=NUMBER)
    limits = color_limits(maps)
    colors = transparent_colors("viridis", 0, 0.7, 0)
    left, right = figure.subfigures(1, 2, width_ratios=(width, BAR_ROOM))
    blocks = left.subfigures(len(images), 1, squeeze=False)[:, 0]
    for index, subfigure in enumerate(blocks):
        if labels[index]:
            subfigure.suptitle(
                labels[index],
                x=0.01,
                ha="left",
                fontsize=TITLE_SIZE,
                parse_math=False,
            )
        pairs = {
            names[name]: [None if x is None else x[index] for x in pair]
            for name, pair in maps.items()
        }
        draw_block(subfigure, tiling, images[index], pairs, limits, colors)
    bar = right.subplots(subplot_kw={"anchor": "N"})
    bar.set_box_aspect(BAR_HEIGHT / BAR_WIDTH)
    draw_color_bar(right, bar, limits, colors, "Gate")
    return figure


def choose_tiling(images, maps):
    """Returns how many tiles stand in a row, and how large they are."""
    count = len(maps) + 1
    side = 1.35 if count < 15 else 1.1
    _, height, column = panel_size(images, side, 2.2 * side)
    rows = -(-count // int(MAX_WIDTH / column))
    spatial = any(pair[1] is not None for pair in maps.values())
    channel = any(pair[0] is not None for pair in maps.values())
    # Without spatial maps the curves are as high as the image.
    curve = 0.36 if spatial else height
    return Tiling(
        rows=rows,
        # The same number in each row, as far as they go.
        columns=-(-count // rows),
        heights=(height,) * spatial + (curve,) * channel,
        column=column,
        spatial=spatial,
        channel=channel,
    )


def color_limits(maps):
    """Returns the least and the greatest value of the colour scale."""
    values = np.concatenate(
        [x.ravel() for pair in maps.values() for x in pair if x is not None]
    )
    low, high = values.min(), values.max()
    # Gates that start as the identity, at 1, reach up to 2.
    if 1 - SLACK < low or 1 + SLACK < high:
        high = max(2, high)
    return min(0, low), high if high > 1 + SLACK else 1


def draw_block(figure, tiling, image, pairs, limits, colors):
    """Draws an image and, next to it, the maps of each layer."""
    panels = len(tiling.heights)
    grid = figure.add_gridspec(
        tiling.rows * panels,
        tiling.columns,
        height_ratios=tiling.heights * tiling.rows,
    )
    shown = {"cmap": colors, "vmin": limits[0], "vmax": limits[1]}
    for number, name in enumerate(["Input", *pairs]):
        row, column = divmod(number, tiling.columns)
        top = figure.add_subplot(grid[panels * row, column])
        frame_panel(top)
        top.set_title(name, fontsize=NAME, pad=3, parse_math=False)
        if number == 0:
            draw_image(top, image)
            continue
        channel, spatial = pairs[name]
        bottom = top
        if panels == 2:
            bottom = figure.add_subplot(grid[panels * row + 1, column])
            frame_panel(bottom)
        if tiling.spatial:
            draw_spatial(top, image, spatial, shown)
        if tiling.channel:
            draw_channels(bottom, channel, limits, shown)


def draw_spatial(axes, image, values, shown):
    """Draws a spatial map over an image, and below it the range."""
    if values is None:
        write_absent(axes, "no spatial gate")
        # As large as the other images in the row.
        axes.set_box_aspect(image.shape[0] / image.shape[1])
        return
    drawn = axes.imshow(luminance(image), **PALE)
    axes.imshow(values, **shown, extent=drawn.get_extent())
    write_range(axes, values)


def draw_channels(axes, values, limits, shown):
    """Draws sorted values as a curve, coloured below, and their range."""
    if values is None:
        write_absent(axes, "no channel gate")
        return
    write_range(axes, values)
    values = np.sort(values)[::-1]
    axes.imshow(
        values[None],
        **shown,
        aspect="auto",
        extent=(0, len(values), *limits),
        interpolation="nearest",
    )
    edges = np.arange(len(values) + 1)
    axes.stairs(values, edges, color="0.2", linewidth=0.8)
    # White above the curve.
    axes.fill_between(
        edges,
        np.append(values, values[-1]),
        limits[1],
        step="post",
        color="white",
        linewidth=0,
    )
    axes.set_xlim(0, len(values))
    axes.set_ylim(*limits)


def write_range(axes, values):
    text = f"{values.min():.2f} to {values.max():.2f}"
    axes.set_xlabel(text, fontsize=NUMBER, labelpad=3)


def write_absent(axes, text):
    axes.set_facecolor("0.96")
    axes.text(
        0.5,
        0.5,
        text.replace(" ", "\n", 1),
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=NUMBER,
        color="0.4",
    )
