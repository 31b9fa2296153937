"""Cuts a network into parts that may be attention."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cbam_keras import _graph
from cbam_keras.layers import AttentionLayer

# A part of more calls is no gate.
MOST_CALLS = 60
# The epsilon of batch normalization in our gates.
EPSILON = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """A part of a network: from a feature map to one of the same shape.

    `nodes` are the calls between both, in an order in which they can run. If
    `frames`, a layer in `TimeDistributed` is the part.
    """

    path: str
    source: keras.KerasTensor
    product: keras.KerasTensor
    nodes: Sequence[Any]
    frames: bool = False

    @property
    def operation(self) -> keras.Operation:
        """The operation that gives the product."""
        operation = self.nodes[-1].operation
        return operation.layer if self.frames else operation

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of the features."""
        batch, *sizes = self.source.shape
        return (batch, *sizes[self.frames :])

    @functools.cached_property
    def layers(self) -> list[keras.layers.Layer]:
        """All layers, those inside others too."""
        inside = [
            layer
            for node in self.nodes
            if isinstance(node.operation, layers.Layer)
            for layer in _graph.layers_within(node.operation)
        ]
        return list(dict.fromkeys(inside))

    @functools.cached_property
    def variables(self) -> list[keras.Variable]:
        """The weights, each once."""
        variables = {
            id(variable): variable
            for node in self.nodes
            for variable in getattr(node.operation, "variables", ())
            if "float" in variable.dtype
        }
        return list(variables.values())

    @property
    def weights(self) -> list[list[np.ndarray]]:
        """The values of the weights, those of batch normalization together.

        They are scale, offset, mean and variance, for the epsilon of our gates.
        """
        norms = {
            id(variable): layer
            for layer in self.layers
            if isinstance(layer, layers.BatchNormalization)
            for variable in layer.variables
        }
        entries, read = [], set()
        for variable in self.variables:
            norm = norms.get(id(variable))
            if norm is None:
                entries.append([_value(variable)])
            elif norm not in read:
                read.add(norm)
                mean = _value(norm.moving_mean)
                variance = _value(norm.moving_variance)
                gamma, beta = np.ones_like(mean), np.zeros_like(mean)
                entries.append(
                    [
                        gamma if norm.gamma is None else _value(norm.gamma),
                        beta if norm.beta is None else _value(norm.beta),
                        mean,
                        variance + norm.epsilon - EPSILON,
                    ]
                )
        return entries

    def likely_first(self, activations: Sequence[str]) -> list[str]:
        """Returns names of activations, those that layers have first."""
        names = {
            getattr(getattr(layer, "activation", None), "__name__", "")
            for layer in self.layers
        } | {_graph.kind_of(node.operation).lower() for node in self.nodes}
        return sorted(activations, key=lambda name: name not in names)

    def __call__(self, x):
        """Returns what the part gives of features."""
        if self.frames:
            return self.operation(x)
        values = {id(self.source): ops.convert_to_tensor(x)}
        _graph.run(
            self.nodes, values, lambda call, *args, **kw: call(*args, **kw)
        )
        return values[id(self.product)]

    @contextlib.contextmanager
    def in_float32(self) -> Iterator[None]:
        """Context in which the layers compute in float32."""
        policies = [(layer, layer.dtype_policy) for layer in self.layers]
        try:
            for layer, policy in policies:
                if policy.compute_dtype != "float32":
                    layer.dtype_policy = "float32"
            yield
        finally:
            for layer, policy in policies:
                if layer.dtype_policy is not policy:
                    layer.dtype_policy = policy


def is_foreign(operation: keras.Operation) -> bool:
    """Returns whether a layer is neither Keras' nor ours."""
    module = type(operation).__module__.split(".")[0]
    return isinstance(operation, layers.Layer) and module not in (
        "keras",
        "cbam_keras",
    )


def cuts(model: keras.Model, prefix: str = "") -> Iterator[Cut]:
    """Yields the parts of a model that may be attention, inner ones first."""
    entries, nested = _Entries(model), {}
    for node in _graph.nodes(model):
        operation, path = node.operation, prefix + node.operation.name
        source = entries.add(node)
        inner = operation if _graph.is_graph(operation) else None
        inner = inner or _graph.model_per_frame(operation)
        if inner is not None:
            if id(inner) not in nested:
                yield from cuts(inner, f"{path}/")
            nested[id(inner)] = inner
            continue
        frames = isinstance(operation, layers.TimeDistributed)
        single = operation.layer if frames else operation
        inputs = {id(x) for x in node.input_tensors}
        if (
            source is None
            or len(node.outputs) != 1
            or not _graph.is_feature_map(node.outputs[0])
            or source.shape != node.outputs[0].shape
            or isinstance(single, AttentionLayer)
            or not (
                len(inputs) > 1
                or is_foreign(single)
                or isinstance(single, layers.Lambda)
            )
        ):
            continue
        between = entries.between(source, node)
        if len(between) <= MOST_CALLS:
            yield Cut(path, source, node.outputs[0], between, frames)


class _Entries:
    """The last tensor that all ways to a tensor of a graph pass."""

    def __init__(self, model):
        self.tensors = {id(x): None for x in model.inputs}
        self.depths = {id(x): 0 for x in model.inputs}
        self.makers = {}
        self.order = {}

    def add(self, node):
        """Adds the outputs of a node, and returns their entry."""
        common, *others = node.input_tensors
        for x in others:
            common = self._common(common, x)
        for y in node.outputs:
            self.tensors[id(y)] = common
            depth = -1 if common is None else self.depths[id(common)]
            self.depths[id(y)] = depth + 1
            self.makers[id(y)] = node
        self.order[id(node)] = len(self.order)
        return common

    def _common(self, x, y):
        while x is not y:
            if x is None or y is None:
                return None
            if self.depths[id(x)] >= self.depths[id(y)]:
                x, y = y, x
            y = self.tensors[id(y)]
        return x

    def between(self, source, last):
        """Returns the nodes from a tensor to a node, in order."""
        nodes, stack = {}, [last]
        while stack:
            node = stack.pop()
            if id(node) in nodes:
                continue
            nodes[id(node)] = node
            stack += [
                self.makers[id(x)]
                for x in node.input_tensors
                if x is not source
            ]
        return sorted(nodes.values(), key=lambda node: self.order[id(node)])


def _value(variable):
    return ops.convert_to_numpy(ops.cast(variable, "float32"))
