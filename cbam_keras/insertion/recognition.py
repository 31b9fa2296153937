"""Recognizes attention that somebody else wrote, by what it computes.

A part of a network is a function from a feature map to another of its shape.
The kinds of attention whose weights can have the shapes of its weights are
filled with these and compared with it, outputs and gradients, on probes.
"""

import collections
import contextlib
import dataclasses
import inspect
import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import activations, ops

from cbam_keras import _graph
from cbam_keras.insertion.cutting import EPSILON, Cut
from cbam_keras.insertion.probes import TOLERANCE, probe
from cbam_keras.layers import (
    BAM,
    CBAM,
    SCSE,
    AttentionLayer,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SimAM,
    SpatialAttention,
    SqueezeExcite,
    TripletAttention,
)
from cbam_keras.layers.cbam import ORDERS

# More assignments of weights of one shape are not tried.
MOST_ASSIGNMENTS = 8
# What an unusual argument costs: it is tried after the usual ones.
RARE = 10


def _softmax(logits):
    flat = ops.reshape(logits, (ops.shape(logits)[0], -1))
    return ops.reshape(ops.softmax(flat), ops.shape(logits))


# Gates that none of ours has: two functions of logits, of which the first may
# be of each pool before their sum.
DEPARTURES: dict[str, tuple[Callable, Callable]] = {
    "sigmoid twice": (activations.sigmoid, activations.sigmoid),
    "a ReLU before the sigmoid": (activations.relu, activations.sigmoid),
    "softmax in place of sigmoid": (activations.linear, _softmax),
}
ALONE = {("avg",): "average alone", ("max",): "maximum alone"}


def _choices(name, *values):
    return [{name: value} for value in values]


def _of_half(half, options):
    """Returns arguments of a gate of CBAM as CBAM takes them."""
    names = inspect.signature(CBAM).parameters
    prefixed = {f"{half}_{name}": value for name, value in options.items()}
    return {
        name if name in names else name.removeprefix(f"{half}_"): value
        for name, value in prefixed.items()
    }


# Choices of arguments that no weights show, with the number of usual ones,
# which come first.
POOLS: list[dict[str, Any]] = [
    {"pool_types": ("avg", "max")},
    {"pool_types": ("avg",)},
    {"pool_types": ("avg", "max"), "combine": "gates"},
    {"pool_types": ("max",)},
]
SPATIAL_POOLS = [("avg", "max"), ("max", "avg"), ("avg",), ("max",)]
CHOICES: dict[type, list[tuple[int, list[dict[str, Any]]]]] = {
    ChannelAttention: [(4, POOLS)],
    SpatialAttention: [(1, _choices("dilation_rate", 1, 2, 4))],
    CBAM: [
        (4, [_of_half("channel", x) for x in POOLS]),
        (3, _choices("order", *ORDERS[::2], ORDERS[1])),
    ],
    BAM: [(2, _choices("combine", "add", "multiply"))],
    SCSE: [(2, _choices("combine", "max", "add"))],
    GlobalContext: [(2, _choices("fusion", "add", "multiply"))],
}
STARTS = [{}, {"identity_init": True}]
GATES = _choices("gate_activation", *"sigmoid hard_sigmoid tanh relu".split())
ACTIVATIONS = "relu silu linear gelu tanh elu hard_silu sigmoid".split()


@dataclasses.dataclass(frozen=True)
class Match:
    """What a part computes.

    `arrays` are the values of the variables of a layer of `layer_class` with
    these arguments, which computes the same unless `departure` says how the
    part differs.
    """

    layer_class: type[AttentionLayer]
    arguments: Mapping[str, Any]
    arrays: Sequence[np.ndarray] = ()
    departure: str = ""
    note: str = ""
    difference: float = math.nan


def recognize(cut: Cut) -> Match | None:
    """Returns what a part computes, `None` if it is no attention."""
    formats = ["channels_first", "channels_last"]
    formats.sort(key=lambda x: x != keras.config.image_data_format())
    with cut.in_float32():
        tries = [probe(cut, data_format) for data_format in formats]
        probes = [x for x in tries if x is not None]
        matches = (find(x) for find in (_match, _describe) for x in probes)
        return next(filter(None, matches), None)


