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

    `nodes` are the calls between both, in an order in which they can run. A
    `layer` is a part by itself: inside `TimeDistributed`, or without nodes
    inside a layer of somebody else.
    """

    path: str
    source: keras.KerasTensor
    product: keras.KerasTensor
    nodes: Sequence[Any] = ()
    layer: keras.layers.Layer | None = None

    @property
    def frames(self) -> bool:
        """Whether the part runs on each frame."""
        return bool(self.layer and self.nodes)

    @property
    def operation(self) -> keras.Operation:
        """The operation that gives the product."""
        return self.layer or self.nodes[-1].operation

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
            for operation in self._operations
            if isinstance(operation, layers.Layer)
            for layer in _graph.layers_within(operation)
        ]
        return list(dict.fromkeys(inside))

    @property
    def _operations(self):
        return [self.layer or node.operation for node in self.nodes or [None]]

    @functools.cached_property
    def variables(self) -> list[keras.Variable]:
        """The weights, each once."""
        variables = {
            id(variable): variable
            for operation in self._operations
            for variable in getattr(operation, "variables", ())
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

    def activations(self, names: Sequence[str]) -> Sequence[str]:
        """Returns the activations that layers name, or all if none does."""
        seen = {
            getattr(getattr(layer, "activation", None), "__name__", "")
            for layer in self.layers
        } | {_graph.kind_of(node.operation).lower() for node in self.nodes}
        # Gates and layers without an activation say nothing.
        seen -= {"linear", "sigmoid"}
        return (
            [x for x in names if x in {*seen, "linear"}]
            if seen & {*names}
            else names
        )

    def __call__(self, x):
        """Returns what the part gives of features."""
        if self.layer:
            return self.layer(x)
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


def _is_of_keras(operation):
    """Returns whether it computes what Keras or we say."""
    module = type(operation).__module__.split(".")[0]
    is_lambda = isinstance(operation, layers.Lambda)
    return module in ("keras", "cbam_keras") and not is_lambda


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
        wrapped = None
        if isinstance(operation, layers.TimeDistributed):
            wrapped = operation.layer
        single = wrapped or operation
        inputs = {id(x) for x in node.input_tensors}
        if (
            source is not None
            and len(node.outputs) == 1
            and _graph.is_feature_map(node.outputs[0])
            and source.shape == node.outputs[0].shape
            and not isinstance(single, AttentionLayer)
            and (len(inputs) > 1 or not _is_of_keras(single))
        ):
            between = entries.between(source, node)
            ours = [
                x for x in between if isinstance(x.operation, AttentionLayer)
            ]
            if len(between) <= MOST_CALLS and not ours:
                yield Cut(path, source, node.outputs[0], between, wrapped)
        if isinstance(single, layers.Layer) and not _is_of_keras(single):
            yield from _inside(single, path)


def _inside(layer, path):
    """Yields the layers inside one of somebody else, outer ones first."""
    for inner in _graph.layers_within(layer)[1:]:
        shape = (inner.get_build_config() or {}).get("input_shape")
        if not _is_of_keras(inner) and shape and None not in shape[-1:]:
            x, y = (keras.KerasTensor((None, *shape[1:])) for _ in range(2))
            if _graph.is_feature_map(x):
                yield Cut(f"{path}/{inner.name}", x, y, layer=inner)


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
