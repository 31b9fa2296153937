"""Cuts a network into parts that may be attention."""

import contextlib
import dataclasses
import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cbam_keras import _checks, _graph
from cbam_keras.layers import AttentionLayer

# A part of more calls is no gate.
MOST_CALLS = 60
# The epsilon of batch normalization in our gates.
EPSILON = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """A part of a network: from a feature map to one of the same shape.

    `nodes` are the calls between both, in an order in which they can run. A
    `layer` runs on each frame, inside `TimeDistributed`.
    """

    path: str
    source: keras.KerasTensor
    product: keras.KerasTensor
    nodes: Sequence[Any]
    layer: keras.layers.Layer | None = None

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of the features."""
        batch, *sizes = self.source.shape
        return (batch, *sizes[self.layer is not None :])

    @functools.cached_property
    def layers(self) -> list[keras.layers.Layer]:
        """All layers, those inside others too."""
        operations = [node.operation for node in self.nodes]
        return [
            inner
            for layer in dict.fromkeys(operations)
            if isinstance(layer, layers.Layer)
            for inner in _graph.layers_within(layer)
        ]

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
                entries.append([_graph.to_float32(variable)])
            elif norm not in read:
                read.add(norm)
                mean, gamma, beta = norm.moving_mean, norm.gamma, norm.beta
                values = (
                    ops.ones_like(mean) if gamma is None else gamma,
                    ops.zeros_like(mean) if beta is None else beta,
                    mean,
                    norm.moving_variance + (norm.epsilon - EPSILON),
                )
                entries.append([*map(_graph.to_float32, values)])
        return entries

    @property
    def activations(self) -> set[str]:
        """The names of activations, of layers and of operations."""
        named = {_graph.kind_of(node.operation).lower() for node in self.nodes}
        for layer in self.layers:
            named.add(getattr(getattr(layer, "activation", 0), "__name__", ""))
        return named - {"linear", "sigmoid"}

    def __call__(self, x):
        """Returns what the part gives of features."""
        if self.layer:
            return self.layer(x)
        values = {id(self.source): ops.convert_to_tensor(x)}
        _graph.run(self.nodes, values, operator.call)
        return values[id(self.product)]

    @contextlib.contextmanager
    def in_float32(self) -> Iterator[None]:
        """Context in which the layers compute in float32."""
        policies = {layer: layer.dtype_policy for layer in self.layers}
        try:
            for layer in policies:
                layer.dtype_policy = "float32"
            yield
        finally:
            for layer, policy in policies.items():
                layer.dtype_policy = policy


def cuts(model: keras.Model, prefix: str = "") -> Iterator[Cut]:
    """Yields the parts of a model that may be attention, inner ones first."""
    entries, nested = _Entries(model), set()
    for node in _graph.nodes(model):
        operation, path = node.operation, prefix + node.operation.name
        source = entries.add(node)
        inner = operation if _graph.is_graph(operation) else None
        inner = inner or _graph.model_per_frame(operation)
        if inner is not None:
            if inner not in nested:
                yield from cuts(inner, f"{path}/")
            nested.add(inner)
            continue
        framed = None
        if isinstance(operation, layers.TimeDistributed):
            framed = operation.layer
        single = framed or operation
        product = node.outputs[0]
        if (
            source is None
            or len(node.outputs) > 1
            or not _graph.is_feature_map(product)
            or source.shape != product.shape
            # A layer of Keras that takes one tensor is no gate.
            or len({*map(id, node.input_tensors)}) == 1
            and _checks.package_of(single) == "keras"
            and not isinstance(single, layers.Lambda)
        ):
            continue
        between = _graph.nodes_between([source], [product])
        operations = [single, *(x.operation for x in between)]
        is_ours = any(isinstance(x, AttentionLayer) for x in operations)
        if len(between) <= MOST_CALLS and not is_ours:
            yield Cut(path, source, product, between, framed)


class _Entries:
    """The last tensor that all ways to a tensor of a graph pass."""

    def __init__(self, model):
        self.tensors = {id(x): None for x in model.inputs}
        self.depths = {id(x): 0 for x in model.inputs}

    def add(self, node):
        """Adds the outputs of a node, and returns their entry."""
        common, *others = node.input_tensors
        for x in others:
            common = self._common(common, x)
        depth = -1 if common is None else self.depths[id(common)]
        for y in node.outputs:
            self.tensors[id(y)] = common
            self.depths[id(y)] = depth + 1
        return common

    def _common(self, x, y):
        while x is not y:
            if x is None or y is None:
                return None
            if self.depths[id(x)] >= self.depths[id(y)]:
                x, y = y, x
            y = self.tensors[id(y)]
        return x
