"""The head of a model: logits, or probabilities computed from them."""

import dataclasses

import keras
from keras import layers, ops

from cbam_keras._inspection.global_state import attributes
from cbam_keras._inspection.graph import Tensor
from cbam_keras._inspection.steps import Graph, Step

# Operations that keep the values, between an activation and the output.
_KEEPS_VALUES = "Cast Dropout Flatten Identity Reshape Squeeze Unfold".split()


@dataclasses.dataclass(frozen=True)
class Head:
    """The step that turns logits into probabilities, if there is one.

    `kind` is `"softmax"`, `"sigmoid"` or `None`; `logits` are what the step
    starts from, before operations that keep values.
    """

    kind: str | None
    step: Step | None
    logits: keras.KerasTensor


def without_activation(
    operation: keras.Operation, *args: Tensor, **kwargs: Tensor
) -> Tensor:
    """Calls an operation that turns logits into probabilities, up to those."""
    if not hasattr(operation, "activation"):
        return args[0] if args else next(iter(kwargs.values()))
    layer, name = operation, "activation"
    if isinstance(operation.activation, layers.Layer):
        # PyTorch does not let a function take its place.
        layer, name = operation.activation, "call"
    with attributes(layer, **{name: lambda x, **_: x}):
        return operation(*args, **kwargs)


def num_classes(values: int) -> int:
    """Returns the number of classes of an output: one value is for two."""
    return max(values, 2)


def logit_per_class(logits: Tensor) -> Tensor:
    """Returns a logit for each class, on the last axis.

    A single one is the logit of class 1 and, negated, of class 0.
    """
    if logits.shape[-1] > 1:
        return logits
    return ops.concatenate([-logits, logits], axis=-1)


def kind_of_head(operation: keras.Operation) -> str | None:
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
    kind, head, tensor = None, None, output
    while step := graph.maker(tensor):
        operation = step.operation
        activation = getattr(operation, "activation", None)
        only_activates = isinstance(operation, layers.Activation)
        keeps = type(operation).__name__ in _KEEPS_VALUES or (
            only_activates and activation is keras.activations.linear
        )
        if kind is None and (kind := kind_of_head(operation)):
            head = step
            keeps |= only_activates or not hasattr(operation, "activation")
        if not keeps:
            break
        tensor = step.inputs[0]
    return Head(kind, head, tensor)
