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
# What networks of `keras.applications` expect that do not rescale images, by a
# pattern of their names.
RANGES = {
    r"resnet\d+|vgg\d+": (-124, 151),
    r"densenet\d+": (-2.1, 2.6),
    r"resnet\d+v2|(inception|xception|mobilenet|nasnet).*": (-1, 1),
}
# A `Rescaling` by less divides images in [0, 255].
LARGEST_SCALE = 0.01
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
    """Returns an array, tensor or nested lists as an array of finite numbers.

    `name` is what errors call it. With `booleans` they count as numbers.
    """
    if ops.is_tensor(value):
        value = ops.convert_to_numpy(value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"All of `{name}` must have the same size. Received: several "
            "sizes. Resize them, or pass them one at a time"
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
            f"`{name}` must contain only finite numbers. Received: "
            f"{np.count_nonzero(~np.isfinite(array))} NaN or infinite values"
        )
    return array


def check_inputs(inputs: Any, model: keras.Model) -> Any:
    """Returns an array that a model takes, or several, nested as its inputs."""
    # A subclassed model has no inputs.
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
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise ValueError(
            "All inputs in `images` must have the same number of samples. "
            "Received: "
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
            hint = ". Pass a single one as images[None]"
        sizes = ", ".join(str(size or "?") for size in shape[1:])
        raise ValueError(
            f'{name} must have the shape that model "{model.name}" expects, '
            f"(B, {sizes}). Received: {array.shape}{hint}"
        )
    return array


def describe_range(
    model: keras.Model, images: object
) -> tuple[str, np.ndarray | None]:
    """Returns whether images are in another range than a network expects.

    Args:
        model: Functional model. Others than of one image are not looked at.
        images: Images that fit the model.

    Returns:
        Two values. The first is text for a message, `""` if nothing is wrong.
        The second is what a `Rescaling` layer of the model, also of a nested
        one, gets in place of [0, 255]. It is `None` if nothing is wrong there.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        return "", None
    x = to_float32(in_order(model, images)[0][:MOST_IMAGES])
    low = float(x.min())
    high = float(x.max())
    received = f"images from {low:.1f} to {high:.1f}; ".replace(".0", "")
    for pattern, (least, most) in RANGES.items():
        is_wide = high - low > 3 * (most - least)
        is_from_0_to_1 = low >= 0 and high <= 1
        if (
            (is_wide or is_from_0_to_1)
            and re.fullmatch(pattern, model.name, re.I)
            # Networks that are trained from scratch take any range.
            and are_initial(model.variables) is False
        ):
            return f"{received}{model.name} expects {least:g} to {most:g}", None
    for node in nodes(model):
        operation = node.operation
        if is_graph(operation):
            inside = _input_of(node, model, x)
            words, rescaled = describe_range(operation, inside)
            if words:
                return words, rescaled
        elif (
            isinstance(operation, layers.Rescaling)
            and np.ndim(operation.scale) == 0
            and operation.scale < LARGEST_SCALE
        ):
            rescaled = to_float32(_input_of(node, model, x))
            is_small = 0 < rescaled.max() <= 2
            # Resizing with a cubic kernel overshoots by about a tenth.
            if is_small or rescaled.min() < -26 or rescaled.max() > 281:
                divisor = f"{1 / operation.scale:.4g}"
                words = f"{received}this network divides by {divisor} itself"
                return words, rescaled
        if getattr(operation, "weights", ()):
            # What follows are features.
            break
    return "", None


def _input_of(node, model, images):
    """Returns what a node of a model takes, computed from images."""
    return keras.Model(model.inputs[0], node.input_tensors[0])(images)


def are_initial(variables: Iterable[keras.Variable]) -> bool | None:
    """Returns whether variables have the values of before training.

    Only those are looked at whose initial value is known by their name, as of
    biases and moving averages. `None` if there are none.
    """
    compared = [x for x in variables if x.name in INITIAL]
    if not compared:
        return None
    return all(np.all(to_float32(x) == INITIAL[x.name]) for x in compared)


def _check_range(array, model):
    """Raises or warns if images are in another range than a model expects."""
    words, rescaled = describe_range(model, array)
    if rescaled is None:
        return
    message = (
        f'`images` must be numbers in [0, 255], which model "{model.name}" '
        f"scales itself. Received: {words}. Do not rescale them "
        "beforehand"
    )
    if not 0 < rescaled.max() <= 2:
        raise ValueError(message)
    # Small numbers are only unlikely, such as dark images; integers are pixels.
    if array.dtype.kind == "f":
        _checks.warn(message)
