"""Class probabilities, and the class that is explained."""

import keras
import numpy as np

from cbam_keras import _checks, _graph
from cbam_keras._graph import ArrayLike


@_checks.named
def class_probabilities(
    model: keras.Model, images: _graph.Inputs, *, batch_size: int = 32
) -> np.ndarray:
    """Returns the probability that a classifier assigns to each class.

    Args:
        model: Functional or Sequential `keras.Model` that returns a value per
            class.
        images: See `attention_maps`.
        batch_size: Positive integer, images per batch. Defaults to `32`.

    Returns:
        NumPy array `(B, classes)`, float32. It is the output of the model if
        the model ends in a softmax or sigmoid, or if the output is not negative
        and sums to 1 for all images; otherwise it is the softmax of the output.
        If several units are compiled with a binary loss, it is the output, or
        the sigmoid of each logit if that loss takes logits. A single unit is
        for two classes if the model ends in a sigmoid or has a classification
        loss: `p`, or the sigmoid of the logit, is the probability of class 1,
        and `1 - p` that of class 0.

    Raises:
        ValueError: If the images do not fit the model, if it has several
            outputs, if it is compiled with a regression loss, or if neither an
            activation nor a loss says that its single unit is for classes.
        TypeError: If `model` is not a model, or the images are not numbers.

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
    inputs, graph = read_model(model, images)
    kind = _kind_of_classes(model, graph, len(inputs[0]))
    parts = []
    for batch in _graph.batches(inputs, batch_size):
        outputs = _graph.run_model(model, _graph.as_input(model, batch))
        (outputs,) = keras.tree.flatten(outputs)
        parts.append(_graph.to_float32(outputs))
    values = _graph.as_probabilities(np.concatenate(parts), kind)
    return values.astype("float32")


def read_model(
    model: keras.Model, images: _graph.Inputs, image: int = 0
) -> tuple[list[np.ndarray], _graph.Graph]:
    """Returns checked inputs of a model of one output, and the graph for them.

    `image` is the index of the input with the images.
    """
    inputs = _graph.in_order(model, _graph.check_inputs(images, model))
    if len(model.outputs) > 1:
        raise ValueError(
            f'`model` must have one output. Received: model "{model.name}" '
            f"with {len(model.outputs)}. Explain keras.Model(model.input, "
            "model.get_layer(name).output), compiled with the loss of that "
            "output where it is a single value"
        )
    symbols = [
        keras.KerasTensor((None, *array.shape[1:]), tensor.dtype)
        for array, tensor in zip(inputs, model.inputs, strict=True)
    ]
    return inputs, _graph.Graph(model, symbols, image)


def image_index(model: keras.Model, image_input: int | str | None) -> int:
    """Returns the index of the input with the images."""
    names = _graph.input_names(model)
    if image_input is not None:
        choices = [*names, *range(len(names))]
        choice = _checks.one_of("image_input", image_input, choices)
        return names.index(choice) if isinstance(choice, str) else choice
    images = [i for i, x in enumerate(model.inputs) if len(x.shape) == 4]
    if len(names) > 1 and len(images) != 1:
        raise ValueError(
            "`image_input` must name the input with the images, if a model has "
            "several inputs and not exactly one of rank 4. Received: "
            f'image_input=None for model "{model.name}" with the inputs {names}'
        )
    return images[0] if len(names) > 1 else 0


def class_indices(
    class_index: int | ArrayLike | None,
    count: int,
    model: keras.Model,
    output: keras.KerasTensor,
    axis: int | None = None,
    is_regression: bool = False,
) -> np.ndarray | None:
    """Returns an index per image, or `None` for the predicted classes.

    If the output has positions, `axis` is the axis of its classes.
    """
    shape = tuple(output.shape)
    if (axis is None and len(shape) != 2) or shape[axis or 1] is None:
        raise ValueError(
            "`model` must return a value per class, (B, classes), or in "
            "grad_cam one at each position, (B, H, W, classes). Received: "
            f'model "{model.name}" with an output of shape {shape}'
        )
    size = shape[axis or 1]
    if class_index is None and not (is_regression and size > 1):
        return None
    # A single value is for two classes.
    last = (size if is_regression else max(size, 2)) - 1
    indices = np.asarray(class_index)
    if indices.shape == (count, 1):
        # The labels of Keras' datasets have this shape.
        indices = indices[:, 0]
    if (
        indices.dtype.kind not in "iu"
        or indices.shape not in ((), (count,))
        or indices.min() < 0
        or indices.max() > last
    ):
        what = "values of a regression" if is_regression else "classes"
        raise ValueError(
            f"`class_index` must be an integer from 0 to {last}, or one per "
            f"image ({count} here). Received: class_index={class_index!r} for "
            f"{last + 1} {what}"
        )
    return np.broadcast_to(indices, (count,))


def _kind_of_classes(
    model: keras.Model, graph: _graph.Graph, count: int
) -> str | None:
    """Returns the kind of the output, or raises if it is not of classes."""
    (output,) = graph.outputs
    kind = _graph.find_kind(model, _graph.find_head(graph, output).kind)
    class_indices(None, count, model, output)
    if kind == "values" or (kind is None and output.shape[-1] == 1):
        raise ValueError(
            f'`model` must give classes. Received: model "{model.name}" with a '
            f"linear output of shape {tuple(output.shape)}, whose loss is a "
            "regression loss or not known. If it is a logit, end the model in "
            'layers.Activation("sigmoid"), or compile it with '
            "keras.losses.BinaryCrossentropy(from_logits=True)"
        )
    return kind
