"""Class probabilities, and the class that is explained."""

import dataclasses
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _inspection


def class_probabilities(
    model: keras.Model,
    images: Any,
    *,
    output: int | str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Returns the probability that a classifier assigns to each class.

    Args:
        model: See `grad_cam`.
        images: See `grad_cam`.
        output: See `grad_cam`. Defaults to `None`.
        batch_size: See `grad_cam`. Defaults to `32`.

    Returns:
        NumPy array `(B, classes)`, float32: the output of the model if it
        ends in a softmax or sigmoid, or if it is not negative and sums to 1
        for all images; otherwise the softmax of its logits, or the sigmoid
        of a single logit.

    Raises:
        ValueError: As `grad_cam`, of model, images and output.
        TypeError: If the images are not numbers.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, classifier_activation=None
        ... )
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> class_probabilities(model, images).shape
        (2, 10)
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    traced = read_model(model, images, output)
    require_classes(traced)
    head = _inspection.find_head(traced.steps, traced.output)
    found = []
    for start in range(0, len(traced.images), batch_size):
        outputs = keras.tree.flatten(
            _inspection.run_model(
                model, traced.images[start : start + batch_size]
            )
        )
        found.append(_inspection.to_float32(outputs[traced.index]))
    values = np.concatenate(found)
    if head.kind is not None or _inspection.looks_like_probabilities(values):
        return values
    if values.shape[1] == 1:
        return np.exp(-np.logaddexp(0, -values))
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Traced:
    """A model and its images, checked.

    Attributes:
        name: Name of the model.
        images: The images as an array.
        given: The symbolic input, of the size of the images.
        steps: The steps of the model.
        output: The symbolic output that is explained.
        index: Its index among the outputs.
    """

    name: str
    images: np.ndarray
    given: Any
    steps: list[_inspection.Step]
    output: Any
    index: int


def read_model(model: keras.Model, images: Any, output: Any) -> Traced:
    """Checks a model of one input and images, and traces the model."""
    _inspection.require_graph("model", model)
    if len(model.inputs) != 1:
        raise ValueError(
            "`model` must have one input, images. Received: model "
            f'"{model.name}" with {len(model.inputs)}: '
            f"{_checks.first_few([x.name for x in model.inputs])}"
        )
    images = _inspection.check_images(images, model)
    given = keras.KerasTensor((None, *images.shape[1:]), model.inputs[0].dtype)
    steps, results = _inspection.trace(model, [given])
    index = _output_index(model, output)
    return Traced(model.name, images, given, steps, results[index], index)


def require_classes(traced: Traced) -> None:
    """Raises unless the output of a model holds a value per class."""
    shape = tuple(traced.output.shape)
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(
            "`model` must return a value per class, an output of shape (B, "
            f'classes). Received: model "{traced.name}" with an output of '
            f"shape {shape}. Name another with `output`, end the model in a "
            "classifier, or give `class_index` of grad_cam a function of the "
            "output that returns a score per image"
        )


def _output_index(model, output):
    """Returns the index of an output among the outputs of a model."""
    names = list(getattr(model, "output_names", None) or [])
    count = len(model.outputs)
    if output is None and count == 1:
        return 0
    structure = _inspection.structure(model)[1]
    if isinstance(structure, dict) and len(structure) == count:
        # In the order in which Keras flattens it.
        keys = keras.tree.flatten({key: key for key in structure})
        if output in keys:
            return keys.index(output)
        names = keys
    if isinstance(output, str):
        return names.index(_checks.one_of("output", output, names))
    if isinstance(output, int) and not isinstance(output, bool):
        if 0 <= output < count:
            return output
    raise ValueError(
        f'`output` must tell which output of model "{model.name}" to explain, '
        f"by name or by an index below {count}. Received: output={output!r}. "
        f"Its outputs are {_checks.first_few(names, 10)}"
    )


def class_indices(class_index: Any, traced: Traced) -> np.ndarray | None:
    """Returns an index per image, or `None` for the predicted classes."""
    require_classes(traced)
    if class_index is None:
        return None
    count, classes = len(traced.images), traced.output.shape[1]
    indices = np.asarray(class_index)
    if indices.dtype.kind not in "iu" or indices.shape not in ((), (count,)):
        raise ValueError(
            "`class_index` must be an integer, one per image, "
            f"{count} here, or a function of the output. Received: "
            f"class_index={class_index!r}"
        )
    if indices.min() < 0 or indices.max() >= classes:
        raise ValueError(
            f"`class_index` must be from 0 to {classes - 1}, as the model "
            f"has {classes} classes. Received: class_index={class_index!r}"
        )
    return np.broadcast_to(indices, (count,))
