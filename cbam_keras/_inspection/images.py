"""Images that are given to a model, checked before it runs."""

import math
from typing import Any

import keras
import numpy as np
from keras import layers

from cbam_keras import _checks

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


def check_images(images: Any, model: keras.Model) -> np.ndarray:
    """Returns images as an array of numbers that a model takes.

    Raises:
        ValueError: If their shape is not what the model takes, or if they are
            not finite, or outside of the range that the model scales itself.
        TypeError: If they are no numbers.
    """
    array = _numbers(images)
    takes = _shape(model)
    _check_shape(array, takes, model)
    if not np.isfinite(array).all():
        raise ValueError(
            "`images` must be finite numbers. Received: images with "
            f"{np.count_nonzero(~np.isfinite(array))} that are infinite or "
            "not a number"
        )
    if _scales_bytes(model):
        _check_bytes(array, model)
    return array


def _numbers(images):
    if isinstance(images, dict) and len(images) == 1:
        # As `fit` takes them by the name of the input.
        (images,) = images.values()
    if keras.ops.is_tensor(images):
        images = keras.ops.convert_to_numpy(images)
    try:
        array = np.asarray(images)
    except ValueError:
        # Images of different sizes.
        array = np.asarray(None)
    if array.dtype.kind in "uif":
        return array
    # bfloat16, as NumPy knows it from outside.
    if "bfloat16" in str(array.dtype):
        return array.astype("float32")
    raise TypeError(
        "`images` must be an array of numbers, of shape (B, H, W, C). "
        f"Received: images of type {type(images).__name__} and dtype "
        f"{array.dtype}. Of files, keras.utils.load_img and img_to_array give "
        "arrays; of a data set, take a batch: images, labels = "
        "next(iter(dataset))"
    )


def _shape(model):
    """Returns the shape a model takes, or `None` where it is not known."""
    inputs = getattr(model, "inputs", None)
    if inputs and len(inputs) == 1:
        return tuple(inputs[0].shape)
    return None


def _check_shape(array, takes, model):
    expected = takes or (None, None, None, None)
    shape = array.shape
    if _checks.fits(expected[1:], shape[1:]) and len(array):
        return
    hint = ""
    if len(shape) == 0 or 0 in shape:
        hint = ". There must be at least one"
    elif len(shape) == len(expected) - 1:
        hint = ". " + (
            "A single image is given as images[None]"
            if _checks.fits(expected[1:], shape)
            else "Grey images get their channel as images[..., None]"
        )
    elif len(shape) == 4 and len(expected) == 4:
        hint = f". {_mend(shape, expected)}"
    raise ValueError(
        f"`images` must be of shape {_text(expected)}, as model "
        f'"{model.name}" takes them. Received: images.shape={shape}{hint}'
    )


def _mend(shape, expected):
    moved = (shape[2], shape[3], shape[1])
    back = (shape[3], shape[1], shape[2])
    for order, other in (((0, 2, 3, 1), moved), ((0, 3, 1, 2), back)):
        if _checks.fits(expected[1:], other):
            return f"Channels elsewhere: np.transpose(images, {order})"
    return "Resize them with keras.ops.image.resize, if it is the size"


def _text(shape):
    letters = "BHWC" if len(shape) == 4 else "B" + "?" * len(shape)
    sides = [
        letter if size is None else str(size)
        for letter, size in zip(letters, shape, strict=False)
    ]
    return f"({', '.join(sides)})"


def _scales_bytes(model):
    """Returns whether a model begins by scaling [0, 255] itself."""
    first = next(_layers_that_count(model), None)
    # To a range of 1, or of 2 around 0.
    return (
        isinstance(first, layers.Rescaling)
        and np.ndim(first.scale) == 0
        and any(
            math.isclose(255 * first.scale, width, rel_tol=0.02)
            for width in (1, 2)
        )
    )


def _layers_that_count(model):
    """Yields the layers of a model, but for those that keep the range."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _layers_that_count(layer)
        elif type(layer).__name__ not in KEEP_RANGE:
            yield layer


def _check_bytes(array, model):
    low, high = float(array.min()), float(array.max())
    # A little beyond, as of a resize with a cubic kernel, is no mistake.
    if low < -26 or high > 281:
        raise ValueError(
            "`images` must be numbers in [0, 255], which model "
            f'"{model.name}" scales itself. Received: numbers from {low:g} '
            f"to {high:g}. Leave out what has scaled them before"
        )
    if array.dtype.kind == "f" and 0 < high <= 1:
        _checks.warn(
            f'Model "{model.name}" takes images in [0, 255], which it scales '
            f"itself. Received: numbers from {low:g} to {high:g}, which it "
            "will take for black. Leave out the division by 255"
        )
