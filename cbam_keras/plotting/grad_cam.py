"""Heat maps over images."""

from typing import Any

from cbam_keras.plotting import pictures as _pictures
from cbam_keras.plotting.pictures import MOST_ROWS, grey, rectangles, texts
from cbam_keras.plotting.sheet import (
    BAR,
    BAR_TEXT,
    EDGE,
    GAP,
    LABEL,
    PALE,
    WIDEST,
    draw_bar,
    draw_box,
    draw_picture,
    panel,
    room,
    seen_through,
    sheet,
    sides,
    wrapped,
    write_above,
    write_below,
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

    Each row begins with the image; the heat lies over it in shades of grey,
    and where there is little the image shows through. Give the maps of
    several networks by name to see what they look at side by side.

    Args:
        images: Array `(B, H, W, C)` with `C` 1 or 3, or `(B, H, W)`, from
            before preprocessing, at most 32 images: in [0, 1] if none of
            them has more than 1, in [0, 255] otherwise.
        heat_maps: Array `(B, H, W)` in [0, 1], as `explain.grad_cam` returns,
            or a mapping of names, which stand over the columns, to such
            arrays.
        probabilities: Array `(B,)` in [0, 1], how probable the network thinks
            the class that is explained, or a mapping of the names of
            `heat_maps` to such arrays; written below the maps. Defaults to
            `None`, which writes none.
        classes: Sequence of `B` strings, the classes that are explained, or a
            mapping of the names of `heat_maps` to such sequences; written
            below the maps. Defaults to `None`, which writes none.
        labels: Sequence of `B` strings, as the true classes, written below
            the images. Defaults to `None`, which writes none.
        boxes: Array `(B, 4)` of numbers, `y_min, x_min, y_max, x_max` in
            pixels, the maxima exclusive, drawn as rectangles. Defaults to
            `None`, which draws none.
        title: String, stands over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If shapes, names or numbers of the arguments do not
            belong together, if values are out of range or not finite, or if
            there are none or too many images.
        TypeError: If an argument is not of its kind.
        ImportError: If matplotlib is not installed.

    Example:
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> heat_maps = {"baseline": images[..., 0], "CBAM": images[..., 1]}
        >>> figure = plot_grad_cam(images, heat_maps, labels=["cat", "dog"])
    """
    pictures = _pictures.pictures(images, MOST_ROWS)
    heat = _pictures.heat(heat_maps, pictures.shape)
    return draw_grad_cam(
        pictures,
        heat,
        _pictures.shares(probabilities, list(heat), len(pictures)),
        _pictures.classes(classes, list(heat), len(pictures)),
        texts(labels, len(pictures)),
        rectangles(boxes, pictures.shape),
        title,
    )


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
