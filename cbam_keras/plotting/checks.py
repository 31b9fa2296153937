"""Checks of the arguments of the figures of images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _inspection
from cbam_keras.plotting.grid import luminance

# With more images than these the figures cannot be read.
MAX_ROWS = 32
MAX_BLOCKS = 8
# Rounding may carry a value this far out of its range.
TOLERANCE = 1e-3
# What the images of heat maps of so many axes are.
KINDS = {
    2: "signals of shape (B, L, C) or (B, L)",
    3: "of shape (B, H, W, C) with C 1 or 3, or (B, H, W)",
    4: "volumes of shape (B, D, H, W, C) with C 1 or 3, or (B, D, H, W)",
}


def check_array(
    name: str,
    value: Any,
    shape: Sequence[int | None] | None = None,
    meaning: str = "",
) -> np.ndarray:
    """Returns finite numbers, of a shape in which `None` is any size."""
    array = _inspection.number_array(name, value, booleans=True)
    if array.dtype != "float64":
        array = array.astype("float32")
    if shape is not None and not _checks.fits(shape, array.shape):
        raise ValueError(
            f"`{name}` must be of shape {shape}, {meaning}. Received: "
            f"{name}.shape={array.shape}"
        )
    return array


def check_fractions(
    name: str, value: Any, shape: Sequence[int], meaning: str
) -> np.ndarray:
    """Returns an array of numbers in [0, 1]."""
    array = check_array(name, value, shape, meaning)
    if array.min() < -TOLERANCE or array.max() > 1 + TOLERANCE:
        raise ValueError(
            f"`{name}` must be in [0, 1]. Received: numbers from "
            f"{array.min():g} to {array.max():g}"
        )
    return np.clip(array, 0, 1)


def check_images(images: Any, most: int, rank: int = 3) -> np.ndarray:
    """Returns images as they are drawn, by the rank of their heat maps.

    These are images `(B, H, W, C)` in [0, 1], where `C` is 1 or 3, signals
    `(B, L, C)` for rank 2, and volumes `(B, D, H, W)` for rank 4, each of
    them from 0 to 1.
    """
    array = check_array("images", images)
    shape = array.shape
    # A width of 1, 3 or 4 is rather the channels of a single image.
    is_gray = array.ndim == rank and (rank != 3 or shape[2] not in (1, 3, 4))
    if not is_gray and not (
        array.ndim == rank + 1 and (rank == 2 or shape[-1] in (1, 3))
    ):
        raise ValueError(
            f"`images` must be {KINDS[rank]}. Received: images.shape={shape}"
            + (_hint(shape) if rank == 3 else "")
        )
    if len(array) > most:
        raise ValueError(
            f"`images` must be at most {most}, or the figure cannot be read. "
            f"Received: {len(array)} images. Draw them in parts: "
            f"images[:{most}], with what belongs to these"
        )
    if is_gray:
        array = array[..., None]
    if rank == 2:
        return array
    if rank == 4:
        array = luminance(array)
        array = array - array.min(axis=(1, 2, 3), keepdims=True)
        # A volume of a single value is black.
        most = array.max(axis=(1, 2, 3), keepdims=True)
        return array / np.where(most == 0, 1, most)
    low, high = array.min(), array.max()
    if low < -TOLERANCE or high > 255 + TOLERANCE:
        raise ValueError(
            "`images` must be in [0, 255] or [0, 1]. Received: images from "
            f"{low:g} to {high:g}. Give them as they were before "
            "preprocessing, or np.clip(images, 0, 255)"
        )
    return np.clip(array / (1 if high <= 1 + TOLERANCE else 255), 0, 1)


def _hint(shape):
    if len(shape) in (2, 3):
        return ". Of a single image, give images[None]"
    if len(shape) == 4 and shape[1] in (1, 3):
        return (
            ". They look like channels_first: give "
            "np.transpose(images, (0, 2, 3, 1))"
        )
    if len(shape) == 4 and shape[3] == 4:
        return ". Leave the transparency out: give images[..., :3]"
    return ""


def rank_of_maps(heat_maps: Any) -> int:
    """Returns 2 for the heat maps of signals, 4 of volumes, 3 otherwise."""
    if isinstance(heat_maps, Mapping):
        heat_maps = next(iter(heat_maps.values()), 0)
    rank = check_array("heat_maps", heat_maps).ndim
    return rank if rank in KINDS else 3


def by_column(
    name: str,
    value: Any,
    columns: Sequence[str] | None,
    check: Callable[..., Any],
    *expected: Any,
) -> dict[str, Any]:
    """Returns the checked values of each column of a figure by its name.

    Without `columns` those of `value` are taken. `check` gets what error
    messages call a value, the value, `None` if all are, and what is expected.
    """
    received = "an array without names"
    if isinstance(value, Mapping):
        received = f"{name} of {_listed(value)}" if value else f"{name}={{}}"
        named = {str(key): (f'{name}["{key}"]', x) for key, x in value.items()}
    elif value is None and columns:
        named = dict.fromkeys(columns, (name, None))
    else:
        named = {columns[0] if columns else "Grad-CAM": (name, value)}
    if columns is None and not named:
        raise ValueError(
            f"`{name}` must hold the maps of at least one network. "
            f"Received: {received}"
        )
    if columns is not None and set(named) != set(columns):
        raise ValueError(
            f"`{name}` must be a mapping with the names of `heat_maps`, "
            f"{_listed(columns)}. Received: {received}"
        )
    return {key: check(*pair, *expected) for key, pair in named.items()}


def check_probabilities(name: str, value: Any, count: int) -> list[str]:
    """Returns a text per image, empty ones if `value` is `None`."""
    if value is None:
        return [""] * count
    meaning = "a probability per image, that of the explained class"
    array = check_fractions(name, value, (count,), meaning)
    return [f"P = {number:.2f}" for number in array]


def check_labels(name: str, labels: Any, count: int) -> list[str]:
    """Returns a string per image, empty ones if `labels` is `None`."""
    if labels is None:
        return [""] * count
    try:
        listed = [labels] if isinstance(labels, str) else list(labels)
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be a sequence of strings. Received: "
            f"{name}={labels!r}"
        ) from error
    if isinstance(labels, str) or len(listed) != count:
        raise ValueError(
            f"`{name}` must hold {count} strings, one per image. Received: "
            f"{len(listed)}, {_listed(listed)}"
        )
    return [str(label) for label in listed]


def check_boxes(boxes: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns boxes `(B, 4)` in pixels of images of a shape, or `None`."""
    if boxes is None:
        return None
    count, height, width = shape[:3]
    array = check_array("boxes", boxes, (count, 4), "a box per image")
    first, last = array[:, :2], array[:, 2:]
    inside = (0 <= first) & (first < last) & (last <= [height, width])
    fits = np.all(inside, axis=1)
    # Fractions, as TFDS gives them, would pass as boxes within one pixel.
    if not fits.all() or (array.max() <= 1 < min(height, width)):
        raise ValueError(
            "`boxes` must be y_min, x_min, y_max, x_max in pixels of images "
            f"of {height} x {width}, the maxima exclusive. Received: "
            f"{array[np.argmin(fits)].tolist()}. Of fractions, give boxes * "
            "[height, width, height, width]"
        )
    return array


def check_attention_maps(maps: Any, count: int) -> dict[str, list]:
    """Returns `[channel, spatial]` by layer, `(B, C)` and `(B, h, w)`."""
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
    expected = (
        ((count, None), "channel maps (B, C)"),
        ((count, None, None), "spatial maps (B, h, w)"),
    )
    checked = {}
    for layer, pair in maps.items():
        name = f'maps["{layer}"]'
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                f"`{name}` must be a tuple (channel, spatial). Received: "
                f"{type(pair).__name__}"
            )
        if pair[0] is None and pair[1] is None:
            raise ValueError(
                f"`{name}` must have a channel map, a spatial map or both. "
                "Received: (None, None)"
            )
        checked[str(layer)] = [
            x if x is None else check_array(f"{name}[{i}]", x, *expected[i])
            for i, x in enumerate(pair)
        ]
    return checked


def _listed(items):
    return _checks.first_few([_checks.quoted(item) for item in items], 6)
