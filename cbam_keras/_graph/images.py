"""Arrays of numbers, and what a model takes: images and other inputs."""

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers, ops

from cbam_keras import _checks
from cbam_keras._graph.graph import as_input, in_order, input_names

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
else:
    # `help` prints six lines of private types for that of NumPy.
    ArrayLike = type("ArrayLike", (), {"__module__": "builtins"})

# What a model takes: images, or several inputs nested.
Inputs = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]


def number_array(
    name: str, value: ArrayLike, *, booleans: bool = False
) -> np.ndarray:
    """Returns an array, tensor or nested lists as an array of numbers."""
    if ops.is_tensor(value):
        value = ops.convert_to_numpy(value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be of one size: resize them, or give one at a "
            "time. Received: several sizes"
        ) from error
    if array.dtype.kind not in ("buif" if booleans else "uif"):
        raise TypeError(
            f"`{name}` must be an array of numbers. Received: "
            f"{type(value).__name__} of dtype {array.dtype}"
            f"{_checks.next_step(name, value)}"
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


def check_inputs(inputs: Any, model: keras.Model) -> Any:
    """Returns an array that a model takes, or several, nested as its inputs."""
    tensors = getattr(model, "inputs", None) or ()
    count = len(tensors)
    if count < 2:
        if isinstance(inputs, dict) and len(inputs) == 1:
            # `fit` also takes images by the name of the input.
            (inputs,) = inputs.values()
        # A subclassed model may take signals or volumes.
        array = number_array("images", inputs)
        rank = min(max(array.ndim, 3), 5)
        shape = tensors[0].shape if tensors else (None,) * rank
        array = _fit("`images`", array, shape, model)
        _check_range(array, model)
        return array
    names = input_names(model)
    if isinstance(inputs, dict):
        fits = set(names) <= set(inputs)
    else:
        fits = isinstance(inputs, (list, tuple)) and len(inputs) == count
    if not fits:
        received = sorted(inputs) if isinstance(inputs, dict) else type(inputs)
        raise ValueError(
            f"`images` must be a list of the {count} inputs of model "
            f'"{model.name}", or a dictionary of the inputs {names}. '
            f"Received: {received}"
        )
    arrays = [
        _fit(f'Input "{name}" in `images`', value, tensor.shape, model)
        for name, tensor, value in zip(
            names, model.inputs, in_order(model, inputs), strict=True
        )
    ]
    if len(lengths := {len(array) for array in arrays}) > 1:
        raise ValueError(
            "Inputs in `images` must be of one number of samples. Received: "
            f"{sorted(lengths)}"
        )
    return as_input(model, arrays)


def batches(inputs: Any, size: int) -> Iterator[Any]:
    """Yields inputs by `size` samples."""
    for start in range(0, len(keras.tree.flatten(inputs)[0]), size):
        batch = slice(start, start + size)
        yield keras.tree.map_structure(operator.itemgetter(batch), inputs)


def _fit(name, value, shape, model):
    """Returns an array that a model takes as an input of a shape."""
    array = number_array("images", value)
    if array.ndim == len(shape) - 1 and shape[-1] == 1:
        # Keras adds an axis, too.
        array = array[..., None]
    if not _checks.fits((None, *shape[1:]), array.shape):
        hint = ""
        if _checks.fits(shape[1:], array.shape):
            hint = ". Give a single one as images[None]"
        sizes = ", ".join(str(size or "?") for size in shape[1:])
        raise ValueError(
            f'{name} must be of shape (B, {sizes}), as model "{model.name}" '
            f"takes it. Received: {array.shape}{hint}"
        )
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
    if not isinstance(first, layers.Rescaling) or np.ndim(first.scale) != 0:
        return
    # Such models scale to [0, 1], or to [-1, 1].
    width = 255 * first.scale
    if not any(math.isclose(width, x, rel_tol=0.02) for x in (1, 2)):
        return
    low, high = float(array.min()), float(array.max())
    message = (
        f'`images` must be numbers in [0, 255], which model "{model.name}" '
        f"scales itself. Received: numbers from {low:g} to {high:g}. Do not "
        "rescale them before"
    )
    # Resizing with a cubic kernel overshoots by up to about a tenth.
    if low < -26 or high > 281:
        raise ValueError(message)
    if array.dtype.kind == "f" and 0 < high <= 2:
        _checks.warn(message)
