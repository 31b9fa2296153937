"""Checks of the arguments of figures that show images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cbam_keras import _checks, _inspection
from cbam_keras.plotting.sheet import luminance

# With more images than these the figures cannot be read.
MAX_ROWS = 32
MAX_BLOCKS = 8
# Rounding may carry a value this far out of its range.
SLACK = 1e-3


def check_images(images: Any, most: int) -> np.ndarray:
    """Returns images as `(B, H, W, C)` in [0, 1], where `C` is 1 or 3."""
    array = _floats("images", images)
    _check_shape(array.shape)
    _check_count(array, most)
    low, high = array.min(), array.max()
    if low < -SLACK or high > 255 + SLACK:
        raise ValueError(
            "`images` must be in [0, 255] or [0, 1]. Received: images from "
            f"{low:g} to {high:g}. Give them as they were before "
            "preprocessing, or np.clip(images, 0, 255)"
        )
    array = array / (1 if high <= 1 + SLACK else 255)
    return np.clip(array if array.ndim == 4 else array[..., None], 0, 1)


def check_signals(signals: Any, most: int) -> np.ndarray:
    """Returns signals as `(B, L, C)`."""
    array = _floats("images", signals)
    if array.ndim not in (2, 3):
        raise ValueError(
            "`images` must be signals of shape (B, L, C) or (B, L), as the "
            f"heat maps are (B, L). Received: images.shape={array.shape}"
        )
    _check_count(array, most)
    return array if array.ndim == 3 else array[..., None]


def check_volumes(volumes: Any, most: int) -> np.ndarray:
    """Returns volumes or videos as luminance `(B, D, H, W)` in [0, 1]."""
    array = _floats("images", volumes)
    if array.ndim == 5 and array.shape[4] in (1, 3):
        array = luminance(array)
    if array.ndim != 4:
        raise ValueError(
            "`images` must be volumes of shape (B, D, H, W, C) with C 1 or 3, "
            "or (B, D, H, W), as the heat maps are (B, D, H, W). Received: "
            f"images.shape={array.shape}"
        )
    _check_count(array, most)
    low = array.min(axis=(1, 2, 3), keepdims=True)
    spread = array.max(axis=(1, 2, 3), keepdims=True) - low
    return (array - low) / np.where(spread == 0, 1, spread)


def _check_count(array, most):
    if len(array) > most:
        raise ValueError(
            f"`images` must be at most {most}, or the figure cannot be read. "
            f"Received: {len(array)} images. Draw them in parts: "
            f"images[:{most}], with what belongs to these"
        )


def rank_of_maps(heat_maps: Any) -> int:
    """Returns the number of axes of heat maps, that of the first of several."""
    named = _by_name("heat_maps", heat_maps, "")
    return next((_floats(*pair).ndim for pair in named.values()), 0)


def check_heat_maps(
    heat_maps: Any, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Returns heat maps in [0, 1] by the names of their columns.

    They are of `shape`.
    """
    named = _by_name("heat_maps", heat_maps, "Grad-CAM")
    if not named:
        raise ValueError(
            "`heat_maps` must hold the maps of at least one network. "
            "Received: heat_maps={}"
        )
    return {
        key: _fractions(name, value, shape, "a map as large as each image")
        for key, (name, value) in named.items()
    }


def check_probabilities(
    probabilities: Any, columns: list[str], count: int
) -> dict[str, np.ndarray]:
    """Returns a probability per image for each column, `{}` for `None`."""
    if probabilities is None:
        return {}
    named = _by_column("probabilities", probabilities, columns)
    meaning = "a probability per image, that of the explained class"
    return {
        key: _fractions(name, value, (count,), meaning)
        for key, (name, value) in named.items()
    }


def check_classes(
    classes: Any, columns: list[str], count: int
) -> dict[str, list[str]]:
    """Returns a class per image for each column, `{}` for `None`."""
    if classes is None:
        return {}
    named = _by_column("classes", classes, columns)
    return {
        key: check_labels(value, count, name)
        for key, (name, value) in named.items()
    }


def check_labels(labels: Any, count: int, name: str = "labels") -> list[str]:
    """Returns a string per image, empty ones if `labels` is `None`."""
    if labels is None:
        return [""] * count
    try:
        found = [labels] if isinstance(labels, str) else list(labels)
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be a sequence of strings. Received: "
            f"{name}={labels!r}"
        ) from error
    if isinstance(labels, str) or len(found) != count:
        raise ValueError(
            f"`{name}` must hold {count} strings, one per image. Received: "
            f"{len(found)}, {_listed(found)}"
        )
    return [str(label) for label in found]


