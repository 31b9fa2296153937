"""Recognizes third-party attention by what it computes.

A part of a network is a function from a feature map to another of its shape.
Layers of ours that can have weights of its shapes are filled with these, also
with others, and compared with it on probes: outputs and gradients.
"""

import collections
import contextlib
import dataclasses
import functools
import heapq
import inspect
import itertools
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import activations, ops

from cbam_keras import _graph, _private, layers
from cbam_keras.recognition.claims import HALVES
from cbam_keras.recognition.cuts import Cut
from cbam_keras.recognition.departures import Departure, Difference
from cbam_keras.recognition.probes import (
    CLOSE_TO_0,
    MOST_SIGMOIDS,
    Probes,
)
from cbam_keras.recognition.runs import TOLERANCE, Values, difference_of
from cbam_keras.recognition.structures import assignments, of_half, structures

# The epsilon of normalization in our gates.
EPSILON = 1e-5
# Parameters of normalization with these values move what follows a sigmoid out
# of its range.
FAR = {"gamma": 10.0, "beta": -10.0, "moving_mean": 10.0}
FAR_VARIANCE = 0.01
# What an unusual argument costs: it is tried after the usual ones.
RARE = 10
# What weights have that our layers take as arguments.
CARRIED = ("regularizer", "constraint")


