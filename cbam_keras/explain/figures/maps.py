"""Heat maps, attention maps and masks over images and signals."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cbam_keras import _checks, _graph
from cbam_keras._graph import ArrayLike
from cbam_keras.explain.figures import style

# A figure with more images cannot be read.
MAX_ROWS = 32
# The widest figure, in inches.
MAX_WIDTH = 12.5
# The opacity of colors grows with the heat; without heat there is no color.
OPACITY = 0.85 * np.linspace(0, 1, 256) ** 0.7
# The colors span at least this much on both sides of their center, or noise
# would get all colors.
MIN_REACH = 0.05
# Rounding may carry a value this far out of its range.
ROUND_OFF = 1e-3
# Colors of pixels of no class, and of wrong ones.
IGNORED_COLOR = "white"
WRONG_COLOR = "#E4007F"
# The widest panel of masks, in inches.
MASK_SIDE = 2.1


@_checks.named
def plot_grad_cam(
    images: ArrayLike,
    heat_maps: ArrayLike | Mapping[str, ArrayLike],
    *,
    probabilities: ArrayLike | Mapping[str, ArrayLike] | None = None,
    classes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    labels: Sequence[object] | None = None,
    title: str = "",
) -> "style.Figure":
    """Draws heat maps over images, a row per image and a column per network.

    Give the maps of several networks by name to compare them.

    Each row starts with the image. Heat is drawn in colors over the image in
    grayscale. Signals are drawn as lines in front of their heat, each channel
    in a scale of its own, the first on top.

    Args:
        images: Images from before preprocessing, at most 32, `(B, H, W, C)` or
            `(B, H, W)`. `C` is 1 or 3. They are taken as [0, 1] if no value
            exceeds 1, and as [0, 255] otherwise. They may be larger than the
            maps. Or signals `(B, L, C)` or `(B, L)`, with any values. For
            volumes and videos, pass one slice or frame.
        heat_maps: Array in [0, 1] as `explain.grad_cam` returns, or a mapping
            of column names to such arrays. It is `(B, H, W)` or `(B, L)`.
        probabilities: Array `(B,)` in [0, 1] of the explained class, or a
            mapping of column names to such arrays. It is written below the
            maps. Defaults to `None`.
        classes: Sequence of `B` strings, the explained classes, or a mapping of
            column names to such sequences. They are written below the maps.
            Defaults to `None`.
        labels: Sequence of `B` strings, written below the images. These are,
            for example, the true classes. Defaults to `None`.
        title: String, written over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError, TypeError: If arguments do not match or are out of range,
            or if there are no images or too many.
        ImportError: If matplotlib is not installed.

    Example:
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> heat_maps = {"baseline": images[..., 0], "CBAM": images[..., 1]}
        >>> figure = plot_grad_cam(images, heat_maps, labels=["cat", "dog"])
    """
    maps = _check_heat(heat_maps)
    shape = next(iter(maps.values())).shape
    count = shape[0]
    # Images may be larger than what the network took.
    any_size = (count, None, None) if len(shape) == 3 else shape
    samples = _check_samples(images, any_size)
    names = _texts("labels", labels, count)
    classes = _by_network("classes", classes, maps, count)
    form = "P = {:.2f}"
    chances = _by_network("probabilities", probabilities, maps, count, form)
    side = 1.9 if count < 4 else 1.5
    width, height = style.panel_size(samples[0], side)
    # The darkest quarter is left out, since it would look like shadow.
    scale = style.color_scale("inferno", (0, 1), first=0.25, alpha=OPACITY)
    if len(shape) == 2:
        # These colors darken with the heat, since there is no image below.
        scale = style.color_scale("Oranges", (0, 1))
    columns = ["Input", *maps]
    grid = style.Grid(count, columns, width, [height], scale, title)
    for i, line in enumerate(grid.panels):
        grid.draw(line[0], samples[i])
        grid.write_below(line[0], names[i])
        for axes, (name, heat) in zip(line[1:], maps.items(), strict=True):
            grid.draw(axes, samples[i], heat[i])
            grid.write_below(axes, classes[name][i], chances[name][i])
    return grid.finish("Grad-CAM (normalized)")


@_checks.named
def plot_attention_maps(
    images: ArrayLike,
    maps: Mapping[str, Sequence[ArrayLike | None]],
    *,
    labels: Sequence[object] | None = None,
    title: str = "",
) -> "style.Figure":
    """Draws the attention maps of a model, a block per image.

    A tile per layer shows the spatial map over the image, and below it the
    channel map as a sorted curve.

    Each block starts with the image. Tiles follow in the order in which the
    layers run, each with its least and greatest value. One color scale, drawn
    next to the tiles, spans the values of the spatial maps except 1% at each
    end, or those of the channel maps if there are no spatial ones. It is
    symmetric around 1 if attention amplifies, as with `identity_init`. Channel
    curves have their own scale.

    Args:
        images: See `plot_grad_cam`.
        maps: What `explain.attention_maps` returns: names of layers to tuples
            of a channel map and a spatial map. These are `(B, C)`, and `(B, h,
            w)` or `(B, l)`, either of which may be `None`.
        labels: See `plot_grad_cam`. Defaults to `None`.
        title: String, written over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError, TypeError: If arguments do not match or are not finite, or
            if there are no layers, no images or too many.
        ImportError: If matplotlib is not installed.

    Example:
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> gates = np.random.rand(2, 16), np.random.rand(2, 8, 8)
        >>> figure = plot_attention_maps(images, {"stage1_attention": gates})
    """
    pairs = maps.values() if isinstance(maps, Mapping) else ()
    if not any(x is not None for pair in pairs for x in pair):
        raise ValueError(
            "`maps` must be a mapping of layer names to tuples (channel, "
            "spatial), as explain.attention_maps returns. Received: "
            f"maps={_checks.shown(maps)}"
        )
    gates = {
        name: [x if x is None else _number_array("maps", x) for x in pair]
        for name, pair in maps.items()
    }
    channels, spatials = (
        [x for x in kind if x is not None]
        for kind in zip(*gates.values(), strict=True)
    )
    rank = spatials[0].ndim if spatials else np.ndim(images) - 1
    num_images = len((spatials or channels)[0])
    shape = (num_images, *[None] * (rank - 1))
    samples = _check_samples(images, shape)
    names = _texts("labels", labels, len(samples))
    count = 1 + len(gates)
    width, height = style.panel_size(samples[0], 1.35 if count < 15 else 1.1)
    rows = math.ceil(count * width / MAX_WIDTH)
    # All rows have the same number of tiles, except the last one.
    columns = math.ceil(count / rows)
    # The curves are as high as the image if there are no spatial maps.
    heights = [height]
    if spatials and channels:
        heights.append(0.36)
    low, high = _limits(spatials or channels)
    # The limits of all curves, which include 0 and 1.
    least = min([0, *map(np.min, channels)])
    greatest = max([1, *map(np.max, channels)])
    scale = style.color_scale("viridis", (low, high), alpha=0.7)
    limits_of_curves = _limits(channels or spatials)
    scale_of_curves = style.color_scale("viridis", limits_of_curves, alpha=0.7)
    lines = len(samples) * rows
    grid = style.Grid(lines, [""] * columns, width, heights, scale, title)
    # Each image has tiles, and each tile has panels below each other.
    blocks = grid.panels.reshape(len(samples), rows, len(heights), columns)
    tiles = blocks.swapaxes(2, 3).reshape(len(samples), -1, len(heights))
    for i, (image_tile, *layer_tiles) in enumerate(tiles):
        grid.write_above(image_tile[0], "Input", style.SMALL_TEXT)
        grid.draw(image_tile[0], samples[i])
        grid.write_below(image_tile[0], names[i])
        # The last row may have more tiles than layers are left.
        for stack, (name, pair) in zip(
            layer_tiles, gates.items(), strict=False
        ):
            grid.write_above(stack[0], name, style.SMALL_TEXT)
            channel, spatial = (x if x is None else x[i] for x in pair)
            if spatials:
                _write_range(stack[0], spatial, "spatial")
            if spatial is not None:
                heat = None if _is_untrained(spatial) else spatial
                grid.draw(stack[0], samples[i], heat)
            if channels:
                _write_range(stack[-1], channel, "channel")
            if channel is not None:
                grid.draw_sorted(
                    stack[-1], channel, (least, greatest), scale_of_curves
                )
    for axes in grid.panels.flat:
        if not axes.has_data():
            axes.set_facecolor("white")
            axes.set_frame_on(bool(axes.get_xlabel()))
    kind = "Spatial" if spatials else "Channel"
    label = f"{kind} attention, {low:.2f} to {high:.2f}"
    if spatials and channels:
        label += "\nCurves: {:.2f} to {:.2f}".format(*limits_of_curves)
    return grid.finish(label)


@_checks.named
def plot_masks(
    images: np.ndarray,
    masks: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    ignore_index: int = 255,
    labels: Sequence[str] = (),
) -> "style.Figure":
    """Draws images with true and predicted masks, and wrong pixels.

    Args:
        images: Array `(N, H, W, C)` in [0, 255].
        masks: Array `(N, H, W)` of classes.
        predictions: Mapping of names of networks to arrays like the masks.
        class_names: Sequence of strings, the classes by number.
        ignore_index: Integer, the value of pixels without a class, drawn in
            white. Defaults to `255`.
        labels: Sequence of strings, one per image. Defaults to `()`.

    Returns:
        A `matplotlib.figure.Figure`. It has a row per image, and next to each
        prediction its wrong pixels in magenta, with the fraction that is right.

    Raises:
        ValueError: If the arrays do not fit each other.
        ImportError: If matplotlib is not installed.

    Example:
        >>> images = np.random.randint(0, 256, (2, 8, 8, 3))
        >>> masks = np.random.randint(0, 2, (2, 8, 8))
        >>> figure = plot_masks(images, masks, {"cbam": masks}, ["no", "yes"])
    """
    shapes = {name: np.shape(x) for name, x in predictions.items()}
    if not shapes or {*shapes.values(), np.shape(images)[:3]} != {masks.shape}:
        raise ValueError(
            "`images`, `masks` and `predictions` must have the same number of "
            "images, height and width. "
            f"Received: images {np.shape(images)}, masks {masks.shape}, "
            f"predictions {shapes}"
        )
    patches = _checks.require("matplotlib.patches", extra="plot")
    matplotlib = _checks.require("matplotlib", extra="plot")
    palette = [
        matplotlib.colormaps["tab20"](index % 20)
        for index in range(len(class_names))
    ]
    limits = (-0.5, len(palette) + 0.5)
    classes = style.color_scale([*palette, IGNORED_COLOR], limits)

    def draw(axes, mask):
        mask = np.where(mask == ignore_index, len(palette), mask)
        axes.imshow(mask, cmap=classes.cmap, norm=classes.norm)

    columns = ["image", "mask"]
    for name in predictions:
        columns += [name, "wrong pixels"]
    pixels = np.asarray(images, "float32") / 255
    side = min(MASK_SIDE, MAX_WIDTH / len(columns))
    width, height = style.panel_size(pixels[0], side)
    scale = style.color_scale([WRONG_COLOR], (0, 1))
    grid = style.Grid(len(images), columns, width, [height], scale, "")
    for row, (image, mask) in enumerate(zip(pixels, masks, strict=True)):
        image_panel, mask_panel, *panels = grid.panels[row]
        grid.draw(image_panel, image)
        grid.write_below(image_panel, *labels[row : row + 1])
        draw(mask_panel, mask)
        has_class = mask != ignore_index
        for name, predicted_panel, wrong_panel in zip(
            predictions, panels[::2], panels[1::2], strict=True
        ):
            predicted = predictions[name][row]
            is_wrong = has_class & (predicted != mask)
            draw(predicted_panel, np.where(has_class, predicted, mask))
            grid.draw(wrong_panel, image, np.where(is_wrong, 1, np.nan))
            right = 1 - is_wrong.sum() / max(1, has_class.sum())
            grid.write_below(wrong_panel, f"{right:.1%} right")
    handles = [
        patches.Patch(color=color, label=name)
        for name, color in zip(class_names, palette, strict=True)
    ]
    handles.append(patches.Patch(color=WRONG_COLOR, label="wrong"))
    grid.figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(columns),
        frameon=False,
        fontsize=style.SMALL_TEXT,
    )
    return grid.make_room()


def _limits(maps):
    """Returns the ends of a scale of colors that shows the values of maps."""
    values = np.concatenate([x.ravel() for x in maps])
    low, high = np.quantile(values, [0.01, 0.99])
    center = (low + high) / 2
    reach = (high - low) / 2
    # Maps that start as the identity, at 1, reach up to 2.
    if 1 - ROUND_OFF < low or 1 + ROUND_OFF < high <= 2 + ROUND_OFF:
        center = 1
        reach = max(high - 1, 1 - low)
    reach = max(reach, MIN_REACH)
    return center - reach, center + reach


def _write_range(axes, values, kind):
    """Writes the range of a map below its panel, or why there is none."""
    if values is None:
        text = f"no {kind} attention"
    elif _is_untrained(values):
        text = "not trained yet"
    else:
        text = f"{values.min():.2f} to {values.max():.2f}"
    axes.set_xlabel(text, fontsize=style.SMALL_TEXT, labelpad=3)


def _is_untrained(values):
    """Returns whether a map is the identity, as inserted ones start."""
    return (values == 1).all()


def _check_heat(heat_maps):
    """Returns the heat maps of each network, in one shape."""
    if not isinstance(heat_maps, Mapping):
        heat_maps = {"Heat map": heat_maps}
    maps = {
        name: _number_array("heat_maps", x) for name, x in heat_maps.items()
    }
    for heat in maps.values() or [np.zeros(0)]:
        low = heat.min(initial=0)
        high = heat.max(initial=0)
        is_out_of_range = low < -ROUND_OFF or high > 1 + ROUND_OFF
        if is_out_of_range or len({x.shape for x in maps.values()}) != 1:
            raise ValueError(
                "`heat_maps` must be in [0, 1] and of one shape. Received: "
                f"{[x.shape for x in maps.values()]}, from {low:g} to {high:g}"
            )
    return maps


def _check_samples(images, shape):
    """Returns images or signals `(B, ..., C)` as they are drawn.

    `shape` is the shape of their maps, with `None` for any size.
    """
    numbers = _graph.number_array("images", images, booleans=True)
    array = numbers.astype(float)
    if _checks.fits(shape, array.shape):
        array = array[..., None]
    rank = len(shape)
    channels = array.shape[-1]
    if (
        rank not in (2, 3)
        or not _checks.fits((*shape, channels), array.shape)
        or (rank > 2 and channels not in (1, 3))
        or len(array) > MAX_ROWS
    ):
        hint = ""
        if len(array) != shape[0]:
            hint = f". There are {len(array)} images and {shape[0]} maps"
            if array.ndim < 4:
                hint += ". Give a single one as images[None]"
        raise ValueError(
            f"`images` must have the shape of their maps, {shape}, or 1 or 3 "
            f"channels in addition as the last axis, and be at most {MAX_ROWS} "
            f"to fit into a figure. Received: images.shape={numbers.shape}"
            f"{hint}"
        )
    if rank == 2:
        return array
    low = array.min()
    high = array.max()
    # Resizing may turn images in [0, 1] into values slightly above 1. Drawn as
    # [0, 255], such images would be black.
    is_above = numbers.dtype.kind == "f" and 1 + ROUND_OFF < high <= 2
    if low < -ROUND_OFF or high > 255 + ROUND_OFF or is_above:
        raise ValueError(
            "`images` must be in [0, 255] or [0, 1]. Received: images from "
            f"{low:g} to {high:g}. Pass the images before preprocessing"
            f"{', or np.clip(images, 0, 1)' if is_above else ''}"
        )
    return np.clip(array / (1 if high <= 1 + ROUND_OFF else 255), 0, 1)


def _number_array(name, value):
    """Returns an array of finite numbers as floats."""
    return _graph.number_array(name, value, booleans=True).astype(float)


def _by_network(name, value, networks, count, form="{}"):
    """Returns the texts of each network; a single one needs no mapping."""
    if value is None or (len(networks) == 1 and not isinstance(value, Mapping)):
        value = dict.fromkeys(networks, value)
    if not isinstance(value, Mapping) or set(value) != set(networks):
        raise ValueError(
            f"`{name}` must be a mapping with the names of `heat_maps`, "
            f"{[*networks]}. Received: {name}={value!r}"
        )
    return {x: _texts(name, value[x], count, form) for x in networks}


def _texts(name, values, count, form="{}"):
    """Returns a text per image, empty ones for `None`."""
    values = [""] * count if values is None else list(map(form.format, values))
    if len(values) != count:
        raise ValueError(
            f"`{name}` must hold {count} values, one per image. Received: "
            f"{name}={values!r}"
        )
    return values
