"""`audit`: which CBAM a layer is, found by its weights and its outputs."""

import collections
import contextlib
import dataclasses
import inspect
import itertools
import math
import re
import statistics
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from cbam_keras import _inspection, _terminal
from cbam_keras.layers import CBAM, ORDERS, VARIANTS

__all__ = [
    "audit",
    "Audit",
]

# Features of this size show each weight of a window of up to 19 x 19.
BATCH, HEIGHT, WIDTH = 8, 12, 10
# The usual reduction ratios divide it, and give different widths.
CHANNELS = 64
# Outputs that differ by less are equal. The other usual epsilon of the
# normalization changes them by less, another order of the maps by far more.
TOLERANCE = 2e-3
# Limits the work for layers with many weights of one shape. A `CBAM` with all
# biases and a normalization has 12 placements.
MOST_PLACEMENTS = 24

# Options that change the shapes of the weights, but for the order of the maps.
SHAPING = {
    "use_bias": (True, False),
    "spatial_use_bias": (False, True),
    "spatial_batch_norm": (False, True),
    "spatial_pool_types": (
        ("avg", "max"),
        ("max", "avg"),
        ("avg",),
        ("max",),
        ("conv",),
    ),
}
# Options that the outputs alone tell apart.
SHAPELESS = {
    "order": ORDERS,
    "channel_pool_types": (("avg", "max"), ("avg",), ("max",)),
    "activation": ("relu", None),
    "identity_init": (False, True),
}
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(CBAM.__init__).parameters.items()
}
# The axes of PyTorch's kernels, in the order in which Keras stores them.
PYTORCH_AXES = {2: (1, 0), 4: (2, 3, 1, 0)}


@dataclasses.dataclass(frozen=True)
class Audit(_terminal.Tabular):
    """Which CBAM a layer is; prints as a table.

    `to_dataframe()` has a row per entry of `VARIANTS`, with the columns
    `variant` and `difference`.

    Attributes:
        name: String, the class or function of the layer.
        variant: String, the entry of `VARIANTS` that the layer equals, or
            `None`. Its sizes may be others: those of the layer's weights.
        options: Dictionary, the keyword arguments of the `CBAM` that is
            nearest to the layer.
        difference: Float, the largest absolute difference between the outputs
            of both with the same weights, for random features of standard
            deviation 2. Infinite if the weights of the layer have no place in
            any `CBAM`, or its outputs have another shape or are not finite.
        departures: Tuple of sentences, how the layer differs from the nearest
            entry of `VARIANTS`. Empty if it equals an entry, or the formula of
            the paper with other `options`.
        differences: Dictionary, the difference for each entry of `VARIANTS`.
    """

    name: str
    variant: str | None
    options: Mapping[str, Any]
    difference: float
    departures: tuple[str, ...]
    differences: Mapping[str, float]

    @property
    def verdict(self) -> str:
        """The result in a few sentences."""
        equal = _in_words(self.variant, self.options)
        return " ".join(self.departures) or f"It equals {equal}."

    def _records(self):
        return [
            {"variant": variant, "difference": difference}
            for variant, difference in self.differences.items()
        ]

    def _tables(self):
        rows = [
            {**record, "difference": f"{record['difference']:.2g}"}
            for record in self._records()
        ]
        note = "inf: weights or outputs of another shape."
        return [_terminal.Table(f"Audit of {self.name}", rows, note=note)]


