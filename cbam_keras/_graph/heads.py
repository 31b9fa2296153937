"""The head of a model: logits, or probabilities computed from them."""

import dataclasses

import keras
import numpy as np
from keras import layers

from cbam_keras._graph.global_state import attributes
from cbam_keras._graph.graph import Tensor, is_graph
from cbam_keras._graph.steps import Graph, Step, Unfold

# Operations that keep the values, between an activation and the output.
_KEEPS_VALUES = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze")
# Parts of the names of losses of classes and of values, users' own among them.
CLASS_LOSSES = ("crossentropy", "hinge", "focal", "bce", "dice", "tversky")
VALUE_LOSSES = (
    "error",
    "huber",
    "logcosh",
    "poisson",
    "cosine",
    "mse",
    "mae",
)


@dataclasses.dataclass(frozen=True)
class Head:
    """The step that turns logits into probabilities, if there is one."""

    # "softmax", "sigmoid" or `None`.
    kind: str | None
    step: Step | None
    # What the step starts from, before operations that keep values.
    logits: keras.KerasTensor


def without_activation(
    operation: keras.Operation, *args: Tensor, **kwargs: Tensor
) -> Tensor:
    """Calls an operation that turns logits into probabilities, up to those."""
    if not hasattr(operation, "activation"):
        # The operation does nothing else, as `ops.softmax`.
        return args[0] if args else next(iter(kwargs.values()))
    layer = operation
    name = "activation"
    if isinstance(operation.activation, layers.Layer):
        # PyTorch does not let a function take the place of a layer.
        layer = operation.activation
        name = "call"
    with attributes(layer, {name: lambda x, **_: x}):
        return operation(*args, **kwargs)


def outputs_and_labels(
    model: keras.Model, batches: keras.utils.PyDataset
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a network gives for all images, and their labels."""
    outputs = []
    labels = []
    # A `for` over a PyDataset would not end.
    for index in range(len(batches)):
        images, classes, *_ = batches[index]
        images = keras.tree.map_structure(np.asarray, images)
        outputs.append(np.asarray(model.predict_on_batch(images)))
        labels.append(np.asarray(classes))
    return np.concatenate(outputs), np.concatenate(labels)


def as_probabilities(outputs: np.ndarray, kind: str | None) -> np.ndarray:
    """Returns outputs `(B, values)` as a probability per class, float64.

    They are probabilities already if the model ends in a softmax or sigmoid,
    which `kind` says, or if none is negative and those of each image sum to 1,
    as where a user's layer computes them. Otherwise they are logits. A single
    value is that of class 1. The kind `"labels"` has a sigmoid for each.
    """
    values = outputs.astype("float64")
    if kind == "labels":
        return np.exp(-np.logaddexp(0, -values))
    if values.shape[1] == 1:
        are_probabilities = kind in ("softmax", "sigmoid")
        # The softmax of 0 and a logit is the sigmoid of that.
        of_class_0 = 1 - values if are_probabilities else np.zeros_like(values)
        values = np.hstack([of_class_0, values])
    else:
        sums = values.sum(axis=1)
        is_normalized = values.min() >= 0 and np.abs(sums - 1).max() < 1e-3
        are_probabilities = kind in ("softmax", "sigmoid") or is_normalized
    if are_probabilities:
        return values
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def kind_of_head(model: keras.Model) -> str | None:
    """Returns `"softmax"`, `"sigmoid"` or `None`, how a model ends."""
    if not is_graph(model):
        return _kind_of(model.layers[-1])
    graph = Graph(model, model.inputs)
    return find_head(graph, graph.outputs[0]).kind


def find_kind(model: keras.Model, head: str | None) -> str | None:
    """Returns what a model of one output gives, as far as it is known.

    That is `head`, its last activation, if it has one. Otherwise the loss says
    it: `"values"`, `"logits"` of classes, or of labels `"labels"` (logits) and
    `"sigmoid"`.
    """
    if head:
        return head
    name, from_logits = _loss_of(model)
    is_binary = "binary" in name or "bce" in name
    if is_binary and model.outputs[0].shape[-1] != 1:
        return "labels" if from_logits else "sigmoid"
    if any(part in name for part in CLASS_LOSSES):
        return "logits"
    is_regression = any(part in name for part in VALUE_LOSSES)
    return "values" if is_regression else None


def _loss_of(model):
    """Returns the name of the loss, and if it takes logits."""
    loss = keras.losses.get(keras.tree.flatten(model.loss)[0])
    # Ours may hold the one that it computes.
    loss = getattr(loss, "loss", None) or loss
    options = getattr(loss, "keywords", getattr(loss, "__dict__", {}))
    # Keras' objects and `functools.partial` hold a function.
    loss = getattr(loss, "fn", getattr(loss, "func", loss))
    name = getattr(loss, "__name__", type(loss).__name__)
    name = name.lower().replace("_", "")
    return name, "logits" in name or options.get("from_logits") is True


def _kind_of(operation):
    """Returns `"softmax"` or `"sigmoid"` if an operation ends in one."""
    # A layer may have a layer as its activation, or call a function.
    parts = [operation, getattr(operation, "activation", None)]
    if isinstance(operation, layers.Lambda):
        parts.append(operation.function)
    for part in parts:
        name = getattr(part, "__name__", type(part).__name__).lower()
        # TensorFlow calls its function `softmax_v2`.
        name = name.removesuffix("_v2")
        if name in ("softmax", "sigmoid"):
            return name
    return None


def find_head(graph: Graph, output: keras.KerasTensor) -> Head:
    """Returns the head through which a model computes one of its outputs."""
    kind = None
    head = None
    tensor = output
    step = graph.maker(tensor)
    while step is not None:
        operation = step.operation
        activation = getattr(operation, "activation", None)
        only_activates = isinstance(operation, layers.Activation)
        keeps_values = (
            step.kind in _KEEPS_VALUES
            or isinstance(operation, Unfold)
            or (only_activates and activation is keras.activations.linear)
        )
        if kind is None:
            kind = _kind_of(operation)
            if kind is not None:
                head = step
                # A layer with weights and an activation gives logits without
                # it; one that only activates has its logits before it.
                has_no_other_part = not hasattr(operation, "activation")
                keeps_values |= only_activates or has_no_other_part
        if not keeps_values:
            break
        tensor = step.inputs[0]
        step = graph.maker(tensor)
    return Head(kind, head, tensor)
