"""Heat maps and attention maps over images, signals and volumes."""

import itertools
import math
from typing import Any

import numpy as np

from cbam_keras.plotting import checks, grid, style

# Slices of a volume that fit beside each other.
MAX_SLICES = 6
NOTES = (
    "Over the image: the spatial gate.",
    "Curve: the channel gates, the largest first.",
    "Numbers: the least and the greatest.",
)


def plot_grad_cam(
    images: Any,
    heat_maps: Any,
    *,
    probabilities: Any = None,
    classes: Any = None,
    labels: Any = None,
    boxes: Any = None,
    title: str = "",
) -> Any:
    """Draws heat maps over images, a row per image and a column per network.

    Each row starts with the image. The heat is drawn over the image in
    grayscale, which shows through where there is little heat. Give the maps
    of several networks by name to compare them side by side; a single image,
    `images[:1]` with `heat_maps[:1]`, gives a figure of one row.

    Signals are drawn as lines with their heat behind. Volumes and videos are
    drawn as slices, a row per volume and network, each volume from its least
    value in black to its greatest in white.

    Args:
        images: Array `(B, H, W, C)` with `C` 1 or 3, or `(B, H, W)`, from
            before preprocessing, at most 32 images: in [0, 1] if none of
            them has more than 1, in [0, 255] otherwise. Or signals
            `(B, L, C)` or `(B, L)`, or volumes `(B, D, H, W, C)` or
            `(B, D, H, W)`, of any numbers.
        heat_maps: Array `(B, H, W)`, `(B, L)` or `(B, D, H, W)` in [0, 1], as
            `explain.grad_cam` returns, or a mapping of column names to such
            arrays.
        probabilities: Array `(B,)` in [0, 1], the probability of the
            explained class, or a mapping of the names of `heat_maps` to such
            arrays; written below the maps. Defaults to `None`, which writes
            none.
        classes: Sequence of `B` strings, the explained classes, or a mapping
            of the names of `heat_maps` to such sequences; written below the
            maps. Defaults to `None`, which writes none.
        labels: Sequence of `B` strings, e.g. the true classes, written below
            the images. Defaults to `None`, which writes none.
        boxes: Array `(B, 4)` of numbers, `y_min, x_min, y_max, x_max` in
            pixels, the maxima exclusive, drawn as rectangles; for images
            alone. Defaults to `None`, which draws none.
        title: String, written over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If shapes or names of the arguments do not match, if
            values are out of range or not finite, or if there are no images
            or too many.
        TypeError: If an argument is of a wrong type.
        ImportError: If matplotlib is not installed.

    Example:
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> heat_maps = {"baseline": images[..., 0], "CBAM": images[..., 1]}
        >>> figure = plot_grad_cam(images, heat_maps, labels=["cat", "dog"])
    """
    rank = checks.rank_of_maps(heat_maps)
    images = checks.check_images(images, checks.MAX_ROWS, rank)
    count, shape = len(images), images.shape[:rank]
    labels = checks.check_labels("labels", labels, count)
    meaning = "a map as large as each image"
    heat_maps = checks.by_column(
        "heat_maps", heat_maps, None, checks.check_fractions, shape, meaning
    )
    names = [*heat_maps]
    classes = checks.by_column(
        "classes", classes, names, checks.check_labels, count
    )
    probabilities = checks.by_column(
        "probabilities", probabilities, names, checks.check_probabilities, count
    )
    if rank == 3:
        boxes = checks.check_boxes(boxes, shape)
    elif boxes is not None:
        raise ValueError(
            "`boxes` must be None where `images` are signals or volumes. "
            f"Received: heat maps of {rank} axes and boxes"
        )
    # By network and image: class and probability.
    notes = {
        name: [*zip(classes[name], probabilities[name], strict=True)]
        for name in names
    }
    if rank == 2:
        return _draw_signals(images, heat_maps, notes, labels, title)
    if rank == 4:
        return _draw_volumes(images, heat_maps, notes, labels, title)
    return _draw_images(images, heat_maps, notes, labels, boxes, title)