@keras.saving.register_keras_serializable(package="cbam_keras")
def keras_2_hard_sigmoid(x: Any) -> Any:
    """Returns what `hard_sigmoid` of Keras 2 was: another slope."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# Whose versions `VARIANTS` holds, as CBAM.
PUBLISHED = {
    "paper": "the paper",
    "official": "the authors' code",
    "timm": "timm",
    "kobiso_tensorflow": "kobiso/CBAM-tensorflow",
    "luuuyi": "luuuyi/CBAM.PyTorch",
    "linear_perceptron": "a widely read tutorial",
}


def _version(arguments):
    """Returns the arguments that tell versions of CBAM apart: no sizes."""
    sizes = ("reduction_ratio", "hidden_units", "kernel_size")
    version = {k: x for k, x in arguments.items() if k not in sizes}
    if version.get("activation", "") is None:
        # What a match calls linear.
        version["activation"] = "linear"
    return version


def _choices(name, *values):
    return [{name: value} for value in values]


# Where one bias serves two pools, ours has half of it, which it adds for each.
HALF = {"excite_bias": 0.5}
# Where one pool is added to itself, ours has twice the logits.
TWICE = {"excite_bias": 2.0, "excite_kernel": 2.0}
# Choices of arguments that no weights show. Two of each are usual, which come
# first, and at most one of CBAM is another.
POOLINGS: list[dict[str, Any]] = [
    {"pool_types": ("avg", "max")},
    {"pool_types": ("avg",)},
    {"pool_types": ("avg", "max"), "combine": "gates"},
    {"pool_types": ("max",)},
    {"pool_types": ("avg", "max"), "scales": HALF},
    {"pool_types": ("avg",), "scales": TWICE},
    {"pool_types": ("max",), "scales": TWICE},
]
CHOICES: dict[type, list[list[dict[str, Any]]]] = {
    layers.SpatialAttention: [_choices("dilation_rate", 1, 2, 4)],
    layers.BAM: [_choices("combine", "add", "multiply")],
    layers.SCSE: [_choices("combine", "max", "add")],
    layers.GlobalContext: [_choices("fusion", "add", "multiply")],
}
STARTS = [{}, {"identity_init": True}]
ACTIVATIONS = ["sigmoid", "hard_sigmoid", keras_2_hard_sigmoid, "tanh", "relu"]
# Activations whose factors are never 0, by the sign of the smallest factor.
SIGNS = {-1: ["tanh"], 1: ["sigmoid"]}
FREQUENT = ("relu", "silu", "linear", "gelu", "tanh", "elu", "hard_silu")
INFREQUENT = ("sigmoid", "relu6", "leaky_relu", "selu", "mish", "softplus")
INNER = [*FREQUENT, *INFREQUENT]


@dataclasses.dataclass(frozen=True)
class Match:
    """What a part computes: the same as a layer of ours with these arguments.

    Where there is a `first_difference`, it computes the same but for that. The
    variables of the layer have values of `sources`, of which `None` is zeros,
    times `scales`, by their names. `difference` is the largest relative one
    that was measured.
    """

    layer_class: type[layers.AttentionLayer]
    arguments: Mapping[str, Any]
    difference: float = math.nan
    sources: Sequence[keras.Variable | None] = ()
    first_difference: Difference | None = None
    scales: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def code(self) -> str:
        """The line of code that makes the layer."""
        code = repr(layers.Attention(self.layer_class, self.arguments))
        name = keras_2_hard_sigmoid.__name__
        return code.replace(repr(keras_2_hard_sigmoid), name)

    def set_weights(
        self, layer: layers.AttentionLayer, values: Mapping[int, Any]
    ) -> None:
        """Gives a layer values of the weights of the part, by their ids."""
        pairs = zip(layer.weights, self.sources, strict=True)
        for variable, source in pairs:
            # The part lacks a bias that our layer has.
            array = 0 if source is None else values[id(source)]
            array = array * self.scales.get(variable.name, 1.0)
            variable.assign(fitted(array, variable.shape))

    @property
    def is_doubled(self) -> bool:
        """Whether it adds one pool to itself, and has no other."""
        return self.scales == TWICE

    @property
    def has_sigmoid(self) -> bool:
        """Whether its gate gives no factors below 0 and above 1."""
        return self.arguments.get("gate_activation") not in ("tanh", "relu")

    @property
    def words(self) -> str:
        """The code, and whose version it is."""
        words = self.code.removeprefix("cbam_keras.")
        version = _version(self.arguments)
        if self.layer_class is layers.CBAM:
            for name, author in PUBLISHED.items():
                if _version(layers.VARIANTS[name]) == version:
                    words += f", as {author}"
            return words
        half = HALVES.get(self.layer_class)
        return f"{words} ({half} attention only)" if half else words


def of_ours(layer: layers.AttentionLayer) -> Match:
    """Returns the match of an attention layer of ours."""
    layer_class, config = type(layer), layer.get_config()
    names = {*inspect.signature(layer_class).parameters} & {*config}
    try:
        default = layer_class().get_config()
    # A user's subclass may need arguments.
    except TypeError:
        default = {}
    unusual = {x: config[x] for x in names if config[x] != default.get(x)}
    return Match(layer_class, dict(sorted(unusual.items())))


def match(probes: Probes) -> tuple[Match | None, Match | None]:
    """Returns the layer of ours that computes the same, and the nearest.

    The nearest is equal on most probes, and `None` if it is equal on none.
    """
    most, near = 0, None
    for layer, arguments, several, sources in _trials(probes):
        variant = {**several}
        scales = variant.pop("scales", {})
        trial = Match(type(layer), {}, math.nan, sources, None, scales)
        set_weights = functools.partial(trial.set_weights, layer)
        with _changed(layer, variant):
            count, name, difference = probes.compare(layer, set_weights)
        if count > most:
            most = count
            measured = difference, sources, Difference(name), scales
            near = _named(type(layer), arguments | variant, *measured)
        if count and not name:
            return near, near
    return None, near


def _trials(probes):
    """Yields what may compute the same, the most usual first.

    Each is a layer, the arguments it was made with, arguments that no weights
    show, which its attributes are set to for a comparison, and the weights of
    the part in the order of its own.
    """
    # Layers with `identity_init` multiply by twice a sigmoid.
    starts = STARTS if probes.range[1] > 1 else STARTS[:1]
    several = structures(probes.cut.variables, probes)
    choices = [*itertools.product(several, starts)]
    # Trials by their cost, and in the order of layers where it is the same.
    # To build layers takes long, and the first is often the right one. Each
    # begins as `None`, at the least cost that its trials may have.
    queue = [(0, i, 0, None) for i in range(len(choices))]
    while queue:
        _, index, _, trial = heapq.heappop(queue)
        if trial is not None:
            yield trial
            continue
        (layer_class, visible), start = choices[index]
        trials = _trials_of(layer_class, visible | start, probes)
        for place, (cost, built) in enumerate(trials, 1):
            heapq.heappush(queue, (cost, index, place, built))


def _trials_of(layer_class, arguments, probes):
    """Yields trials of a layer with arguments, each after its cost."""
    arguments = arguments | {"data_format": probes.data_format}
    try:
        layer = layer_class(**arguments, dtype="float32")
        # What global context gates depends on how it is fused.
        is_of_gates = probes.multiplies and probes.gated == {*layer._gated}
        if not is_of_gates and layer_class is not layers.GlobalContext:
            return
        with warnings.catch_warnings():
            # Users did not choose these sizes.
            warnings.simplefilter("ignore")
            layer.build(probes.shape)
    # It takes no such sizes, or cannot be the identity.
    except ValueError:
        return
    variants = list(_variants(layer, probes))
    for order, sources in enumerate(assignments(layer, probes)):
        for cost, variant in variants:
            # With rare arguments, weights have the most likely order.
            if cost < RARE or order == 0:
                trial = layer, arguments, variant, sources
                yield cost + order, trial


def nearest(probes: Probes, near: Match | None) -> Match | None:
    """Returns what a part would be equal to but for one thing, else `near`."""
    for difference, cut, changes in _changes(probes):
        equal = None
        # Layers may need what is replaced.
        with contextlib.suppress(Exception):
            equal = _match_with(probes, cut, changes)
        if equal is None:
            continue
        if difference.departure is Departure.NORM_BEFORE:
            (first, *_) = norms = [*changes]
            if _is_after_sigmoid(norms, probes):
                name = type(first).__name__
                difference = Departure.NORM_AFTER.say(f": {name}")
        return dataclasses.replace(equal, first_difference=difference)
    return near


def _match_with(probes, cut, changes):
    """Returns the layer of ours that a part equals with changed layers."""
    with contextlib.ExitStack() as stack:
        for layer, values in changes.items():
            stack.enter_context(_graph.attributes(layer, values))
        changed = Probes(cut, probes.data_format, probes.shape)
        if unread := changed.values.keys() - changed.read.keys():
            cut = dataclasses.replace(cut, without=unread)
            changed = Probes(cut, probes.data_format, probes.shape)
        equal, _ = match(changed)
    return equal


def _changes(probes):
    """Yields what may differ, and how a part is without it.

    That is a part, and by its layers, attributes.
    """
    cut, call = probes.cut, probes.cut.runner.call
    skip = {"call": lambda x, **_: x}
    if probes.adds_input:
        without = {cut.runner: {"call": lambda x, **_: call(x) - x}}
        inner = cut.beside_source
        # A difference of what is nearly equal is inexact.
        changed = (inner, {}) if inner else (cut, without)
        yield Departure.INPUT_ADDED.say(), *changed
    kind = "Normalization"
    norms = [x for x in cut.layers if type(x).__name__.endswith(kind)]
    other = [x for x in norms if getattr(x, "epsilon", EPSILON) != EPSILON]
    if other:
        kind = re.sub("(?<!^)([A-Z])", r" \1", type(other[0]).__name__).lower()
        difference = Departure.EPSILON.say(f" {other[0].epsilon:g} of {kind}")
        yield difference, cut, dict.fromkeys(other, {"epsilon": EPSILON})
    if norms:
        difference = Departure.NORM_BEFORE.say(f": {type(norms[0]).__name__}")
        yield difference, cut, dict.fromkeys(norms, skip)
    convolutions = [x for x in cut.layers if "Conv" in type(x).__name__]
    scalars = {
        x: skip
        for x in convolutions
        if all(math.prod(weight.shape) == 1 for weight in x.weights)
    }
    biased = {
        x: {"use_bias": False}
        for x in convolutions
        if x not in scalars and getattr(x, "use_bias", False)
    }
    if biased:
        yield Departure.BIASES.say(), cut, biased
    if scalars:
        yield Departure.ONE_WEIGHT.say(), cut, scalars | biased
    groups = collections.defaultdict(list)
    for layer in cut.layers:
        if layer.weights and len([*_graph.layers_within(layer)]) == 1:
            groups[str([x.shape for x in layer.weights])].append(layer)
    pairs = [group for group in groups.values() if len(group) == 2]
    if pairs and len(probes.pools) != 1:
        shared = {second: {"call": first.call} for first, second in pairs}
        yield Departure.OWN_WEIGHTS.say(), cut, shared


def _is_after_sigmoid(norms, probes):
    """Returns whether normalization moves factors out of a sigmoid's range."""
    values = {}
    for norm in norms:
        for x in norm.variables:
            size = FAR.get(x.name, FAR_VARIANCE)
            values[id(x)] = np.full(x.shape, size, "float32")
    if not probes.multiplies:
        return False
    factors = probes.factors(probes.x, values)
    return factors.min() < -CLOSE_TO_0 or factors.max() > MOST_SIGMOIDS


