"""Images, heat maps and gates as figures show them, checked before drawing."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cbam_keras import _checks

# Of more, nobody could read the figure.
MOST_ROWS = 32
MOST_BLOCKS = 8
# So far rounding may carry a value out of its range.
SLACK = 1e-3


def pictures(images: Any, most: int) -> np.ndarray:
    """Returns images as `(B, H, W, C)` in [0, 1], where `C` is 1 or 3."""
    array = _numbers("images", images)
    _check_shape(array.shape)
    if len(array) > most:
        raise ValueError(
            f"`images` must be at most {most}, or nobody can read the figure. "
            f"Received: {len(array)} images. Draw them in parts: "
            f"images[:{most}], with what belongs to these"
        )
    low, high = array.min(), array.max()
    if low < -SLACK or high > 255 + SLACK:
        raise ValueError(
            "`images` must be in [0, 255] or [0, 1]. Received: images from "
            f"{low:g} to {high:g}. Give them as they were before "
            "preprocessing, or np.clip(images, 0, 255)"
        )
    array = array / (1 if high <= 1 + SLACK else 255)
    return np.clip(array if array.ndim == 4 else array[..., None], 0, 1)


def heat(heat_maps: Any, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Returns heat maps `(B, H, W)` in [0, 1] by the names of their columns.

    `shape` is that of the images.
    """
    named = _named("heat_maps", heat_maps, "Grad-CAM")
    if not named:
        raise ValueError(
            "`heat_maps` must hold the maps of at least one network. "
            "Received: heat_maps={}"
        )
    return {
        key: _shares(name, value, shape[:3], "a map as large as each image")
        for key, (name, value) in named.items()
    }


def shares(
    probabilities: Any, columns: list[str], count: int
) -> dict[str, np.ndarray]:
    """Returns a probability per image for each column, none if `None`."""
    if probabilities is None:
        return {}
    named = _for_columns("probabilities", probabilities, columns)
    meaning = "a probability per image, that of the class which is explained"
    return {
        key: _shares(name, value, (count,), meaning)
        for key, (name, value) in named.items()
    }


def classes(given: Any, columns: list[str], count: int) -> dict[str, list[str]]:
    """Returns a class per image for each column, none if `None`."""
    if given is None:
        return {}
    named = _for_columns("classes", given, columns)
    return {
        key: texts(value, count, name) for key, (name, value) in named.items()
    }


def texts(labels: Any, count: int, name: str = "labels") -> list[str]:
    """Returns a text per image, empty ones if `labels` is `None`."""
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


def rectangles(boxes: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns boxes `(B, 4)` in pixels, or `None`.

    `shape` is that of the images.
    """
    if boxes is None:
        return None
    array = _numbers("boxes", boxes)
    count, height, width = shape[:3]
    if array.shape != (count, 4):
        raise ValueError(
            f"`boxes` must be of shape ({count}, 4), a box per image. "
            f"Received: boxes.shape={array.shape}"
        )
    ends = array[:, 2:] <= [height, width]
    fits = np.all((array[:, :2] < array[:, 2:]) & ends, axis=1)
    fits &= np.all(array >= 0, axis=1)
    # Also fractions, as TFDS gives them, fit, into one pixel.
    if not fits.all() or (array.max() <= 1 < min(height, width)):
        first = array[np.argmin(fits)].tolist()
        raise ValueError(
            "`boxes` must be y_min, x_min, y_max, x_max in pixels of images "
            f"of {height} x {width}, the maxima exclusive. Received: {first}. "
            "Of fractions, give boxes * [height, width, height, width]"
        )
    return array


def gates(maps: Any, count: int) -> dict[str, tuple]:
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
    return {str(key): _gate(key, pair, count) for key, pair in maps.items()}


def grey(picture: np.ndarray) -> np.ndarray:
    """Returns images `(..., C)` as luminance `(...)`, ITU-R BT.601."""
    if picture.shape[-1] == 1:
        return picture[..., 0]
    return picture @ np.array([0.299, 0.587, 0.114])


def _gate(key, pair, count):
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
    found = []
    for value, form in ((channel, "(B, C)"), (spatial, "(B, h, w)")):
        array = value
        if value is not None:
            array = _numbers(f'maps["{key}"]', value)
            if array.ndim != form.count(",") + 1 or len(array) != count:
                raise ValueError(
                    f'`maps["{key}"]` must have shapes (B, C) and (B, h, w) '
                    f"for B={count} images, or None. Received: {array.shape} "
                    f"where {form} belongs"
                )
        found.append(array)
    return tuple(found)


def _check_shape(shape):
    """Raises unless images of that shape can be drawn."""
    if len(shape) == 4 and shape[3] in (1, 3):
        return
    # An image of such a width would be a line: this is one in colour.
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


def _named(name, value, only):
    """Returns values by key, each with what errors call it."""
    if not isinstance(value, Mapping):
        return {only: (name, value)}
    return {str(key): (f'{name}["{key}"]', x) for key, x in value.items()}


def _for_columns(name, value, columns):
    """Returns values by column, or raises if they are of other columns."""
    named = _named(name, value, columns[0])
    if set(named) != set(columns):
        received = "an array without names"
        if isinstance(value, Mapping):
            received = f"{name} of {_listed(named)}"
        raise ValueError(
            f"`{name}` must be a mapping with the names of `heat_maps`, "
            f"{_listed(columns)}. Received: {received}"
        )
    return named


def _shares(name, value, shape, meaning):
    """Returns an array of numbers from 0 to 1."""
    array = _numbers(name, value)
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


def _numbers(name, value):
    """Returns an array of finite numbers, at least one of them."""
    try:
        array = np.asarray(value)
        if value is None or array.dtype.kind in "cmMSU":
            raise TypeError(f"of type {array.dtype}")
        if array.dtype not in ("float32", "float64"):
            array = array.astype("float32")
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must be an array of numbers. Received: "
            f"{type(value).__name__}, {error}"
        ) from error
    if array.size == 0:
        raise ValueError(
            f"`{name}` must not be empty. Received: {name}.shape={array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be finite numbers. Received: "
            f"{np.sum(~np.isfinite(array))} that are NaN or infinite"
        )
    return array


def _listed(items):
    return _checks.first_few([_checks.quoted(item) for item in items], 6)