def check_boxes(boxes: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns boxes `(B, 4)` in pixels, or `None`.

    `shape` is that of the images.
    """
    if boxes is None:
        return None
    array = _floats("boxes", boxes)
    count, height, width = shape[:3]
    if array.shape != (count, 4):
        raise ValueError(
            f"`boxes` must be of shape ({count}, 4), a box per image. "
            f"Received: boxes.shape={array.shape}"
        )
    ends = array[:, 2:] <= [height, width]
    fits = np.all((array[:, :2] < array[:, 2:]) & ends, axis=1)
    fits &= np.all(array >= 0, axis=1)
    # Fractions, as TFDS gives them, would pass as boxes within one pixel.
    if not fits.all() or (array.max() <= 1 < min(height, width)):
        first = array[np.argmin(fits)].tolist()
        raise ValueError(
            "`boxes` must be y_min, x_min, y_max, x_max in pixels of images "
            f"of {height} x {width}, the maxima exclusive. Received: {first}. "
            "Of fractions, give boxes * [height, width, height, width]"
        )
    return array


def check_attention_maps(maps: Any, count: int) -> dict[str, tuple]:
    """Returns `(channel, spatial)` maps by layer, `(B, C)` and `(B, h, w)`."""
    if not isinstance(maps, Mapping):
        raise TypeError(
            "`maps` must be a mapping of layer names to tuples (channel, "
            "spatial), as explain.attention_maps returns. Received: "
            f"{type(maps).__name__}"
        )
    if not maps:
        raise ValueError(
            "`maps` must hold at least one layer. Received: maps={}"
        )
    return {str(key): _pair(key, pair, count) for key, pair in maps.items()}


def _pair(key, pair, count):
    """Returns the maps of one layer as arrays, `None` where it has none."""
    try:
        channel, spatial = pair
    except (TypeError, ValueError) as error:
        raise TypeError(
            f'`maps["{key}"]` must be a tuple (channel, spatial). Received: '
            f"{type(pair).__name__}"
        ) from error
    if channel is None and spatial is None:
        raise ValueError(
            f'`maps["{key}"]` must have a channel map, a spatial map or both. '
            "Received: (None, None)"
        )
    return (
        _map(key, channel, "(B, C)", count),
        _map(key, spatial, "(B, h, w)", count),
    )


def _map(key, value, expected, count):
    if value is None:
        return None
    array = _floats(f'maps["{key}"]', value)
    if array.ndim != expected.count(",") + 1 or len(array) != count:
        raise ValueError(
            f'`maps["{key}"]` must have shapes (B, C) and (B, h, w) for '
            f"B={count} images, or None. Received: {array.shape} where "
            f"{expected} belongs"
        )
    return array


def _check_shape(shape):
    """Raises unless images of that shape can be drawn."""
    if len(shape) == 4 and shape[3] in (1, 3):
        return
    # A width of 1, 3 or 4 is rather the channels of a single image.
    if len(shape) == 3 and shape[2] not in (1, 3, 4):
        return
    hint = ""
    if len(shape) in (2, 3):
        hint = ". Of a single image, give images[None]"
    elif len(shape) == 4 and shape[1] in (1, 3):
        hint = (
            ". They look like channels_first: give "
            "np.transpose(images, (0, 2, 3, 1))"
        )
    elif len(shape) == 4 and shape[3] == 4:
        hint = ". Leave the transparency out: give images[..., :3]"
    raise ValueError(
        "`images` must be of shape (B, H, W, C) with C 1 or 3, or (B, H, W). "
        f"Received: images.shape={shape}{hint}"
    )


def _by_name(name, value, default):
    """Returns values by key, each with what error messages call it."""
    if not isinstance(value, Mapping):
        return {default: (name, value)}
    return {str(key): (f'{name}["{key}"]', x) for key, x in value.items()}


def _by_column(name, value, columns):
    """Returns values by column, or raises if the columns are others."""
    named = _by_name(name, value, columns[0])
    if set(named) != set(columns):
        received = "an array without names"
        if isinstance(value, Mapping):
            received = f"{name} of {_listed(named)}"
        raise ValueError(
            f"`{name}` must be a mapping with the names of `heat_maps`, "
            f"{_listed(columns)}. Received: {received}"
        )
    return named


def _fractions(name, value, shape, meaning):
    """Returns an array of numbers in [0, 1]."""
    array = _floats(name, value)
    if array.shape != shape:
        raise ValueError(
            f"`{name}` must be of shape {shape}, {meaning}. Received: "
            f"{name}.shape={array.shape}"
        )
    if array.min() < -SLACK or array.max() > 1 + SLACK:
        raise ValueError(
            f"`{name}` must be in [0, 1]. Received: numbers from "
            f"{array.min():g} to {array.max():g}"
        )
    return np.clip(array, 0, 1)


def _floats(name, value):
    """Returns an array of finite numbers in float32 or float64."""
    array = _inspection.number_array(name, value, booleans=True)
    return array if array.dtype == "float64" else array.astype("float32")


def _listed(items):
    return _checks.first_few([_checks.quoted(item) for item in items], 6)
