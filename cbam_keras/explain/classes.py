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
    head: int | str | None = None,
    output: int | str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Returns the probability that a classifier assigns to each class.

    Args:
        model: See `grad_cam`.
        images: See `grad_cam`.
        head: See `grad_cam`. Defaults to `None`.
        output: Another name of `head`. Defaults to `None`.
        batch_size: See `grad_cam`. Defaults to `32`.

    Returns:
        NumPy array `(B, classes)`, float32: the output of the model if it
        ends in a softmax or sigmoid, or if it is not negative and sums to 1
        for all images; otherwise the softmax of its logits, or the sigmoid
        of a single logit.

    Raises:
        ValueError: As `grad_cam`, of model, images and head.
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
    task = read_model(model, images, output if head is None else head)
    task.require_classes()
    batches = []
    for start in range(0, len(task.images), batch_size):
        batch = task.images[start : start + batch_size]
        outputs = keras.tree.flatten(_inspection.run_model(model, batch))
        batches.append(_inspection.to_float32(outputs[task.index]))
    values = np.concatenate(batches)
    activation = _inspection.find_head(task.graph.steps, task.output).kind
    if activation or _are_probabilities(values):
        return values
    if values.shape[1] == 1:
        return np.exp(-np.logaddexp(0, -values))
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _are_probabilities(values):
    """Returns whether all rows `(B, classes)` are in [0, 1] and sum to 1."""
    sums = values.sum(axis=1)
    return (
        values.shape[1] > 1
        and values.min() >= 0
        and bool((np.abs(sums - 1) < 1e-3).all())
    )


@dataclasses.dataclass(frozen=True)
class Task:
    """A model and images to explain, checked.

    Attributes:
        name: Name of the model.
        images: The images as an array.
        graph: `Graph` of the model, traced for images of their size.
        index: Index of the explained output among all outputs.
    """

    name: str
    images: np.ndarray
    graph: _inspection.Graph
    index: int

    @property
    def output(self) -> Any:
        """The symbolic output that is explained."""
        return self.graph.outputs[self.index]

    def require_classes(self) -> None:
        """Raises unless the output holds a value per class."""
        shape = tuple(self.output.shape)
        if len(shape) != 2 or shape[1] is None:
            raise ValueError(
                "`model` must return a value per class, an output of shape "
                f'(B, classes). Received: model "{self.name}" with an output '
                f"of shape {shape}. Name another with `head`, end the model "
                "in a classifier, or give `class_index` of grad_cam a function "
                "of the output that returns a score per image"
            )

    def class_indices(self, class_index: Any) -> np.ndarray | None:
        """Returns an index per image, or `None` for the predicted classes."""
        self.require_classes()
        if class_index is None:
            return None
        count, classes = len(self.images), self.output.shape[1]
        indices = np.asarray(class_index)
        shapes = (), (count,)
        if indices.dtype.kind not in "iu" or indices.shape not in shapes:
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


def read_model(model: keras.Model, images: Any, head: Any) -> Task:
    """Checks a model of one input and images, and traces the model."""
    _inspection.require_graph("model", model)
    if len(model.inputs) != 1:
        raise ValueError(
            "`model` must have one input, images. Received: model "
            f'"{model.name}" with {len(model.inputs)}: '
            f"{_checks.first_few([x.name for x in model.inputs])}"
        )
    images = _inspection.check_images(images, model)
    image = keras.KerasTensor((None, *images.shape[1:]), model.inputs[0].dtype)
    graph = _inspection.Graph(model, [image])
    return Task(model.name, images, graph, head_index(model, head))


def head_index(model: keras.Model, head: Any) -> int:
    """Returns the index of an output among the outputs of a model."""
    names = list(getattr(model, "output_names", None) or [])
    count = len(model.outputs)
    if head is None and count == 1:
        return 0
    structure = _inspection.structure(model)[1]
    if isinstance(structure, dict) and len(structure) == count:
        # In the order in which Keras flattens it.
        keys = keras.tree.flatten({key: key for key in structure})
        if head in keys:
            return keys.index(head)
        names = keys
    if isinstance(head, str):
        return names.index(_checks.one_of("head", head, names))
    if isinstance(head, int) and not isinstance(head, bool):
        if 0 <= head < count:
            return head
    raise ValueError(
        f'`head` must tell which output of model "{model.name}" to explain, '
        f"by name or by an index below {count}. Received: head={head!r}. "
        f"Its outputs are {_checks.first_few(names, 10)}"
    )