def _describe(probes):
    """Returns what is known of a gate that is none of ours.

    `None` if the part does not multiply by factors of channels or of positions
    that depend on the features.
    """
    x = probes.features[0]
    factors = probes.factors(x)
    grid = range(1, factors.ndim - 1)
    scale = np.abs(factors).max()

    def varies(*axes):
        return np.ptp(factors, axis=axes).max() > 1e-4 * scale

    by_channel, by_position = varies(factors.ndim - 1), varies(*grid)
    # What normalizes divides by the scale of the features.
    other = 20 * probes.factors(20 * x)
    is_scale = np.allclose(other, factors, atol=0.01 * scale)
    if not varies(0) or is_scale:
        return None
    if not probes.is_product:
        # Pools do not depend on the order of channels.
        other = probes.factors(np.flip(x, probes.axis))
        if not np.allclose(other, factors, atol=1e-4 * scale):
            return None
        maps = f"{probes.channels} spatial maps in place of one"
        return Match(SpatialAttention, {}, departure=maps)
    low, high = factors.min(), factors.max()
    cores = [_core(entry[0]) for entry in probes.cut.weights]
    matrices = [x for x in cores if len(x) == 2 and probes.channels in x]
    if by_channel and by_position:
        layer_class, what = CBAM, "factors of channels and of positions"
    elif by_channel:
        layer_class, what = ChannelAttention, "factors of channels"
    elif by_position and all(varies(axis) for axis in grid):
        layer_class, what = SpatialAttention, "factors of positions"
    else:
        layer_class = SpatialAttention
        what = "positions pooled where CBAM pools channels"
    if by_channel and len(matrices) < 2:
        what = "no MLP between pools and gate"
    departure = f"{what}, here {low:.2g} to {high:.2g}"
    return Match(layer_class, {}, departure=departure)


def _match(probes):
    """Returns the layer of ours that computes what a part does, if any."""
    trials = []
    for weights, start in itertools.product(_readings(probes.cut), STARTS):
        for layer_class, visible in _structures(weights, probes):
            arguments = visible | start | {"data_format": probes.data_format}
            try:
                layer = layer_class(**arguments, dtype="float32")
                layer.build(probes.shape)
            # It takes no such sizes, or cannot be the identity.
            except ValueError:
                continue
            variants = [*_variants(layer, probes.cut.activations)]
            for order, arrays in enumerate(_assignments(layer, weights)):
                trials += [
                    (cost + order, layer, arguments, variant, arrays)
                    for cost, variant in variants
                    if cost < RARE or not order
                ]
    # The usual ones come first.
    trials.sort(key=operator.itemgetter(0))
    for _, layer, arguments, variant, arrays in trials:
        layer.set_weights(arrays)
        with _changed(layer, variant):
            difference = probes.difference(layer)
        if difference <= TOLERANCE:
            if "departure" in variant:
                return Match(type(layer), {}, departure=variant["departure"][0])
            return _named(type(layer), arguments | variant, arrays, difference)
    return None


@contextlib.contextmanager
def _changed(layer, arguments):
    """Context in which a layer and its halves have other arguments."""
    words, index, is_of_each = arguments.get("departure", ("", 0, False))
    with contextlib.ExitStack() as stack:
        for part in (layer, *layer._gates()):
            half = part.name.removesuffix("attention")
            values = {
                name.removeprefix(half): activations.get(value)
                if name.endswith("activation")
                else value
                for name, value in arguments.items()
            }
            stack.enter_context(_graph.attributes(part, **values))
        if words:
            gate, (inner, outer) = layer._gates()[index], DEPARTURES[words]

            def add(tensors, *weights):
                return sum(inner(gate._dense(x, *weights)) for x in tensors)

            changes = {"gate_activation": lambda x: outer(inner(x))}
            if is_of_each:
                changes = {"gate_activation": outer, "_dense_of_sum": add}
            stack.enter_context(_graph.attributes(gate, **changes))
        yield


def _named(layer_class, arguments, arrays, difference):
    """Returns a match, with what is unusual in it and without defaults."""
    pools = arguments.get("channel_pool_types") or arguments.get("pool_types")
    notes = []
    if arguments.get("combine") == "gates":
        notes.append("a sigmoid for each pool, added: factors up to 2")
    if layer_class is ChannelAttention and pools == ("avg",):
        layer_class = SqueezeExcite
        del arguments["pool_types"]
    elif layer_class in (CBAM, ChannelAttention) and pools in ALONE:
        notes.append(ALONE[pools])
    if arguments.get("order") == "parallel":
        notes.append("spatial map of the unrefined input")
    if hidden := arguments.get("hidden_units"):
        del arguments["reduction_ratio"]
        notes.append(f"hidden width truncated: taken as hidden_units={hidden}")
    default, config = (layer_class(**x).get_config() for x in ({}, arguments))
    unusual = {k: x for k, x in arguments.items() if config[k] != default[k]}
    note = "; ".join(notes)
    return Match(layer_class, unusual, arrays, "", note, difference)


def _readings(cut):
    """Yields the weights of a part, in forms that layers of ours may have."""
    # Ours have batch normalization after all others.
    yield [x for entry in sorted(cut.weights, key=len) for x in entry]
    if any(len(entry) > 1 and entry[0].size > 1 for entry in cut.weights):
        yield _fold(cut.weights)


def _fold(entries):
    """Returns weights with batch normalization folded into those before."""
    arrays: list[np.ndarray] = []
    for entry in entries:
        if len(entry) == 1 or entry[0].size == 1:
            arrays += entry
            continue
        gamma, beta, mean, variance = entry
        scale = gamma / np.sqrt(variance + EPSILON)
        bias = np.zeros_like(beta)
        if arrays and arrays[-1].shape == beta.shape:
            bias = arrays.pop()
        if arrays and arrays[-1].shape[-1:] == beta.shape:
            arrays[-1] = arrays[-1] * scale
        arrays.append((bias - mean) * scale + beta)
    return arrays


