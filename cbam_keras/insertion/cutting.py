"""Cuts a network into parts that may be attention."""

import contextlib
import dataclasses
import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import layers, ops

from cbam_keras import _checks, _graph
from cbam_keras.layers import AttentionLayer

# A part of more calls is no gate.
MOST_CALLS = 60
# Calls between a sigmoid and a product: they repeat and resize.
MOST_BETWEEN = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """A part of a network: from a feature map to one of the same shape.

    `nodes` are the calls between both, in an order in which they can run. A
    `layer` runs on each frame, inside `TimeDistributed`. `inside` is the class
    of the user's layer that the part is in. Nothing is known of a part with a
    `problem`.
    """

    path: str
    source: keras.KerasTensor
    product: keras.KerasTensor
    nodes: Sequence[Any]
    layer: keras.layers.Layer | None = None
    inside: str = ""
    problem: str = ""
    is_given: bool = False

    @property
    def operation(self) -> keras.Operation:
        """The layer, or the operation that multiplies."""
        return self.layer or self.nodes[-1].operation

    @property
    def own(self) -> keras.layers.Layer | None:
        """The layer of a user's class that the part consists of, if any."""
        single = self.operation
        packages = ("keras", "cbam_keras")
        is_own = _checks.package_of(single) not in packages
        is_layer = isinstance(single, layers.Layer) and len(self.nodes) == 1
        return single if is_own and is_layer else None

    @property
    def is_ours(self) -> bool:
        """Whether it is an attention layer of ours."""
        return isinstance(self.operation, AttentionLayer)

    @property
    def is_gated(self) -> bool:
        """Whether its last call multiplies by a map, of whatever."""
        node = self.nodes[-1]
        if _graph.kind_of(node.operation) != "Multiply":
            return False
        makers = [_graph.origin(x) for x in node.input_tensors]
        for _ in range(MOST_BETWEEN):
            if any(map(_gives_a_map, makers)):
                return True
            makers = [
                _graph.origin(x)
                for maker in makers
                if len(maker.input_tensors) == 1
                for x in maker.input_tensors
            ]
        return False

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
    def norms(self) -> list[keras.layers.BatchNormalization]:
        """Its batch normalization."""
        kind = layers.BatchNormalization
        return [layer for layer in self.layers if isinstance(layer, kind)]

    @functools.cached_property
    def variables(self) -> list[keras.Variable]:
        """The weights, each once."""
        variables = {
            id(variable): variable
            for node in self.nodes
            for variable in getattr(node.operation, "variables", ())
            if "float" in variable.dtype
        }
        # Ours have batch normalization after all others.
        last = {id(x) for norm in self.norms for x in norm.variables}
        return sorted(variables.values(), key=lambda x: id(x) in last)

    @functools.cached_property
    def runner(self) -> keras.layers.Layer:
        """The part as a layer, so that `training` reaches what is inside."""
        return _Runner(self)

    def __call__(self, x):
        """Returns what the part gives of features."""
        if self.layer:
            return self.layer(x)
        values = {id(self.source): ops.convert_to_tensor(x)}
        _graph.run(self.nodes, values, operator.call)
        return values[id(self.product)]

    @contextlib.contextmanager
    def in_float32(self) -> Iterator[None]:
        """Context in which the layers compute in float32, or in float64."""
        policies = {
            layer: layer.dtype_policy
            for layer in self.layers
            if layer.compute_dtype != "float64"
        }
        try:
            for layer in policies:
                layer.dtype_policy = "float32"
            yield
        finally:
            for layer, policy in policies.items():
                layer.dtype_policy = policy


class _Runner(layers.Layer):
    def __init__(self, part):
        super().__init__(dtype="float32", autocast=False)
        self._part, self.built = (part,), True

    def call(self, x, training=None):
        return self._part[0](x)


def cuts(
    model: keras.Model, prefix: str = "", inside: str = ""
) -> Iterator[Cut]:
    """Yields the parts of a model that may be attention, inner ones first."""
    entries, nested = _Entries(model), set()
    for node in _graph.nodes(model):
        operation, path = node.operation, prefix + node.operation.name
        source = entries.add(node)
        inner = operation if _graph.is_graph(operation) else None
        inner = inner or _graph.model_per_frame(operation)
        if inner is not None:
            if inner not in nested:
                yield from cuts(inner, f"{path}/", inside)
            nested.add(inner)
            continue
        framed = None
        if isinstance(operation, layers.TimeDistributed):
            framed = operation.layer
        if not node.input_tensors:
            continue
        product = node.outputs[0]
        single = Cut(
            path, node.input_tensors[0], product, [node], framed, inside
        )
        is_alone = len({*map(id, node.input_tensors)}) == 1
        if single.is_ours or single.own and is_alone:
            yield single
            continue
        # A layer of Keras that takes one tensor is no gate.
        if is_alone and not isinstance(single.operation, layers.Lambda):
            continue
        between = []
        if (
            source is not None
            and source.shape == product.shape
            and len(node.outputs) == 1
            and _graph.is_feature_map(product)
        ):
            between = _graph.nodes_between([source], [product])
        operations = [x.operation for x in between]
        is_ours = any(isinstance(x, AttentionLayer) for x in operations)
        if 0 < len(between) <= MOST_CALLS and not is_ours:
            yield Cut(path, source, product, between, framed, inside)
        elif single.own or single.is_gated:
            problem = "factors from several tensors"
            yield dataclasses.replace(single, problem=problem)


def _gives_a_map(node):
    """Returns whether a call ends in a sigmoid of one channel or position."""
    function = getattr(node.operation, "activation", None)
    names = (_graph.kind_of(node.operation), getattr(function, "__name__", ""))
    is_sigmoid = any(name.lower() == "sigmoid" for name in names)
    return is_sigmoid and 1 in node.outputs[0].shape[1:]


def look_into(cut: Cut) -> keras.Model:
    """Returns what a layer of a user's class consists of, as a model.

    Its `call` may raise anything, since it takes symbolic tensors here.
    """
    node = cut.nodes[0]
    inputs = [
        keras.Input(x.shape[1 + (cut.layer is not None) :], dtype=x.dtype)
        for x in node.input_tensors
    ]
    given = inputs
    if not isinstance(node.arguments.args[0], list | tuple):
        (given,) = inputs
    return keras.Model(inputs, cut.operation.call(given), name=cut.path)


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
