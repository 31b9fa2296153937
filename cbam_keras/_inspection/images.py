"""Arrays of numbers, and images that a model takes."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from cbam_keras import _checks


def number_array(name: str, value: Any, *, booleans: bool = False) -> Any:
    """Returns an array, tensor or nested lists as an array of finite numbers.

    `name` is what errors call it. With `booleans` they count as numbers.
    """
    if keras.ops.is_tensor(value):
        value = keras.ops.convert_to_numpy(value)
    try:
        array = np.asarray(value)
    except ValueError:
        # Lists of different lengths.
        array = np.asarray(None)
    if str(array.dtype) == "bfloat16":
        array = array.astype("float32")
    if array.dtype.kind not in ("buif" if booleans else "uif"):
        raise TypeError(
            f"`{name}` must be an array of numbers. Received: "
            f"{type(value).__name__} of dtype {array.dtype}"
        )
    if array.size == 0:
        raise ValueError(
            f"`{name}` must not be empty. Received: {name}.shape={array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be finite numbers. Received: "
            f"{np.count_nonzero(~np.isfinite(array))} that are NaN or infinite"
        )
    return array


def check_shape(
    name: str, array: Any, shape: Sequence[int | None], taker: str = ""
) -> None:
    """Raises unless an array has a shape, in which `None` is any size."""
    if not _checks.fits(shape, array.shape):
        raise ValueError(
            f"`{name}` must be of shape {_in_letters(shape)}{taker}. Received: "
            f"{name}.shape={array.shape}{_shape_hint(name, array.shape, shape)}"
        )


def check_images(images: Any, model: keras.Model) -> np.ndarray:
    """Returns images as an array that a model takes."""
    if isinstance(images, dict) and len(images) == 1:
        # By the name of the input, as `fit` also takes them.
        (images,) = images.values()
    try:
        array = number_array("images", images)
    except TypeError as error:
        raise TypeError(
            f"{error}. Read files with keras.utils.load_img and img_to_array; "
            "of a dataset, give one batch: images, labels = "
            "next(iter(dataset))"
        ) from error
    inputs = getattr(model, "inputs", None) or []
    shape: Any = (None, None, None)
    if len(inputs) == 1:
        shape = inputs[0].shape[1:]
    elif array.ndim in (3, 5):
        # A subclassed model may take signals or volumes.
        shape = array.shape[1:]
    taker = f', as model "{model.name}" takes them'
    check_shape("images", array, (None, *shape), taker)
    _check_range(array, model)
    return array


def _shape_hint(name, shape, expected):
    """Returns how to fix a wrong shape, as far as it can be guessed."""
    if shape and len(shape) == len(expected) - 1:
        if _checks.fits(expected[1:], shape):
            return f". Give a single one as {name}[None]"
        return f". Give grayscale images a channel axis: {name}[..., None]"
    if len(shape) != 4 or len(expected) != 4:
        return ""
    for order in ((0, 2, 3, 1), (0, 3, 1, 2)):
        if _checks.fits(expected[1:], [shape[axis] for axis in order[1:]]):
            return f". Move the channel axis: np.transpose({name}, {order})"
    return ". If only the size is wrong, use keras.ops.image.resize"


def _in_letters(shape):
    """Returns a shape with letters for the axes of unknown size."""
    letters = "BHWC" if len(shape) == 4 else "B" + "?" * (len(shape) - 1)
    pairs = zip(shape, letters, strict=True)
    return f"({', '.join(str(size or letter) for size, letter in pairs)})"


def _computing_layers(model):
    """Yields the layers of a model that rescale or have weights."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _computing_layers(layer)
        elif isinstance(layer, layers.Rescaling) or layer.weights:
            yield layer


def _check_range(array, model):
    """Raises if a model rescales bytes itself, and images are none."""
    first = next(_computing_layers(model), None)
    if not isinstance(first, layers.Rescaling) or np.ndim(first.scale) != 0:
        return
    # To [0, 1], or to [-1, 1].
    width = 255 * first.scale
    if not any(math.isclose(width, x, rel_tol=0.02) for x in (1, 2)):
        return
    low, high = float(array.min()), float(array.max())
    received = f"Received: numbers from {low:g} to {high:g}"
    # Resizing with a cubic kernel overshoots by up to about a tenth.
    if low < -26 or high > 281:
        raise ValueError(
            "`images` must be numbers in [0, 255], which model "
            f'"{model.name}" scales itself. {received}. Do not rescale them '
            "before"
        )
    if array.dtype.kind == "f" and 0 < high <= 1:
        _checks.warn(
            f'Model "{model.name}" takes images in [0, 255], which it scales '
            f"itself. {received}, which look black to it. Leave out the "
            "division by 255"
        )