def _core(array):
    """Returns a shape without the window of a 1x1 convolution."""
    shape = tuple(array.shape)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _structures(arrays, probes):
    """Yields layer classes with the arguments that decide on their weights.

    Not all have weights of these shapes.
    """
    channels, rank = probes.channels, len(probes.shape) - 2
    cores = collections.Counter(map(_core, arrays))
    if not cores:
        yield SimAM, {}
    mlps = [
        {
            "reduction_ratio": channels // x[1],
            "hidden_units": x[1] if channels % x[1] else None,
            "use_bias": use_bias,
        }
        for x in cores
        if len(x) == 2 and x[0] == channels and x[::-1] in cores
        for use_bias in {False, cores[x[1],] + cores[channels,] > 0}
    ]
    # Sides and numbers of pools of convolutions to one map.
    windows = {
        (x[0], x[-2]) for x in cores if len(x) == rank + 2 and x[-1] == 1
    }
    convolutions = [
        {
            "kernel_size": size,
            "pool_types": pools,
            "use_bias": use_bias,
            "batch_norm": batch_norm,
        }
        for size, count in windows
        for pools in SPATIAL_POOLS
        for use_bias, batch_norm in itertools.product((False, True), repeat=2)
        if len(pools) == count and use_bias + 4 * batch_norm <= cores[1,]
    ]
    if probes.is_product:
        yield from ((ChannelAttention, mlp) for mlp in mlps)
        yield from ((SpatialAttention, x) for x in convolutions)
        for mlp, convolution in itertools.product(mlps, convolutions):
            yield CBAM, mlp | _of_half("spatial", convolution)
    for size, *others in cores:
        if others == [1, 1]:
            yield EfficientChannelAttention, {"kernel_size": size}
        if others == [size, 2, 1]:
            yield TripletAttention, {"kernel_size": size}
    for width in {x[1] for x in cores if len(x) == 2 and x[0] == channels}:
        ratio = {"reduction_ratio": channels // width}
        yield SCSE, ratio
        yield GlobalContext, ratio
        fixed = {"reduction_ratio": channels, "min_hidden_units": width}
        is_default = width == max(8, channels // 32)
        yield CoordinateAttention, {} if is_default else fixed
        for x in cores:
            if len(x) > 2 and x[-2:] == (width, width):
                yield BAM, {**ratio, "kernel_size": x[0]}


def _assignments(layer, arrays):
    """Yields lists of values for all weights of a layer, by their shapes.

    The order of weights of one shape is kept at first. Biases that are missing
    are zeros.
    """
    theirs, groups = (collections.defaultdict(list) for _ in range(2))
    for x in arrays:
        theirs[_core(x)].append(x)
    for variable in layer.weights:
        groups[_core(variable)].append(variable)
    if theirs.keys() - groups.keys():
        return
    orders = []
    for core, variables in groups.items():
        missing = len(variables) - len(theirs[core])
        biases = sum(x.name.endswith("bias") for x in variables)
        if not 0 <= missing <= biases:
            return
        values = theirs[core] + [np.zeros(core, "float32")] * missing
        several = itertools.permutations(values)
        orders.append([*itertools.islice(several, MOST_ASSIGNMENTS)])
    variables = [*itertools.chain(*groups.values())]
    several = itertools.product(*orders)
    for values in itertools.islice(several, MOST_ASSIGNMENTS):
        pairs = zip(variables, itertools.chain(*values), strict=True)
        placed = {id(x): np.reshape(value, x.shape) for x, value in pairs}
        yield [placed[id(variable)] for variable in layer.weights]


def _variants(layer, named):
    """Yields the arguments that no weights show, and how unusual they are.

    Activations that are `named` come first.
    """
    gates = [*GATES]
    if isinstance(layer, CBAM | ChannelAttention | SpatialAttention):
        indices = range(len(layer._gates()))
        several = itertools.product(DEPARTURES, indices, (True, False))
        gates += _choices("departure", *several)
    hidden = sorted(ACTIVATIONS, key=lambda x: x not in named)
    choices = CHOICES.get(type(layer), []) + [
        (1, several)
        for several in (gates, _choices("activation", *hidden))
        if {*several[0]} <= {*layer.get_config()}
    ]
    usual, options = zip(*choices, strict=True) if choices else ((), ())
    for places in itertools.product(*map(range, map(len, options))):
        # With a rare one, all others are as common as can be.
        common = [x for x, y in zip(places, usual, strict=True) if x < y]
        rare = len(places) - len(common)
        if not rare or rare == 1 and max(common, default=0) < 2:
            variant = [x[i] for x, i in zip(options, places, strict=True)]
            cost = sum(places) + RARE * rare
            yield cost, {key: x for part in variant for key, x in part.items()}
