"""Heat maps over images, signals and volumes."""

import itertools
from typing import Any

from cbam_keras.plotting.checks import (
    MAX_ROWS,
    check_boxes,
    check_classes,
    check_heat_maps,
    check_images,
    check_labels,
    check_probabilities,
    check_signals,
    check_volumes,
    rank_of_maps,
)
from cbam_keras.plotting.sheet import (
    BAR_HEIGHT,
    BAR_ROOM,
    BAR_WIDTH,
    GAP,
    LABEL,
    MAX_WIDTH,
    PALE,
    draw_box,
    draw_color_bar,
    draw_image,
    frame_panel,
    heat_colors,
    luminance,
    panel_size,
)
from cbam_keras.plotting.signals import draw_signals
from cbam_keras.plotting.style import line_length, new_figure, text_height, wrap
from cbam_keras.plotting.volumes import draw_volumes


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
    of several networks by name to compare them side by side.

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
    rank = rank_of_maps(heat_maps)
    check = {2: check_signals, 4: check_volumes}.get(rank, check_images)
    images = check(images, MAX_ROWS)
    size = images.shape if rank == 4 else images.shape[:-1]
    heat_maps = check_heat_maps(heat_maps, size)
    networks, count = list(heat_maps), len(images)
    notes = captions(
        check_classes(classes, networks, count),
        check_probabilities(probabilities, networks, count),
    )
    labels = check_labels(labels, count)
    if rank in (2, 4):
        if boxes is not None:
            raise ValueError(
                "`boxes` must be None where `images` are signals or volumes. "
                f"Received: heat maps of {rank} axes and boxes"
            )
        draw = draw_signals if rank == 2 else draw_volumes
        return draw(images, heat_maps, notes, labels, title)
    boxes = check_boxes(boxes, images.shape)
    return draw_grad_cam(images, heat_maps, notes, labels, boxes, title)


def captions(classes, probabilities):
    """Returns the texts below each heat map, by network and image.

    These are pairs of the class and the probability, either may be empty.
    """
    found = {}
    for name in classes or probabilities:
        written = [f"P = {x:.2f}" for x in probabilities.get(name, ())]
        found[name] = list(
            itertools.zip_longest(classes.get(name, ()), written, fillvalue="")
        )
    return found


def draw_grad_cam(images, heat_maps, notes, labels, boxes, title):
    """Draws a row per image: the image, then each heat map over it."""
    columns = ["Input", *heat_maps]
    side = 1.9 if len(images) < 5 else 1.5
    width, height, column = panel_size(
        images, side, MAX_WIDTH / len(columns) - GAP
    )
    length = line_length(column - GAP, LABEL)
    names = [wrap(name, length, 3) for name in columns]
    below = {"Input": [wrap(label, length, 3) for label in labels]}
    for name, pairs in notes.items():
        below[name] = [
            f"{wrap(label, length, 2)}\n{probability}".strip()
            for label, probability in pairs
        ]
    foot = text_height(sum(below.values(), []), LABEL) + GAP
    figure = new_figure(
        len(columns) * column + BAR_ROOM,
        len(images) * (height + foot) + text_height(names, LABEL),
        title,
    )
    figure.get_layout_engine().set(w_pad=GAP / 2, h_pad=GAP / 2)
    grid = figure.add_gridspec(
        len(images),
        len(columns) + 1,
        width_ratios=[column] * len(columns) + [BAR_WIDTH],
    )
    colors = heat_colors()
    for row, image in enumerate(images):
        for place, name in enumerate(columns):
            axes = figure.add_subplot(grid[row, place])
            frame_panel(axes)
            if place == 0:
                draw_image(axes, image)
            else:
                axes.imshow(luminance(image), **PALE)
                axes.imshow(heat_maps[name][row], cmap=colors, vmin=0, vmax=1)
            if row == 0:
                axes.set_title(names[place], fontsize=LABEL, parse_math=False)
            if name in below:
                axes.set_xlabel(
                    below[name][row], fontsize=LABEL, parse_math=False
                )
            if boxes is not None:
                draw_box(axes, boxes[row])
    bar = figure.add_subplot(grid[:, -1], anchor="N")
    bar.set_box_aspect(BAR_HEIGHT / BAR_WIDTH)
    draw_color_bar(figure, bar, (0, 1), colors, "Heat")
    return figure
