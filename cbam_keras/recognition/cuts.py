"""Cuts a network into parts that may be attention."""

import contextlib
import dataclasses
import functools
import operator
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import keras
from keras import layers, ops

from cbam_keras import _checks, _graph
from cbam_keras.layers import AttentionLayer
from cbam_keras.recognition.claims import claim_of, is_meant

# A part of more calls is no gate.
MOST_CALLS = 60
# So many calls may be between a sigmoid and a product: they repeat and resize.
MOST_BETWEEN = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """A part of a network: from a feature map to one of the same shape.

    `nodes` are the calls between both, in an order in which they can run.
    `inside` is the class of the layer that the part is in. Nothing is known of
    a part with a `problem`, which says why. What somebody gave to `check` by
    itself `is_given`. Weights with the ids `without` do not count. A part that
    is not `is_named` consists of parts with claims of their own.
    """

    path: str
    source: keras.KerasTensor
    product: keras.KerasTensor
    nodes: Sequence[Any]
    inside: str = ""
    problem: str = ""
    is_given: bool = False
    without: Collection[int] = ()
    is_named: bool = True

    @property
    def operation(self) -> keras.Operation:
        """The layer, or the operation that multiplies."""
        return self.nodes[-1].operation

    @property
    def own(self) -> keras.layers.Layer | None:
        """The layer of a user's class that the part consists of, if any."""
        single = self.operation
        if len(self.nodes) > 1 or not isinstance(single, layers.Layer):
            return None
        return single if _checks.is_of_others(single) else None

    @functools.cached_property
    def called(self) -> str:
        """The name that claims something: its own, or one of its layers."""
        if not self.is_named:
            return ""
        names = [self.path.rpartition("/")[-1]]
        if self.own:
            names.insert(0, type(self.own).__name__)
        own = [name for name in names if claim_of(name)]
        if own:
            return own[0]
        # The first name of an inner layer that makes each claim.
        claims: dict[str, str] = {}
        for node in self.nodes:
            for x in (node.operation.name, type(node.operation).__name__):
                claims.setdefault(claim_of(x), x)
        claims.pop("", None)
        # Layers with several claims do not say which is that of the whole.
        return next(iter(claims.values())) if len(claims) == 1 else ""

    @property
    def is_meant(self) -> bool:
        """Whether it is given, or called attention."""
        names = [self.operation.name, type(self.operation).__name__]
        return self.is_given or bool(self.called) or any(map(is_meant, names))

    @property
    def adds_source(self) -> bool:
        """Whether it adds its features to what it makes of them."""
        return any(
            _graph.type_of(node.operation) in _graph.ADDITIONS
            and any(x is self.source for x in node.input_tensors)
            for node in self.nodes
        )

    @property
    def beside_source(self) -> "Cut | None":
        """What it adds to its features, if an addition is all that follows."""
        node = self.nodes[-1]
        if _graph.type_of(node.operation) not in _graph.ADDITIONS:
            return None
        others = [x for x in node.input_tensors if x is not self.source]
        if len(others) != 1 or len(node.input_tensors) != 2:
            return None
        nodes = _graph.nodes_between([self.source], others)
        return dataclasses.replace(self, product=others[0], nodes=nodes)

    @property
    def is_ours(self) -> bool:
        """Whether it is an attention layer of ours."""
        return isinstance(self.operation, AttentionLayer)

    @property
    def is_gated(self) -> bool:
        """Whether its last call multiplies by a map, whatever that is of."""
        node = self.nodes[-1]
        is_product = _graph.type_of(node.operation) == "Multiply"
        return is_product and any(map(_is_map, node.input_tensors))

    @functools.cached_property
    def layers(self) -> list[keras.layers.Layer]:
        """All layers, those inside others too."""
        return [
            inner
            for layer in dict.fromkeys(x.operation for x in self.nodes)
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
            if "float" in variable.dtype and id(variable) not in self.without
        }
        # Ours have batch normalization after all others.
        last = {id(x) for norm in self.norms for x in norm.variables}
        return sorted(variables.values(), key=lambda x: id(x) in last)

    @functools.cached_property
    def runner(self) -> keras.layers.Layer:
        """The part as a layer, so that `training` reaches what is inside."""
        return _Runner(self)

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


def _masks(*nodes):
    """Returns the masks that Keras passes to calls beside their inputs."""
    masks = [node.arguments.kwargs.get("mask") for node in nodes]
    return [x for x in masks if keras.utils.is_keras_tensor(x)]


