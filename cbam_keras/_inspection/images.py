"""Arrays of numbers, and images that a model takes."""

import math

import keras
import numpy as np
from keras import layers
from numpy.typing import ArrayLike

from cbam_keras import _checks


def number_array(
    name: str, value: ArrayLike, *, booleans: bool = False
) -> np.ndarray:
    """Returns an array, tensor or nested lists as an array of finite numbers.

    `name` is what errors call it. With `booleans` they count as numbers.
    """
    if keras.ops.is_tensor(value):
        value = keras.ops.convert_to_numpy(value)
    array = np.asarray(value)
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


def check_images(images: ArrayLike, model: keras.Model) -> np.ndarray:
    """Returns images as an array that a model takes."""
    if isinstance(images, dict) and len(images) == 1:
        # By the name of the input, as `fit` also takes them.
        (images,) = images.values()
    array = number_array("images", images)
    inputs = getattr(model, "inputs", None) or []
    # A subclassed model may take signals or volumes.
    rank = array.ndim if array.ndim in (3, 5) else 4
    shape = inputs[0].shape[1:] if len(inputs) == 1 else (None,) * (rank - 1)
    if not _checks.fits((None, *shape), array.shape):
        hint = ""
        moved = array.shape[:1] + array.shape[2:] + array.shape[1:2]
        if _checks.fits(shape, array.shape):
            hint = ". Give a single one as images[None]"
        elif _checks.fits((None, *shape), moved):
            hint = ". Move the channel axis: np.moveaxis(images, 1, -1)"
        sizes = ", ".join(str(size or "?") for size in shape)
        raise ValueError(
            f'`images` must be of shape (B, {sizes}), as model "{model.name}" '
            f"takes them. Received: images.shape={array.shape}{hint}"
        )
    _check_range(array, model)
    return array


def _computing_layers(model):
    """Yields the layers of a model that rescale or have weights."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _computing_layers(layer)
        elif isinstance(layer, layers.Rescaling) or layer.weights:
            yield layer


def _check_range(array, model):
    """Raises or warns if images are in another range than a model expects."""
    first = next(_computing_layers(model), None)
    low, high = float(array.min()), float(array.max())
    is_lite = model.name.startswith("efficientnetlite0")
    if is_lite and isinstance(first, layers.Conv2D) and high > 2:
        _checks.warn(
            "`images` must be scaled by models.preprocess_efficientnet_lite0, "
            f'to [-1, 1], for the ImageNet weights of model "{model.name}". '
            f"Received: numbers from {low:g} to {high:g}"
        )
    if not isinstance(first, layers.Rescaling) or np.ndim(first.scale) != 0:
        return
    # To [0, 1], or to [-1, 1].
    width = 255 * first.scale
    if not any(math.isclose(width, x, rel_tol=0.02) for x in (1, 2)):
        return
    message = (
        f'`images` must be numbers in [0, 255], which model "{model.name}" '
        f"scales itself. Received: numbers from {low:g} to {high:g}. Do not "
        "rescale them before"
    )
    # Resizing with a cubic kernel overshoots by up to about a tenth.
    if low < -26 or high > 281:
        raise ValueError(message)
    if array.dtype.kind == "f" and 0 < high <= 1:
        _checks.warn(message)
