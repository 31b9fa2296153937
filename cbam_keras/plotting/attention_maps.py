"""The attention maps of a model over images."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from cbam_keras.plotting import pictures as _pictures
from cbam_keras.plotting.pictures import MOST_BLOCKS, SLACK, grey, texts
from cbam_keras.plotting.sheet import (
    BAR,
    BAR_TEXT,
    EDGE,
    GAP,
    HEADING,
    NAME,
    NUMBER,
    WIDEST,
    draw_bar,
    draw_picture,
    panel,
    room,
    seen_through,
    sheet,
    sides,
    wrapped,
    write,
    write_above,
    write_range,
)


def plot_attention_maps(
    images: Any, maps: Any, *, labels: Any = None, title: str = ""
) -> Any:
    """Draws what the gates of a model do to images, a block per image.

    Each block begins with the image. A tile per layer follows, in the order
    in which they run: over the image the map of the spatial gate, below it
    the channel gates as a sorted strip, the largest first. The least and the
    greatest value stand below each. One scale of colours is for all, from 0
    to 1, or to 2 if a value is above 1 or all of them are 1, as with
    `identity_init`.

    Args:
        images: Array `(B, H, W, C)` with `C` 1 or 3, or `(B, H, W)`, from
            before preprocessing, at most 8 images: in [0, 1] if none of them
            has more than 1, in [0, 255] otherwise.
        maps: Mapping of layer names to tuples of a channel map `(B, C)` and a
            spatial map `(B, h, w)`, either of which may be `None`, as
            `explain.attention_maps` returns.
        labels: Sequence of `B` strings, as the true classes, written over
            the blocks. Defaults to `None`, which writes none.
        title: String, stands over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If shapes or numbers of the arguments do not belong
            together, if values are not finite, or if there are no layers, no
            images or too many.
        TypeError: If an argument is not of its kind.
        ImportError: If matplotlib is not installed.

    Example:
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> gates = np.random.rand(2, 16), np.random.rand(2, 8, 8)
        >>> figure = plot_attention_maps(images, {"stage1_attention": gates})
    """
    pictures = _pictures.pictures(images, MOST_BLOCKS)
    return draw_attention(
        pictures,
        _pictures.gates(maps, len(pictures)),
        texts(labels, len(pictures)),
        title,
    )


PALER = {"cmap": "gray", "vmin": -0.45, "vmax": 1.45}

CURVE_GAP = 0.05

SPATIAL_NOTE = "Over the image: the spatial gate. "

CHANNEL_NOTE = "Curve: the channel gates, the largest first. "

NUMBERS_NOTE = "Numbers: the least and the greatest."


def draw_attention(pictures, gates, labels, title):
    """Draws a block per image: the image, and a tile per attention layer."""
    form = tiling(pictures, gates)
    heads = [wrapped(label, form.width, HEADING, 2) for label in labels]
    head = room(heads, HEADING)
    note = wrapped(form.note, form.width + BAR_TEXT, NUMBER, 4)
    step = head + form.rows * form.step + GAP
    made, top = sheet(
        form.width + GAP + BAR + BAR_TEXT,
        len(pictures) * step - GAP + room([note], NUMBER),
        title,
    )
    for index, picture in enumerate(pictures):
        start = top + index * step
        write(made, (EDGE, start), heads[index], HEADING)
        for number, gate in enumerate([None, *gates.values()]):
            row, column = divmod(number, form.columns)
            place = (
                EDGE + column * (form.cell + GAP),
                start + head + row * form.step + form.head,
            )
            axes = draw_tile(made, place, picture, gate, index, form)
            write_above(axes, form.names[number], NAME)
    write(made, (EDGE, top + len(pictures) * step - GAP), note, NUMBER)
    place = EDGE + form.width + GAP, top + head + form.head
    tall = form.rows * form.step - form.head - GAP
    draw_bar(made, place, tall, form.limits, form.colors, "Gate")
    return made


def tiling(pictures, gates):
    """Returns the sizes of tiles, how many are in a row, and their colours."""
    side = 1.35 if len(gates) < 14 else 1.1
    width, height, cell = sides(pictures, side, 2.2 * side)
    columns = min(len(gates) + 1, int((WIDEST + GAP) / (cell + GAP)))
    rows = -(-(len(gates) + 1) // columns)
    # As many in each row, as far as they go.
    columns = -(-(len(gates) + 1) // rows)
    names = [wrapped(name, cell, NAME, 4) for name in ("Input", *gates)]
    channel = [gate[0] for gate in gates.values() if gate[0] is not None]
    spatial = [gate[1] for gate in gates.values() if gate[1] is not None]
    values = np.concatenate([x.ravel() for x in channel + spatial])
    low, high = values.min(), values.max()
    # Gates that start as the identity, at 1, go to 2.
    if 1 - SLACK < low or 1 + SLACK < high:
        high = max(2, high)
    line = room(["0"], NUMBER)
    # Where no layer has a map, the curves take its place.
    curve = (0.36 if spatial else height) if channel else 0
    head = room(names, NAME)
    step = head + GAP
    step += (height + line if spatial else 0) + (curve + line if channel else 0)
    if spatial and channel:
        step += CURVE_GAP
    return SimpleNamespace(
        picture=(width, height),
        curve=curve,
        line=line,
        spatial=bool(spatial),
        channel=bool(channel),
        cell=cell,
        columns=columns,
        rows=rows,
        width=columns * (cell + GAP) - GAP,
        head=head,
        step=step,
        names=names,
        note=SPATIAL_NOTE * bool(spatial)
        + CHANNEL_NOTE * bool(channel)
        + NUMBERS_NOTE,
        limits=(min(0, low), high if high > 1 + SLACK else 1),
        colors=seen_through("viridis", 0, 0.7, 0),
    )


def draw_tile(made, place, picture, gate, index, form):
    """Draws the gates of a layer, or the image alone; returns what is on top.

    The range of the values stands below each.
    """
    left, top = place
    over = left + (form.cell - form.picture[0]) / 2, top
    if gate is None:
        axes = panel(made, over, form.picture)
        draw_picture(axes, picture)
        return axes
    channel, spatial = gate
    panels = []
    low, high = form.limits
    shown = {"cmap": form.colors, "vmin": low, "vmax": high}
    if form.spatial:
        axes = panel(made, over, form.picture)
        panels.append(axes)
        if spatial is None:
            absent(axes, "no spatial gate")
        else:
            image = axes.imshow(grey(picture), **PALER)
            axes.imshow(spatial[index], **shown, extent=image.get_extent())
            write_range(axes, spatial[index])
        top += form.picture[1] + form.line + CURVE_GAP
    if form.channel:
        axes = panel(made, (left, top), (form.cell, form.curve))
        panels.append(axes)
        if channel is None:
            absent(axes, "no channel gate")
        else:
            draw_curve(axes, channel[index], form.limits, shown)
            write_range(axes, channel[index])
    return panels[0]


def draw_curve(axes, values, limits, shown):
    """Draws sorted values as a curve, coloured below."""
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


def absent(axes, text):
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
