"""Recognizes attention that somebody else wrote, by what it computes.

A part of a network is a function from a feature map to another of its shape.
The kinds of attention whose weights can have the shapes of its weights are
filled with these and compared with it, outputs and gradients, on probes.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

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
MOST_ASSIGNMENTS = 24
ACTIVATIONS = "relu silu linear gelu tanh elu hard_silu sigmoid".split()
GATES = "sigmoid hard_sigmoid tanh relu".split()


def _sigmoid_twice(logits):
    return ops.sigmoid(ops.sigmoid(logits))


def _sigmoid_of_relu(logits):
    return ops.sigmoid(ops.relu(logits))


def _softmax(logits):
    flat = ops.reshape(logits, (ops.shape(logits)[0], -1))
    return ops.reshape(ops.softmax(flat), ops.shape(logits))


# Activations of gates that none of ours has.
DEPARTURES: dict[Callable, str] = {
    _sigmoid_twice: "sigmoid twice",
    _sigmoid_of_relu: "a ReLU before the sigmoid",
    _softmax: "softmax in place of sigmoid",
}
ALONE = {("avg",): "average alone", ("max",): "maximum alone"}
# What channel gates pool, and whether logits or gates are added; what spatial
# gates pool.
POOLINGS = [
    (("avg", "max"), "logits"),
    (("avg",), "logits"),
    (("avg", "max"), "gates"),
    (("max",), "logits"),
]
SPATIAL_POOLINGS = [("avg", "max"), ("max", "avg"), ("avg",), ("max",)]


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
    corner = (slice(None), *(slice(1) for _ in grid))
    product = factors[corner] * factors[..., :1]
    is_product = np.allclose(
        factors * factors[corner][..., :1], product, atol=1e-4 * scale**2
    )
    # What normalizes divides by the scale of the features.
    other = 20 * probes.factors(20 * x)
    is_scale = np.allclose(other, factors, atol=0.01 * scale)
    if not varies(0) or is_scale:
        return None
    if not is_product:
        # Pools do not depend on the order of channels.
        other = probes.factors(np.flip(x, probes.axis))
        if not np.allclose(other, factors, atol=1e-4 * scale):
            return None
        maps = f"{probes.channels} spatial maps in place of one"
        return Match(SpatialAttention, {}, departure=maps)
    low, high = factors.min(), factors.max()
    if by_channel and by_position:
        layer_class, what = CBAM, "factors of channels and of positions"
    elif by_channel:
        layer_class, what = ChannelAttention, "factors of channels"
    elif by_position and all(varies(axis) for axis in grid):
        layer_class, what = SpatialAttention, "factors of positions"
    else:
        layer_class = SpatialAttention
        what = "positions pooled where CBAM pools channels"
    departure = f"{what}, here {low:.2g} to {high:.2g}"
    return Match(layer_class, {}, departure=departure)


def _match(probes):
    """Returns the layer of ours that computes what a part does, if any."""
    trials = []
    for (weights, departure), start in itertools.product(
        _readings(probes.cut, probes.channels),
        ({}, {"identity_init": True}),
    ):
        for layer_class, shapes in _structures(weights, probes):
            arguments = {**shapes, **start, "data_format": probes.data_format}
            try:
                layer = layer_class(**arguments, dtype="float32")
                layer.build(probes.shape)
            # It takes no such sizes, or cannot be the identity.
            except ValueError:
                continue
            hidden = ["linear"]
            if not departure:
                # Those that are named come first.
                named = probes.cut.activations
                hidden = sorted(ACTIVATIONS, key=lambda x: x not in named)
            variants = list(_variants(layer, hidden))
            for order, arrays in enumerate(_assignments(layer, weights)):
                trials += [
                    (cost + order, layer, arguments, variant, arrays, departure)
                    for cost, variant in variants
                ]
    # The usual ones come first.
    trials.sort(key=lambda trial: trial[0])
    for _, layer, arguments, variant, arrays, departure in trials:
        layer.set_weights(arrays)
        _set(layer, variant)
        difference = probes.difference(layer)
        if difference <= TOLERANCE:
            departures = [departure, *map(DEPARTURES.get, variant.values())]
            match = Match(
                type(layer),
                {**arguments, **variant},
                arrays,
                "; ".join(dict.fromkeys(filter(None, departures))),
                difference=difference,
            )
            return _named(match)
    return None


def _named(match):
    """Returns a match, with what is unusual in it and without defaults."""
    layer_class, arguments = match.layer_class, {**match.arguments}
    pools = arguments.get("channel_pool_types") or arguments.get("pool_types")
    notes = []
    if arguments.get("combine") == "gates":
        notes.append("a sigmoid for each pool, added: factors up to 2")
    if layer_class is ChannelAttention and pools == ("avg",):
        layer_class = SqueezeExcite
        del arguments["pool_types"], arguments["combine"]
    elif layer_class in (CBAM, ChannelAttention) and pools in ALONE:
        notes.append(ALONE[pools])
    if arguments.get("order") == "parallel":
        notes.append("spatial map of the unrefined input")
    if hidden := arguments.get("hidden_units"):
        del arguments["reduction_ratio"]
        notes.append(f"hidden width truncated: taken as hidden_units={hidden}")
    if match.departure:
        return Match(layer_class, {}, departure=match.departure)
    default, config = (layer_class(**x).get_config() for x in ({}, arguments))
    unusual = {k: x for k, x in arguments.items() if config[k] != default[k]}
    note = "; ".join(notes)
    return dataclasses.replace(
        match, layer_class=layer_class, arguments=unusual, note=note
    )


def _readings(cut, channels):
    """Yields the weights of a part, and a departure of what has such.

    They are in forms that layers of ours may have.
    """
    entries = cut.weights
    arrays = [x for entry in entries for x in entry]
    yield arrays, ""
    if any(len(entry) > 1 and entry[0].size > 1 for entry in entries):
        arrays = _fold(entries)
        yield arrays, ""
    cores = [_core(x) for x in arrays]
    matrices = [x for x in cores if len(x) == 2 and channels in x]
    squares = matrices.count((channels, channels))
    if len(matrices) == squares < 2:
        # A linear MLP whose first layer, or both, change nothing.
        unit = np.eye(channels, dtype="float32")
        place = cores.index((channels, channels)) if squares else 0
        arrays = [*arrays]
        arrays[place:place] = [unit] * (2 - squares)
        if (channels,) in cores:
            arrays.insert(0, np.zeros(channels, "float32"))
        yield arrays, "no MLP between pools and gate"


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
            "pool_types": ("avg", "max")[:pools],
            "use_bias": use_bias,
            "batch_norm": batch_norm,
        }
        for size, pools in windows
        if size % 2 and pools <= 2
        for use_bias, batch_norm in itertools.product((False, True), repeat=2)
        if use_bias + 4 * batch_norm <= cores[1,]
    ]
    yield from ((ChannelAttention, mlp) for mlp in mlps)
    yield from ((SpatialAttention, x) for x in convolutions)
    for mlp, convolution in itertools.product(mlps, convolutions):
        options = {f"spatial_{key}": x for key, x in convolution.items()}
        options["kernel_size"] = options.pop("spatial_kernel_size")
        yield CBAM, {**mlp, **options}
    for size, *others in cores:
        if size % 2 and others == [1, 1]:
            yield EfficientChannelAttention, {"kernel_size": size}
        if size % 2 and others == [size, 2, 1]:
            yield TripletAttention, {"kernel_size": size}
    for width in {x[1] for x in cores if len(x) == 2 and x[0] == channels}:
        ratio = {"reduction_ratio": channels // width}
        yield SCSE, ratio
        yield GlobalContext, ratio
        yield GlobalContext, {**ratio, "fusion": "multiply"}
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


def _variants(layer, hidden):
    """Yields the arguments that no weights show, and how unusual they are."""
    layer_class, is_cbam = type(layer), isinstance(layer, CBAM)
    gates = [{"gate_activation": x} for x in GATES]
    # Each has a number of usual ones, which come first.
    choices: list[tuple[int, list[dict[str, Any]]]] = []
    channel, spatial = ["channel_", "spatial_"] if is_cbam else ["", ""]
    if layer_class in (CBAM, ChannelAttention):
        key = f"{channel}pool_types"
        choices.append((4, [{key: x, "combine": y} for x, y in POOLINGS]))
    if layer_class in (CBAM, SpatialAttention):
        key = f"{spatial}pool_types"
        count = len(getattr(layer, key))
        pools = [{key: x} for x in SPATIAL_POOLINGS if len(x) == count]
        choices.append((2, pools))
    if is_cbam:
        choices.append((3, [{"order": x} for x in ORDERS[::2] + ORDERS[1:2]]))
        gates += [
            {"gate_activation": "sigmoid", f"{half}_gate_activation": x}
            for half in ("channel", "spatial")
            for x in DEPARTURES
        ]
    if layer_class is SpatialAttention:
        choices.append((1, [{"dilation_rate": x} for x in (1, 2, 4)]))
    if layer_class in (BAM, SCSE):
        ways = ("add", "multiply") if layer_class is BAM else ("max", "add")
        choices.append((2, [{"combine": x} for x in ways]))
    if layer_class in (CBAM, ChannelAttention, SpatialAttention):
        gates += [{"gate_activation": x} for x in DEPARTURES]
    if layer_class is SimAM or getattr(layer, "fusion", "") == "add":
        gates = [{}]
    elif layer.identity_init:
        gates = gates[:2]
    choices.append((1, gates))
    if hasattr(layer, "activation"):
        choices.append((1, [{"activation": x} for x in hidden]))
    usual, options = zip(*choices, strict=True)
    for places in itertools.product(*map(range, map(len, options))):
        # With a rare one, all others are as common as can be.
        common = [x for x, y in zip(places, usual, strict=True) if x < y]
        rare = len(places) - len(common)
        if not rare or rare == 1 and max(common, default=0) < 2:
            variant = [x[i] for x, i in zip(options, places, strict=True)]
            cost = sum(places) + 10 * rare
            yield cost, {key: x for part in variant for key, x in part.items()}


def _set(layer, variant):
    """Sets arguments of a layer and of its halves, which `call` reads."""
    for name, value in variant.items():
        if name.endswith("activation"):
            value = keras.activations.get(value)
        for part in (layer, *layer._gates()):
            half = part.name.removesuffix("attention")
            setattr(part, name.removeprefix(half), value)