def _draw_images(images, heat_maps, notes, labels, boxes, title):
    """Draws a row per image: the image, then each heat map over it."""
    names = ["Input", *heat_maps]
    side = 1.9 if len(images) < 5 else 1.5
    width, height = grid.panel_size(images.shape[1:3], side, len(names))
    figure, panels = grid.new_grid(
        len(images), names, width, height, title=title
    )
    scale = {"cmap": style.heat_colors(), "vmin": 0, "vmax": 1}
    for row, (first, *others) in enumerate(panels):
        grid.draw_image(first, images[row])
        grid.write(first, "xlabel", [labels[row]], width)
        for axes, (name, maps) in zip(others, heat_maps.items(), strict=True):
            grid.draw_over(axes, grid.luminance(images[row]), maps[row], scale)
            grid.write(axes, "xlabel", notes[name][row], width)
        for axes in panels[row] if boxes is not None else ():
            grid.draw_box(axes, boxes[row])
    grid.finish_grid(figure, panels, scale, "Heat")
    return figure


def _draw_signals(signals, heat_maps, notes, labels, title):
    """Draws a row per signal `(L, C)`: a panel per network, lines over heat."""
    width, height = min(6, grid.MAX_WIDTH / len(heat_maps)), 1.3
    names = [*heat_maps]
    figure, panels = grid.new_grid(
        len(signals), names, width, height, title=title
    )
    # Darker with the heat, as there is no image below.
    colors = style.transparent_colors(style.SIGNAL_HEAT, 0, 1, 0)
    scale = {"cmap": colors, "vmin": 0, "vmax": 1}
    for row, line in enumerate(panels):
        grid.write(line[0], "ylabel", [labels[row]], height)
        for axes, (name, maps) in zip(line, heat_maps.items(), strict=True):
            _draw_signal(axes, signals[row], maps[row], scale)
            note = "  ".join(filter(None, notes[name][row]))
            grid.write(axes, "xlabel", [note], width)
    grid.finish_grid(figure, panels, scale, "Heat")
    return figure


def _draw_signal(axes, signal, values, scale):
    """Draws the channels of a signal as lines over its heat."""
    low, high = signal.min(), signal.max()
    margin = 0.08 * (high - low) or 1
    limits = (-0.5, len(signal) - 0.5, low - margin, high + margin)
    axes.imshow(
        values[None],
        **scale,
        aspect="auto",
        extent=limits,
        interpolation="nearest",
    )
    # White edges, to be seen on dark heat too.
    for channel in signal.T:
        axes.plot(channel, color="white", linewidth=2.6)
        axes.plot(channel, color="0.1", linewidth=1.1)
    axes.axis(limits)