@contextlib.contextmanager
def _changed(layer, arguments):
    """Context in which a layer and its halves have other arguments."""
    with contextlib.ExitStack() as stack:
        for part in (layer, *layer._gates()):
            half = part.name.removesuffix("attention")
            values = {x.removeprefix(half): y for x, y in arguments.items()}
            for name in {"activation", "gate_activation"} & {*values}:
                values[name] = activations.get(values[name])
            stack.enter_context(_graph.attributes(part, values))
        yield


def fitted(array: Any, shape: Sequence[int]) -> np.ndarray:
    """Returns a weight in another shape: of a window, its center."""
    while np.size(array) > math.prod(shape):
        array = array[len(array) // 2]
    return np.resize(array, tuple(shape))


def _named(layer_class, arguments, *measured):
    """Returns a match, with the arguments that are no defaults."""
    is_channel = layer_class is layers.ChannelAttention
    if is_channel and arguments["pool_types"] == ("avg",):
        layer_class = layers.SqueezeExcite
        del arguments["pool_types"]
    if arguments.get("hidden_units"):
        del arguments["reduction_ratio"]
    default = layer_class().get_config()
    config = layer_class(**arguments).get_config()
    unusual = {k: x for k, x in arguments.items() if config[k] != default[k]}
    return Match(layer_class, unusual, *measured)


def _variants(layer, probes):
    """Yields arguments that no weights show, each time after their cost.

    The cost says how unusual they are: what is usual is tried first.
    """
    # Lists of choices of an argument, usual ones first.
    choices = list(CHOICES.get(type(layer), []))
    # Others need no pools, whose measurement takes long.
    pools = []
    if type(layer) in (layers.ChannelAttention, layers.CBAM):
        # Where pools were measured, there is no choice but theirs.
        pools = [x for x in POOLINGS if probes.pools in (x["pool_types"], ())]
    if type(layer) is layers.ChannelAttention:
        # A channel gate whose pools are none of ours has no choice at all.
        choices.append(pools if probes.pools else [])
    if type(layer) is layers.CBAM:
        # Pools are measured of the input. Behind a spatial gate, they are
        # pools of features that it has scaled, and none is measured.
        orders = ["channel_first", "parallel"]
        if not probes.pools:
            orders = ["spatial_first"]
        choices.append([of_half("channel", x) for x in pools])
        choices.append(_choices("order", *orders))
    gates = ACTIVATIONS
    if not probes.multiplies:
        # What is added is no factor, and has no sign to tell gates by.
        gates = ACTIVATIONS[:1]
    elif type(layer) is not layers.BAM:
        # Factors of BAM are 1 and more, whatever its gate is.
        gates = SIGNS.get(probes.sign, ACTIVATIONS)
    for name, values in (("gate_activation", gates), ("activation", INNER)):
        if name in layer.get_config():
            choices.append(_choices(name, *values))
    for places in itertools.product(*(range(len(x)) for x in choices)):
        # The first two of each are usual.
        rare = sum(place > 1 for place in places)
        # CBAM has too many choices to try two rare ones at once.
        if rare > 1 and type(layer) is layers.CBAM:
            continue
        variant = {}
        # In the order in which a line of code names them.
        for values, place in reversed([*zip(choices, places, strict=True)]):
            variant |= values[place]
        yield sum(places) + RARE * rare, variant


def layer_for(
    cut: Cut, match: Match, options: Mapping[str, Any]
) -> layers.AttentionLayer:
    """Returns our layer in the place of a part, with its weights."""
    options = dict(options)
    prefix = "spatial_" if match.layer_class is layers.CBAM else ""
    for norm in cut.norms:
        options[f"{prefix}batch_norm_momentum"] = norm.momentum
    norms = {id(x) for norm in cut.norms for x in norm.variables}
    given = [x for x in match.sources if x is not None]
    for source in given:
        kind = "kernel" if len(source.shape) > 1 else "bias"
        # Ours has no arguments for these of batch normalization.
        if id(source) not in norms:
            for what in CARRIED:
                options[f"{kind}_{what}"] = getattr(source, what, None)
    layer = match.layer_class(**{**match.arguments, **options})
    layer.build(cut.source.shape)
    match.set_weights(layer, {id(x): _graph.to_float32(x) for x in given})
    layer.trainable = not given or any(x.trainable for x in given)
    return layer


def trains_otherwise(match: Match, probes: Probes) -> list[str]:
    """Returns what a part does in training that our layer does not."""
    cut = probes.cut
    options = {"dtype": "float32", "data_format": probes.data_format}
    layer = layer_for(cut, match, options)
    reasons = []
    for inner in cut.layers:
        if getattr(inner, "seed_generator", None) is not None:
            reasons.append(type(inner).__name__)
        if getattr(inner, "activity_regularizer", None) is not None:
            reasons.append(f"activity regularizer of {inner.name}")
    if _private.mask_of(cut.source) is not None:
        reasons.append(
            "ignores the mask of its inputs, which the cbam_keras layer uses"
        )
    for ours, theirs in zip(layer.weights, match.sources, strict=True):
        if theirs is None:
            what = ours.name.rpartition("_")[-1]
            reasons.append(f"the cbam_keras layer has an additional {what}")
            continue
        if ours.trainable != theirs.trainable:
            reasons.append("frozen weights")
        for what in CARRIED:
            several = [getattr(x, what, None) for x in (theirs, ours)]
            # They are equal if they make the same of random values.
            x = probes.generator.normal(size=theirs.shape).astype("float32")
            given, kept = (
                np.ravel(f(fitted(x, y.shape))) if f else np.empty(0)
                for f, y in zip(several, (theirs, ours), strict=True)
            )
            if not np.array_equal(given, kept):
                reasons.append(_described(several[0] or several[1]))
    if match.scales:
        reasons.append("the cbam_keras layer adds its bias once per pool")
    momenta = {x.momentum for x in cut.norms}
    if len(momenta) > 1:
        reasons.append(f"momenta {', '.join(map(str, sorted(momenta)))}")
    if not reasons:
        expected = probes.run(probes.x, training=True)
        for inner in cut.layers:
            weights = inner.trainable_variables
            # The call has added losses that are of no regularizer.
            if len(inner.losses) > sum(bool(x.regularizer) for x in weights):
                reasons.append("add_loss")
    if not reasons:
        x = ops.convert_to_tensor(probes.x, "float32")
        with Values({}):
            y = ops.convert_to_numpy(ops.stop_gradient(layer(x, training=True)))
        if not difference_of(expected, y) <= 10 * TOLERANCE:
            reasons.append("different outputs in training")
    return [*dict.fromkeys(reasons)]


def _described(value):
    """Returns a regularizer or a constraint in words, e.g. "L2 0.01"."""
    numbers = [
        f"{x:g}" for x in value.get_config().values() if isinstance(x, float)
    ]
    return " ".join([type(value).__name__, *numbers])
