"""The head of a model: logits, or probabilities computed from them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from cbam_keras._inspection.steps import Step

# Operations that keep the values, between an activation and the output.
_KEEPS_VALUES = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze"}


@dataclasses.dataclass(frozen=True)
class Head:
    """The operation that turns logits into probabilities, if there is one.

    `kind` is `"softmax"`, `"sigmoid"` or `None`; `logits` are its input in a
    graph, before operations that keep values.
    """

    kind: str | None
    operation: Any = None
    logits: Any = None

    def without(self, call, *args, **kwargs):
        """Runs the operation without its activation. A hook for `hooked`."""
        if not hasattr(self.operation, "activation"):
            return args[0] if args else next(iter(kwargs.values()))
        activation = self.operation.activation
        self.operation.activation = keras.activations.linear
        try:
            return call(*args, **kwargs)
        finally:
            self.operation.activation = activation


def head_of(operation: Any) -> Head:
    """Returns the head that a layer or an operation is."""
    activation = getattr(operation, "activation", None)
    if isinstance(activation, layers.Layer):
        # A layer whose activation is a layer, as `Dense(activation=Softmax())`.
        operation = activation
    kind = _kind(operation) or _kind(activation)
    if kind is None and isinstance(operation, layers.Lambda):
        kind = _kind(operation.function)
    return Head(kind, operation if kind else None)


def find_head(steps: Sequence[Step], output: Any) -> Head:
    """Returns the head through which a model computes one of its outputs."""
    makers = {id(x): step for step in steps for x in step.outputs}
    head, tensor = Head(None), output
    while id(tensor) in makers:
        step = makers[id(tensor)]
        operation = step.operation
        activation = getattr(operation, "activation", None)
        keeps = type(operation).__name__ in _KEEPS_VALUES or (
            isinstance(operation, layers.Activation)
            and activation is keras.activations.linear
        )
        if head.kind is None:
            head = head_of(operation)
            # It computes nothing but an activation.
            keeps |= head.kind is not None and (
                isinstance(operation, layers.Activation)
                or not hasattr(operation, "activation")
            )
        if not keeps:
            break
        tensor = step.inputs[0]
    return dataclasses.replace(head, logits=tensor)


def _kind(function):
    """Returns `"softmax"` or `"sigmoid"` if a layer or function is one."""
    name = getattr(function, "__name__", type(function).__name__).lower()
    # TensorFlow calls its function `softmax_v2`.
    name = name.removesuffix("_v2")
    return name if name in ("softmax", "sigmoid") else None