def audit(layer: object) -> Audit:
    """Finds out which CBAM a layer is.

    The layer gets random weights, and `CBAM` the same ones, matched by their
    shapes, which may be those of Keras or of PyTorch. Both run on random
    features, in inference. `CBAM` is tried as each entry of `VARIANTS`, and
    then with other orders of the gates, pools, activations and biases, until
    the outputs are equal. The layer and its weights stay as they are.

    Args:
        layer: A `keras.layers.Layer` or `keras.Model` for features
            `(B, H, W, C)`, built or not; or a callable `f(channels)` that
            returns one; or a class of layers; or a function `f(x)` of a
            tensor that calls layers.

    Returns:
        An `Audit`, which prints as a table.

    Raises:
        TypeError: If `layer` is neither a layer nor such a callable.
        ValueError: If the layer does not take features `(B, H, W, C)`, or
            cannot be copied by `get_config` and `from_config`.

    Example:
        >>> result = cbam_keras.audit(CBAM(reduction_ratio=8))
        >>> result.variant
        'kobiso_keras'
        >>> result = cbam_keras.audit(CBAM(order="parallel"))
        >>> result.variant, result.departures
        (None, ())
        >>> result.verdict
        "It equals CBAM(order='parallel')."
    """
    if not callable(layer):
        raise TypeError(
            "`layer` must be a keras layer, or a callable that takes the "
            "number of channels and returns one, as lambda channels: "
            "MyCBAM(channels, ratio=8), or that takes a tensor and returns "
            f"one. Received: layer={layer!r}"
        )
    name = getattr(layer, "__name__", repr(layer))
    if isinstance(layer, keras.Layer):
        name = f'{type(layer).__name__} layer "{layer.name}"'
    with _inspection.same_randomness(), _inspection.dtype_policy("float32"):
        theirs = _first_that_runs(layer)
        variants = [
            _match(theirs, options, variant)
            for variant, options in VARIANTS.items()
        ]
        nearest = min(variants, key=_rank)
        if not nearest.is_equal:
            nearest = _equal_with_other_options(theirs) or nearest
    return Audit(
        name,
        nearest.variant if nearest.is_equal else None,
        nearest.options,
        nearest.difference,
        () if nearest.is_equal else _departures(nearest, theirs),
        {match.variant: match.difference for match in variants},
    )


class _Match(NamedTuple):
    """A `CBAM` beside the layer under test.

    `missing` and `more` name the weights of which the layer has fewer, and of
    which it has more. With any, the difference is infinite.
    """

    variant: str | None
    options: dict[str, Any]
    difference: float
    missing: list[str]
    more: list[str]

    @property
    def is_equal(self):
        return self.difference <= TOLERANCE


def _match(theirs, options, variant=None):
    """Returns the match of `CBAM(**options)` in the sizes of their weights."""
    options = {**options, **_sizes(theirs, options)}
    # Without a name, Keras would number the user's next layer from this one.
    cbam = CBAM(**options, data_format="channels_last", name="cbam")
    ours = _RandomLayer(cbam, theirs.x)
    missing = _surplus(ours.weights, theirs.weights)
    more = _surplus(theirs.weights, ours.weights)
    difference = math.inf
    if not missing and not more and theirs.output.shape == theirs.x.shape:
        placements = _placements(theirs.weights, ours.weights)
        for values in itertools.islice(placements, MOST_PLACEMENTS):
            found = float(np.abs(ours.run(values) - theirs.output).max())
            # A difference that is NaN is not less, and leaves it infinite.
            difference = found if found < difference else difference
    return _Match(variant, options, difference, missing, more)


def _sizes(theirs, options):
    """Returns the sizes that `CBAM(**options)` does not have by itself."""
    sizes, channels = {}, theirs.x.shape[-1]
    shapes = [weight.value.shape for weight in theirs.weights]
    # Several kernels may take one map or two; the spatial one is the largest.
    sides = [s[0] for s in shapes if s[2:] in ((1, 1), (2, 1))]
    side = max(sides, default=DEFAULTS["kernel_size"])
    # `CBAM` has no kernel of even size.
    if side % 2 and side != DEFAULTS["kernel_size"]:
        sizes["kernel_size"] = side
    # Kernels of the MLP take or give all channels; most have its width.
    widths = [
        math.prod(s) // channels
        for s in shapes
        if len(s) > 1 and channels in s[-2:]
    ]
    width = statistics.mode(widths or [0])
    ratio = options.get("reduction_ratio", DEFAULTS["reduction_ratio"])
    difference = abs(width * ratio - channels)
    # An entry that names a ratio has that one alone, however C / r is rounded.
    is_possible = difference < ratio or "reduction_ratio" not in options
    if width and difference and is_possible:
        sizes["hidden_units"] = width
    return sizes


def _surplus(weights, others):
    """Returns the names of weights of which others have fewer of the kind."""
    count = collections.Counter(weight.kind for weight in weights)
    count.subtract(weight.kind for weight in others)
    return [weight.name for weight in weights if count[weight.kind] > 0]


