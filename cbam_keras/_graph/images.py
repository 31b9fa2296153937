"""Arrays of numbers, and what a model takes: images and other inputs."""

import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers, ops

from cbam_keras import _checks
from cbam_keras._graph.gates import to_float32
from cbam_keras._graph.graph import (
    as_input,
    in_order,
    input_names,
    is_graph,
    nodes,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
else:
    # `help` prints six lines of private types for that of NumPy.
    ArrayLike = type("ArrayLike", (), {"__module__": "builtins"})

# What a model takes: images, or several inputs nested.
Inputs = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]

# As many images tell their range.
MOST_IMAGES = 32
# What networks of `keras.applications` expect that do not rescale images.
RANGES = {
    r"resnet\d+|vgg\d+": (-124, 151),
    r"densenet\d+": (-2.1, 2.6),
    r"resnet\d+v2|(inception|xception|mobilenet|nasnet).*": (-1, 1),
}
# What weights are before training, by their names.
INITIAL = {
    "bias": 0,
    "beta": 0,
    "moving_mean": 0,
    "gamma": 1,
    "moving_variance": 1,
}


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
        if is_graph(model):
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


def describe_range(
    model: keras.Model, images: object
) -> tuple[str, np.ndarray | None]:
    """Returns words if images are in another range than a network expects.

    If it rescales them itself, also inside, the second is what it rescales.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        return "", None
    x = to_float32(in_order(model, images)[0][:MOST_IMAGES])
    low, high = float(x.min()), float(x.max())
    said = f"images from {low:.1f} to {high:.1f}; ".replace(".0", "")
    for pattern, (least, most) in RANGES.items():
        is_wide = high - low > 3 * (most - least)
        is_wrong = is_wide or low >= 0 and high <= 1
        is_named = re.fullmatch(pattern, model.name, re.I)
        if is_wrong and is_named and are_initial(model.variables) is False:
            return f"{said}{model.name} expects {least:g} to {most:g}", None
    for node in nodes(model):
        operation = node.operation
        is_rescaled = isinstance(operation, layers.Rescaling)
        if is_graph(operation) or is_rescaled:
            given = keras.Model(model.inputs[0], node.input_tensors[0])(x)
            if not is_rescaled:
                words, wrong = describe_range(operation, given)
                if words:
                    return words, wrong
            elif np.ndim(operation.scale) == 0 and operation.scale < 0.01:
                given = to_float32(given)
                is_small = 0 < given.max() <= 2
                # Resizing with a cubic kernel overshoots by about a tenth.
                if is_small or given.min() < -26 or given.max() > 281:
                    divisor = f"{1 / operation.scale:.4g}"
                    words = f"{said}this network divides by {divisor} itself"
                    return words, given
        if getattr(operation, "weights", ()):
            break
    return "", None


def are_initial(variables: Iterable[keras.Variable]) -> bool | None:
    """Returns whether biases and averages are initial, `None` of none."""
    known = [x for x in variables if x.name in INITIAL]
    initial = (to_float32(x) == INITIAL[x.name] for x in known)
    return all(map(np.all, initial)) if known else None


def _check_range(array, model):
    """Raises or warns if images are in another range than a model expects."""
    words, wrong = describe_range(model, array)
    if wrong is None:
        return
    message = (
        f'`images` must be numbers in [0, 255], which model "{model.name}" '
        f"scales itself. Received: {words}. Do not rescale them before"
    )
    if not 0 < wrong.max() <= 2:
        raise ValueError(message)
    if array.dtype.kind == "f":
        _checks.warn(message)
