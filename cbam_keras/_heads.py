"""How a model ends: in logits, or in probabilities made from them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from cbam_keras._graph import Step

# What may stand between an activation and the output: values stay.
_KEEPS_VALUES = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze"}
_ACTIVATIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
}


@dataclasses.dataclass(frozen=True)
class Head:
    """What makes probabilities of logits: `kind` `"softmax"`, `"sigmoid"`."""

    kind: str | None
    operation: Any = None

    def without(self, call, *args, **kwargs):
        """Runs the operation but for its activation. A watcher."""
        if not hasattr(self.operation, "activation"):
            return args[0] if args else next(iter(kwargs.values()))
        activation = self.operation.activation
        self.operation.activation = keras.activations.linear
        try:
            return call(*args, **kwargs)
        finally:
            self.operation.activation = activation


def find(steps: Sequence[Step], output: Any) -> Head:
    """Returns how the steps of a model arrive at one of its outputs."""
    made = {id(x): step for step in steps for x in step.outputs}
    step = made.get(id(output))
    while step is not None:
        operation = step.operation
        name = type(operation).__name__
        activation = getattr(operation, "activation", None)
        if activation in _ACTIVATIONS:
            return Head(_ACTIVATIONS[activation], operation)
        if name in ("Softmax", "Sigmoid"):
            return Head(name.lower(), operation)
        linear = isinstance(operation, layers.Activation) and (
            activation is keras.activations.linear
        )
        if not (linear or name in _KEEPS_VALUES):
            break
        step = made.get(id(step.inputs[0]))
    return Head(None)