def _inputs(node):
    """Returns the tensors that a call gets, but for masks."""
    masks = {id(mask) for mask in _masks(node)}
    return [x for x in node.input_tensors if id(x) not in masks]


class _Runner(layers.Layer):
    """A part as a layer, which owns none of its weights."""

    def __init__(self, cut):
        super().__init__(dtype="float32", autocast=False)
        self.cut = cut
        self.built = True

    def call(self, x, training=None):
        # Probes have no masks: what reads one gets `None`.
        values = {id(mask): None for mask in _masks(*self.cut.nodes)}
        values[id(self.cut.source)] = ops.convert_to_tensor(x)
        _graph.run_nodes(self.cut.nodes, values, operator.call)
        return values[id(self.cut.product)]


def cuts(
    model: keras.Model, prefix: str = "", inside: str = ""
) -> Iterator[Cut]:
    """Yields the parts of a model that may be attention, inner ones first.

    `prefix` begins the paths of these, and `inside` is the class of the user's
    layer that the model is of.
    """
    # Models inside that were seen. Several calls of one make the same parts.
    nested = set()
    # The last tensor that all ways to a tensor pass, `None` for an input.
    entries: dict[keras.KerasTensor, Any] = dict.fromkeys(model.inputs)
    # How many such tensors follow one another up to a tensor.
    depths = dict.fromkeys(model.inputs, 0)
    masks = _masks(*_graph.nodes(model))
    for node in _graph.nodes(model):
        operation, path = node.operation, prefix + node.operation.name
        inputs = _inputs(node)
        source = _graph.last_common(inputs, entries, depths.__getitem__)
        for y in node.outputs:
            entries[y] = source
            depths[y] = depths.get(source, -1) + 1
        if inner := _graph.inner_model(operation):
            if inner not in nested:
                yield from cuts(inner, f"{path}/", inside)
            nested.add(inner)
            continue
        if not inputs:
            continue
        is_framed = isinstance(operation, layers.TimeDistributed)
        if is_framed and _checks.package_of(operation.layer) != "keras":
            # `adopt` leaves what is in `TimeDistributed` as it is.
            (x,) = inputs
            frame = keras.Input(x.shape[2:], dtype=x.dtype)
            inner = keras.Model(frame, operation.layer(frame))
            yield from cuts(inner, f"{path}/", type(operation).__name__)
            continue
        product = node.outputs[0]
        single = Cut(path, inputs[0], product, [node], inside)
        is_alone = len({*map(id, inputs)}) == 1
        if single.is_ours or single.own and is_alone:
            yield single
            continue
        # A layer of Keras that takes one tensor is no gate, unless it runs a
        # function of a user.
        if is_alone and not isinstance(single.operation, layers.Lambda):
            continue
        # Else this is a gate if it ends here and begins at the last tensor
        # that all ways to this call pass: `x * f(x)` begins at `x`.
        between = []
        is_map = len(node.outputs) == 1 and _graph.is_feature_map(product)
        if is_map and source is not None and source.shape == product.shape:
            between = _graph.nodes_between([source, *masks], [product])
        is_ours = any(isinstance(x.operation, AttentionLayer) for x in between)
        if 0 < len(between) <= MOST_CALLS and not is_ours:
            yield Cut(path, source, product, between, inside)
        elif single.own or single.is_gated:
            problem = "factors from several tensors"
            yield dataclasses.replace(single, problem=problem)


def _is_map(x, between=MOST_BETWEEN):
    """Returns whether a tensor is a sigmoid of one channel or position.

    Up to `between` calls of one tensor may follow the sigmoid.
    """
    node = _graph.origin(x)
    function = getattr(node.operation, "activation", None)
    names = (_graph.type_of(node.operation), getattr(function, "__name__", ""))
    if any(name.lower() == "sigmoid" for name in names):
        return 1 in x.shape[1:]
    inputs = node.input_tensors
    return between > 0 and len(inputs) == 1 and _is_map(inputs[0], between - 1)


def look_into(cut: Cut) -> keras.Model:
    """Returns what a layer of a user's class consists of, as a model.

    Its `call` may raise anything, since it takes symbolic tensors here.
    """
    node = cut.nodes[0]
    inputs = [keras.Input(x.shape[1:], dtype=x.dtype) for x in _inputs(node)]
    given = inputs
    # A layer of one tensor takes it without a list.
    if not isinstance(node.arguments.args[0], list | tuple):
        (given,) = inputs
    return keras.Model(inputs, cut.operation.call(given))
