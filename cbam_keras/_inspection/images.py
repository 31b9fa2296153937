"""Images as arrays, and whether a model takes them."""

import math
from typing import Any

import keras
import numpy as np
from keras import layers

from cbam_keras import _checks

# Layers that may come before a model's `Rescaling` without changing the range
# of its images.
KEEP_RANGE = {
    "CenterCrop",
    "Dropout",
    "Identity",
    "InputLayer",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "Resizing",
    "ZeroPadding2D",
}


def number_array(name: str, value: Any, *, booleans: bool = False) -> Any:
    """Returns `value` as a NumPy array of finite numbers.

    Args:
        name: String, what error messages call it.
        value: Array, tensor of any backend, or nested lists.
        booleans: Boolean, whether booleans count as numbers. Defaults to
            `False`.

    Raises:
        ValueError: If it is empty or has values that are not finite.
        TypeError: If it does not hold numbers.
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


def check_images(images: Any, model: keras.Model) -> np.ndarray:
    """Returns images as an array that a model takes.

    Raises:
        ValueError: If they are not finite, if their shape is not what the
            model takes, or if they are outside the range that the model
            rescales itself.
        TypeError: If they are not numbers.
    """
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
    _check_shape(array.shape, model)
    if _rescales_bytes(model):
        _check_bytes(array, model)
    return array


def _check_shape(shape, model):
    """Raises unless a model takes images of this shape."""
    inputs = getattr(model, "inputs", None)
    expected: tuple = (None, None, None, None)
    if inputs and len(inputs) == 1:
        expected = tuple(inputs[0].shape)
    elif len(shape) in (3, 5):
        # A subclassed model may take signals or volumes.
        return
    if _checks.fits(expected[1:], shape[1:]):
        return
    raise ValueError(
        f"`images` must be of shape {_letters(expected)}, as model "
        f'"{model.name}" takes them. Received: images.shape={shape}'
        f"{_shape_hint(shape, expected)}"
    )


def _shape_hint(shape, expected):
    """Returns how to fix a wrong shape, as far as it can be guessed."""
    if shape and len(shape) == len(expected) - 1:
        if _checks.fits(expected[1:], shape):
            return ". Give a single image as images[None]"
        return ". Give grayscale images a channel axis: images[..., None]"
    if len(shape) != 4 or len(expected) != 4:
        return ""
    channels_last = shape[2], shape[3], shape[1]
    channels_first = shape[3], shape[1], shape[2]
    for order, moved in (
        ((0, 2, 3, 1), channels_last),
        ((0, 3, 1, 2), channels_first),
    ):
        if _checks.fits(expected[1:], moved):
            return f". Move the channel axis: np.transpose(images, {order})"
    return ". If only the size is wrong, use keras.ops.image.resize"


def _letters(shape):
    """Returns a shape with letters for the axes of unknown size."""
    letters = "BHWC" if len(shape) == 4 else "B" + "?" * len(shape)
    sizes = [
        letter if size is None else str(size)
        for letter, size in zip(letters, shape, strict=False)
    ]
    return f"({', '.join(sizes)})"


def _rescales_bytes(model):
    """Returns whether a model starts by rescaling [0, 255] itself."""
    first = next(_changing_layers(model), None)
    if not isinstance(first, layers.Rescaling) or np.ndim(first.scale) != 0:
        return False
    # To [0, 1], or to [-1, 1].
    width = 255 * first.scale
    return any(math.isclose(width, x, rel_tol=0.02) for x in (1, 2))


def _changing_layers(model):
    """Yields the layers of a model except those that keep the range."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _changing_layers(layer)
        elif type(layer).__name__ not in KEEP_RANGE:
            yield layer


def _check_bytes(array, model):
    low, high = float(array.min()), float(array.max())
    # Resizing with a cubic kernel overshoots by up to about a tenth.
    if low < -26 or high > 281:
        raise ValueError(
            "`images` must be numbers in [0, 255], which model "
            f'"{model.name}" scales itself. Received: numbers from {low:g} '
            f"to {high:g}. Do not rescale them before"
        )
    if array.dtype.kind == "f" and 0 < high <= 1:
        _checks.warn(
            f'Model "{model.name}" takes images in [0, 255], which it scales '
            f"itself. Received: numbers from {low:g} to {high:g}, which look "
            "black to it. Leave out the division by 255"
        )
