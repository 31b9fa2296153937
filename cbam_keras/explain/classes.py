"""Class probabilities, and the class that is explained."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from cbam_keras import _checks, _graph


def class_probabilities(
    model: keras.Model,
    images: _graph.Inputs,
    *,
    head: int | str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Returns the probability that a classifier assigns to each class.

    Args:
        model: Functional or Sequential `keras.Model` that returns a value per
            class.
        images: Array or tensor, as the model takes it; for several inputs, a
            list or dictionary of arrays; or a `tf.data.Dataset` of batches of
            either, whose labels are ignored.
        head: Name, key or index of the output with the classes, for models
            with several. Defaults to `None`, which means the only one.
        batch_size: Positive integer, images per batch. Defaults to `32`.

    Returns:
        NumPy array `(B, classes)`, float32: the output of the model if it
        ends in a softmax or sigmoid, or if it is not negative and sums to 1
        for all images; otherwise the softmax of its logits. A single output
        unit is for two classes: `p`, or the sigmoid of the logit, is the
        probability of class 1, and `1 - p` that of class 0.

    Raises:
        ValueError: If the images do not fit the model, or if it has no such
            head or several outputs.
        TypeError: If the model is of another type, or the images are not
            numbers.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, classifier_activation=None
        ... )
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> class_probabilities(model, images).shape
        (2, 10)
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    model = _graph.with_graph("model", model)
    inputs, graph, index = read_model(model, images, head)
    class_indices(None, len(inputs[0]), model, graph.outputs[index])
    parts = []
    for batch in _graph.batches(inputs, batch_size):
        outputs = _graph.run_model(model, _graph.as_input(model, batch))
        outputs = keras.tree.flatten(outputs)
        parts.append(_graph.to_float32(outputs[index]))
    kind = _graph.find_head(graph, graph.outputs[index]).kind
    values = _graph.as_probabilities(np.concatenate(parts), kind)
    return values.astype("float32")


def read_model(
    model: keras.Model,
    images: _graph.Inputs,
    head: int | str | None,
    image: int = 0,
) -> tuple[list[np.ndarray], _graph.Graph, int]:
    """Returns checked inputs, the graph for them, and the index of a head.

    `image` is the index of the input with the images.
    """
    inputs = _graph.in_order(model, _graph.check_inputs(images, model))
    symbols = [
        keras.KerasTensor((None, *array.shape[1:]), tensor.dtype)
        for array, tensor in zip(inputs, model.inputs, strict=True)
    ]
    graph = _graph.Graph(model, symbols, image)
    return inputs, graph, _head_index(model, head)


def image_index(model: keras.Model, image_input: int | str | None) -> int:
    """Returns the index of the input with the images."""
    names = _graph.input_names(model)
    if image_input is not None:
        return _index_of("image_input", image_input, names, len(names))
    images = [i for i, x in enumerate(model.inputs) if len(x.shape) == 4]
    if len(names) > 1 and len(images) != 1:
        raise ValueError(
            "`image_input` must name the input with the images if not exactly "
            "one of several is of rank 4. Received: image_input=None for model "
            f'"{model.name}" with the inputs {names}'
        )
    return images[0] if len(names) > 1 else 0


def class_indices(
    class_index: int | Sequence[int] | None,
    count: int,
    model: keras.Model,
    output: keras.KerasTensor,
    axis: int | None = None,
) -> np.ndarray | None:
    """Returns an index per image, or `None` for the predicted classes.

    In an output that has positions, `axis` has the classes.
    """
    shape = tuple(output.shape)
    if (axis is None and len(shape) != 2) or shape[axis or 1] is None:
        raise ValueError(
            "`model` must return a value per class, (B, classes), or in "
            "grad_cam one at each position, (B, H, W, classes). Received: "
            f'model "{model.name}" with an output of shape {shape}. Name '
            "another with `head`, or give grad_cam a function of the output "
            "as `class_index`, which returns a score per image"
        )
    if class_index is None:
        return None
    # A single value is for two classes.
    last = max(shape[axis or 1], 2) - 1
    indices = np.asarray(class_index)
    if (
        indices.dtype.kind not in "iu"
        or indices.shape not in ((), (count,))
        or indices.min() < 0
        or indices.max() > last
    ):
        raise ValueError(
            f"`class_index` must be an integer from 0 to {last}, one per image "
            f"({count} here), or a function of the output. Received: "
            f"class_index={class_index!r}"
        )
    return np.broadcast_to(indices, (count,))


def check_region(
    region: ArrayLike | None,
    count: int,
    output: keras.KerasTensor,
    axis: int | None,
) -> np.ndarray | None:
    """Returns a region per image, or `None` for where a class is predicted."""
    if region is None:
        return None
    sizes = list(output.shape)
    if axis is not None:
        del sizes[axis]
    array = _graph.number_array("region", region, booleans=True)
    shapes = (sizes[1:], (count, *sizes[1:]))
    fits = any(_checks.fits(shape, array.shape) for shape in shapes)
    if axis is None or array.dtype != bool or not fits:
        raise ValueError(
            "`region` must be a boolean array (H, W) or (B, H, W), such as "
            "labels == 1, where `class_index` is a class of an output (B, H, "
            f"W, classes) and B={count}. Received: region of dtype "
            f"{array.dtype} and shape {array.shape}, for an output of shape "
            f"{tuple(output.shape)}"
        )
    return np.broadcast_to(array, (count, *array.shape[1 - len(sizes) :]))


def _head_index(model, head):
    names = list(getattr(model, "output_names", None) or [])
    structure = _graph.structure(model)[1]
    if isinstance(structure, dict) and len(structure) == len(model.outputs):
        names = _graph.keys_in_order(structure)
    if head is None and len(model.outputs) == 1:
        return 0
    return _index_of("head", head, names, len(model.outputs))


def _index_of(argument, value, names, count):
    """Returns the index of one of `count` inputs or outputs."""
    value = _checks.one_of(argument, value, [*names, *range(count)])
    return names.index(value) if isinstance(value, str) else value