def _placements(theirs, ours):
    """Yields values for our weights, which are theirs in another order."""
    values_by_kind = collections.defaultdict(list)
    for weight in theirs:
        values_by_kind[weight.kind].append(weight.value)
    orders = map(itertools.permutations, values_by_kind.values())
    for chosen in itertools.product(*orders):
        left = dict(zip(values_by_kind, map(iter, chosen), strict=True))
        yield [next(left[weight.kind]) for weight in ours]


def _rank(match):
    """Returns what is smaller for nearer matches."""
    misfits = len(match.missing) + len(match.more)
    # Entries may differ in the ratio alone: that of this width comes first.
    has_other_width = "hidden_units" in match.options
    return not match.is_equal, misfits, has_other_width, match.difference


def _equal_with_other_options(theirs):
    """Returns the match of an equal `CBAM` that is no entry, or `None`."""
    for shaping in _combinations(SHAPING):
        for shapeless in _combinations(SHAPELESS):
            options = {**shaping, **shapeless}
            changed = {k: v for k, v in options.items() if v != DEFAULTS[k]}
            match = _match(theirs, changed)
            if match.is_equal:
                return match
            if math.isinf(match.difference):
                break
    return None


def _combinations(choices):
    for chosen in itertools.product(*choices.values()):
        yield dict(zip(choices, chosen, strict=True))


def _departures(nearest, theirs):
    """Returns sentences on how the layer differs from the nearest entry."""
    name = _in_words(nearest.variant, nearest.options)
    sentences = [f"The nearest variant is {name}."]
    for how, names in (("lacks", nearest.missing), ("has more", nearest.more)):
        if names:
            sentences.append(
                f"The layer {how} weights like {', '.join(names)}."
            )
    found, expected = theirs.output.shape, theirs.x.shape
    if found != expected:
        sentences.append(f"Its output has the shape {found}, not {expected}.")
    elif not np.isfinite(theirs.output).all():
        sentences.append("Its output is not finite.")
    elif math.isfinite(nearest.difference):
        difference = f"differ by up to {nearest.difference:.2g}"
        sentences.append(f"With the same weights, the outputs {difference}.")
    return tuple(sentences)


def _in_words(variant, options):
    """Returns code for a `CBAM`, or an entry and what is changed in it."""
    known = VARIANTS[variant] if variant else {}
    changes = ", ".join(
        f"{name}={value!r}"
        for name, value in options.items()
        if name not in known
    )
    if variant is None:
        return f"CBAM({changes})"
    return f'VARIANTS["{variant}"]{" with " * bool(changes)}{changes}'


class _Weight(NamedTuple):
    """A variable with a random value, whose axes are in the order of Keras."""

    variable: keras.Variable
    axes: tuple[int, ...]
    value: np.ndarray

    @property
    def kind(self):
        """Equal for weights that can take each other's place."""
        return self.variable.trainable, self.value.squeeze().shape

    @property
    def name(self):
        name = "/".join(self.variable.path.split("/")[-2:])
        return f"{name} {tuple(self.variable.shape)}"

    def stored(self, value):
        """Returns another value as the layer stores it."""
        return value.reshape(self.value.shape).transpose(np.argsort(self.axes))


class _RandomLayer:
    """A layer with random weights, for features `x`, and its `output`."""

    def __init__(self, layer, x):
        self.layer, self.x, self.output = layer, x, None
        self.channels_first = _is_channels_first(layer)
        if not layer.built:
            layer(self._to_tensor(x))
        variables = [
            variable
            for variable in layer.weights
            if keras.backend.is_float_dtype(variable.dtype)
        ]
        rng = np.random.default_rng(0)
        self.weights = [
            _Weight(variable, axes, _random_value(rng, variable, axes))
            for variable, axes in zip(variables, _axes(variables), strict=True)
        ]

    def run(self, values):
        """Returns the output as an array `(B, H, W, C)`, given weights."""
        state = [
            (weight.variable, weight.stored(value))
            for weight, value in zip(self.weights, values, strict=True)
        ]
        with keras.StatelessScope(state_mapping=state):
            y = self.layer(self._to_tensor(self.x), training=False)
        y = ops.convert_to_numpy(ops.cast(y, "float32"))
        return np.moveaxis(y, 1, -1) if self.channels_first else y

    def _to_tensor(self, x):
        x = np.moveaxis(x, -1, 1) if self.channels_first else x
        return ops.convert_to_tensor(np.ascontiguousarray(x))