def _draw_volumes(volumes, heat_maps, notes, labels, title):
    """Draws a row per volume `(D, H, W)` and network, a column per slice."""
    last = volumes.shape[1] - 1
    slices = np.linspace(0, last, min(last + 1, MAX_SLICES)).round().astype(int)
    width, height = grid.panel_size(volumes.shape[2:], 1.6, len(slices))
    names = [f"Slice {depth}" for depth in slices]
    rows = [*itertools.product(range(len(volumes)), heat_maps)]
    figure, panels = grid.new_grid(len(rows), names, width, height, title=title)
    scale = {"cmap": style.heat_colors(), "vmin": 0, "vmax": 1}
    for (index, name), line in zip(rows, panels, strict=True):
        texts = [labels[index], name, *notes[name][index]]
        grid.write(line[0], "ylabel", texts, height)
        for axes, depth in zip(line, slices, strict=True):
            maps = heat_maps[name][index]
            grid.draw_over(axes, volumes[index, depth], maps[depth], scale)
    grid.finish_grid(figure, panels, scale, "Heat")
    return figure


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
        labels: Sequence of `B` strings, e.g. the true classes, written below
            the images. Defaults to `None`, which writes none.
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
    images = checks.check_images(images, checks.MAX_BLOCKS)
    maps = checks.check_attention_maps(maps, len(images))
    labels = checks.check_labels("labels", labels, len(images))
    count = 1 + len(maps)
    width, height = grid.panel_size(
        images.shape[1:3], 1.35 if count < 15 else 1.1, columns=6
    )
    rows = math.ceil(count * width / grid.MAX_WIDTH)
    # The same number in each row, as far as they go.
    columns = math.ceil(count / rows)
    has_channel, has_spatial = (
        any(x is not None for x in kind)
        for kind in zip(*maps.values(), strict=True)
    )
    # Without spatial maps the curves are as high as the image.
    curve = 0.36 if has_spatial else height
    heights = [height] * has_spatial + [curve] * has_channel
    figure, panels = grid.new_grid(
        len(images) * rows, [""] * columns, width, *heights, title=title
    )
    low, high = color_limits(maps)
    scale = {"cmap": style.gate_colors(), "vmin": low, "vmax": high}
    # By image, tile, and panel of a tile.
    tiles = (
        panels.reshape(len(images), rows, len(heights), columns)
        .swapaxes(2, 3)
        .reshape(len(images), -1, len(heights))
    )
    for index, (first, *others) in enumerate(tiles):
        grid.write(first[0], "title", ["Input"], width, style.SMALL)
        grid.draw_image(first[0], images[index])
        grid.write(first[0], "xlabel", [labels[index]], width)
        for tile, (name, pair) in zip(others, maps.items(), strict=False):
            grid.write(tile[0], "title", [name], width, style.SMALL)
            channel, spatial = (None if x is None else x[index] for x in pair)
            if has_spatial:
                image = grid.luminance(images[index])
                grid.draw_over(tile[0], image, spatial, scale)
                _write_range(tile[0], spatial, "spatial")
            if has_channel:
                if channel is not None:
                    _draw_channels(tile[-1], channel, scale)
                _write_range(tile[-1], channel, "channel")
    for axes in panels.flat:
        if not axes.has_data():
            axes.set_facecolor("white")
            axes.set_frame_on(bool(axes.get_xlabel()))
    note = " ".join(itertools.compress(NOTES, (has_spatial, has_channel, True)))
    note = style.wrap(note, figure.get_figwidth(), style.SMALL, 4)
    figure.supxlabel(note, x=0.01, ha="left", fontsize=style.SMALL)
    grid.finish_grid(figure, panels, scale, "Gate")
    return figure


def color_limits(maps):
    """Returns the least and the greatest value of the colour scale."""
    values = np.concatenate(
        [x.ravel() for pair in maps.values() for x in pair if x is not None]
    )
    low, high = values.min(), values.max()
    # Gates that start as the identity, at 1, reach up to 2.
    if 1 - checks.TOLERANCE < low or 1 + checks.TOLERANCE < high:
        high = max(2, high)
    return min(0, low), high if high > 1 + checks.TOLERANCE else 1


def _draw_channels(axes, values, scale):
    """Draws sorted values as a curve, coloured below."""
    limits = scale["vmin"], scale["vmax"]
    values = np.sort(values)[::-1]
    curve = axes.stairs(
        values,
        baseline=limits[0],
        fill=True,
        facecolor=grid.BACKGROUND,
        edgecolor="0.2",
        linewidth=0.8,
    )
    axes.imshow(
        values[None],
        **scale,
        aspect="auto",
        extent=(0, len(values), *limits),
        interpolation="nearest",
        clip_path=curve,
        zorder=curve.get_zorder(),
    )
    axes.set(xlim=(0, len(values)), ylim=limits, facecolor="white")


def _write_range(axes, values, kind):
    text = f"no {kind} gate"
    if values is not None:
        text = f"{values.min():.2f} to {values.max():.2f}"
    axes.set_xlabel(text, fontsize=style.SMALL, labelpad=3)
