"""Figures of images with maps over them, laid out to the inch.

Each panel and each line of text has a place of its own: nothing overlaps,
whatever the names, the numbers and the shapes of the images are.
"""

import re
from types import SimpleNamespace

import numpy as np

from cbam_keras import _checks
from cbam_keras.plotting.pictures import SLACK, grey
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
PALER = {"cmap": "gray", "vmin": -0.45, "vmax": 1.45}
# What is behind colours that let it through where no image is.
BEHIND = "0.5"
FRAME = "0.75"
# Panels side by side are no wider together, where they may be smaller.
WIDEST = 12.5
CURVE_GAP = 0.05
SPATIAL_NOTE = "Over the image: the spatial gate. "
CHANNEL_NOTE = "Curve: the channel gates, the largest first. "
NUMBERS_NOTE = "Numbers: the least and the greatest."


def draw_grad_cam(pictures, heat, shares, classes, labels, boxes, title):
    """Draws a row per image: the image, then each heat map over it."""
    side = 1.9 if len(pictures) < 5 else 1.5
    width, height, cell = sides(pictures, side, WIDEST / (1 + len(heat)) - GAP)
    names = [wrapped(name, cell, LABEL, 3) for name in ("Input", *heat)]
    below = [wrapped(label, cell, LABEL, 3) for label in labels]
    notes = {
        name: [
            wrapped(classes[name][row], cell, LABEL, 2) if classes else ""
            for row in range(len(pictures))
        ]
        for name in heat
    }
    for name in shares:
        notes[name] = [
            f"{note}\nP = {share:.2f}".strip()
            for note, share in zip(notes[name], shares[name], strict=True)
        ]
    head = room(names, LABEL)
    foot = room([*below, *sum(notes.values(), [])], LABEL)
    step = height + foot + GAP
    made, top = sheet(
        len(names) * (cell + GAP) + BAR + BAR_TEXT,
        head + len(pictures) * step - GAP,
        title,
    )
    top, left = top + head, EDGE + (cell - width) / 2
    # From the first tone of inferno that is no grey.
    colors = seen_through("inferno", 0.25, 0.85, 0.7)
    for row, picture in enumerate(pictures):
        for column, name in enumerate(["Input", *heat]):
            place = left + column * (cell + GAP), top + row * step
            axes = panel(made, place, (width, height))
            if column == 0:
                draw_picture(axes, picture)
                write_below(axes, below[row])
            else:
                axes.imshow(grey(picture), **PALE)
                axes.imshow(heat[name][row], cmap=colors, vmin=0, vmax=1)
                write_below(axes, notes[name][row])
            if row == 0:
                write_above(axes, names[column], LABEL)
            if boxes is not None:
                draw_box(axes, boxes[row])
    place = EDGE + len(names) * (cell + GAP), top
    tall = len(pictures) * step - GAP - foot
    draw_bar(made, place, tall, (0, 1), colors, "Heat")
    return made


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