def _axes(variables):
    """Returns the axes of each variable in the order of Keras."""
    kernels = [v.shape for v in variables if len(v.shape) == 4]
    is_of_keras = any(height == width > 1 for height, width, _, _ in kernels)
    is_of_pytorch = any(height == width > 1 for _, _, height, width in kernels)
    orders = PYTORCH_AXES if is_of_pytorch and not is_of_keras else {}
    ranks = [len(v.shape) for v in variables]
    return [orders.get(rank, tuple(range(rank))) for rank in ranks]


def _random_value(rng, variable, axes):
    shape = [variable.shape[i] for i in axes]
    value = rng.uniform(0.5, 1.5, shape)
    # Statistics of a normalization stay positive, as a variance is.
    if variable.trainable:
        # Larger biases would decide alone whether a unit is above 0.
        size = 0.3 if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[:-1]))
        value *= size * rng.choice((-1, 1), shape)
    return value.astype("float32")


def _features(height, width, channels):
    """Returns random features of standard deviation 2."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.25, (BATCH, height, width, channels))
    # Pools and the units of a small MLP have to take both signs, which shows
    # whether a ReLU follows.
    x += rng.normal(0, 1, (BATCH, 1, 1, channels))
    x += rng.normal(0, 0.25, (BATCH, height, width, 1))
    x += np.linspace(-3, 3, BATCH).reshape(-1, 1, 1, 1)
    return x.astype("float32")


def _first_that_runs(layer):
    """Returns the layer under test for the first shape that it takes."""
    errors = []
    for shape in _shapes(layer):
        try:
            made = _make(layer, shape[-1])
            if not isinstance(made, keras.Layer):
                raise TypeError(f"it returns {made!r} in place of a layer")
            theirs = _RandomLayer(made, _features(*shape))
            values = [weight.value for weight in theirs.weights]
            theirs.output = theirs.run(values)
            return theirs
        except Exception as error:
            errors.append(error)
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(errors[0]))
    text = textwrap.shorten(f"{type(errors[0]).__name__}: {text}", 200)
    raise ValueError(
        "`layer` must take features of shape (B, H, W, C). Received: "
        f"layer={layer!r}, which fails ({text}). If its configuration does not "
        "copy it, or it takes another number of channels, give a function "
        "`f(channels)` that returns it"
    ) from errors[0]


def _shapes(layer):
    """Returns shapes `(H, W, C)` to try, the preferred ones first."""
    sizes, counts = [(HEIGHT, WIDTH)], [CHANNELS]
    if isinstance(layer, keras.Layer):
        # The number of channels may be an argument of the constructor.
        with contextlib.suppress(Exception):
            numbers = layer.get_config().values()
            counts += [x for x in numbers if type(x) is int and x > 1]
        shape = (layer.get_build_config() or {}).get("input_shape")
        shape = list(shape or getattr(layer, "input_shape", ()))
        if len(shape) == 4:
            counts.insert(0, shape.pop(1 if _is_channels_first(layer) else -1))
            sizes += [tuple(shape[1:])] * (None not in shape[1:])
    return [(*size, count) for size in sizes for count in counts]


def _is_channels_first(layer):
    return any(
        getattr(inner, "data_format", None) == "channels_first"
        for inner in _inspection.layers_within(layer)
    )


def _make(layer, channels):
    """Returns a new layer for features of so many channels."""
    if isinstance(layer, keras.Layer):
        return _copy(layer)
    if inspect.isclass(getattr(layer, "func", layer)):
        # Most classes, and their partials, find the channels when built.
        with contextlib.suppress(TypeError):
            return layer()
    try:
        return layer(channels)
    except Exception:
        # It may be a function of a tensor.
        inputs = keras.Input((None, None, channels))
        with contextlib.suppress(Exception):
            return keras.Model(inputs, layer(inputs))
        raise


def _copy(layer):
    """Returns a layer of the same configuration, in float32."""
    if _inspection.is_graph(layer):
        return keras.models.clone_model(layer, clone_function=_copy)
    config = layer.get_config()
    if "dtype" in config:
        config["dtype"] = "float32"
    return type(layer).from_config(config)
