"""What the two gates of a layer compute: kernels, activations, pools."""

import functools
import itertools

import numpy as np

from cbam_keras.auditing.layer_under_test import (
    LayerUnderTest,
    has_window,
    same,
    scaled,
    widths,
)
from cbam_keras.auditing.results import Findings

# Relative standard deviation below which a map counts as constant.
CONSTANT = 1e-3
# Scales kernels so that a sigmoid becomes 0 or 1.
SATURATING = 1e3
# What the activation of a gate may be in place of a sigmoid.
OTHER_ACTIVATIONS = {
    "clipped": "is never below one half: a ReLU precedes its sigmoid",
    "relu": "is a ReLU in place of a sigmoid",
    "none": "has no sigmoid, so it is not within 0 and 1",
    "other": "is not a sigmoid",
}


def find_gates(layer: LayerUnderTest, findings: Findings) -> None:
    """Notes at the layer which of its kernels belong to which gate.

    Without the kernels of the spatial gate, each channel is multiplied by
    the same factor at all positions.
    """
    weights = layer.random_weights()
    saturated = scaled(weights, layer.kernels, SATURATING)
    layer.residual = float(layer.factors(layer.x, saturated).min() > 0.98)
    if layer.residual:
        findings.departs("The layer adds its input to the product.")
    factors = layer.factors(layer.x, weights)
    spatial = []
    if _is_constant(factors, 3):
        spatial = layer.kernels
    elif not _is_constant(factors, (1, 2)):
        spatial = [
            i for i in layer.kernels if _is_spatial(layer, i, weights, factors)
        ]
    layer.gates = {
        "channel": [i for i in layer.kernels if i not in spatial],
        "spatial": spatial,
    }
    at_rest = layer.factors(layer.x, scaled(weights, layer.kernels))
    layer.factor_at_rest = float(at_rest.mean())
    if abs(layer.factor_at_rest - 1) < 0.005:
        findings.facts["identity_init"] = True
        findings.chooses("The gates are 1 at rest, as of 2 * sigmoid.")
    for gate in layer.gates:
        if np.abs(layer.map(gate, layer.x, weights)).max() < 1e-6:
            layer.unobservable.append(gate)


def _is_constant(values, axes):
    """Returns whether values hardly vary along axes."""
    deviation = np.std(values, axis=axes).mean()
    return bool(deviation <= CONSTANT * np.abs(values).mean())


def _is_spatial(layer, index, weights, factors):
    without = layer.factors(layer.x, scaled(weights, [index]))
    if np.abs(without).max() < 1e-6:
        # The gate is a ReLU, which is 0 then: nothing more can be seen.
        return has_window(layer.weights[index])
    if _is_constant(without, (1, 2)):
        return True
    others = list(weights)
    others[index] = layer.random_weights(seed=1)[index]
    changed = layer.factors(layer.x, others)
    return same(_by_channel(changed), _by_channel(factors))


def _by_channel(factors):
    """Returns how factors differ between channels, `(B, C)`."""
    logs = np.log(np.maximum(factors, 1e-9)).mean(axis=(1, 2))
    return logs - logs.mean(axis=-1, keepdims=True)


def check_channel_gate(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds what the channel gate computes."""
    kernels = layer.gates["channel"]
    if not kernels:
        return findings.departs("There is no channel attention.")
    activation = _check_activation("channel", layer, findings)
    if activation == "unknown":
        reason = "because the spatial gate is 0 at rest."
        return findings.skips(f"The channel gate, {reason}")
    factors = layer.map("channel", layer.x, layer.random_weights())
    if not _is_constant(factors, (1, 2)):
        return findings.departs("The channel map varies between positions.")

    def maps(x):
        """Returns the channel maps of three sets of weights, `(3, B, C)`."""
        weights = map(layer.random_weights, range(3))
        factors = [layer.map("channel", x, values) for values in weights]
        return np.mean(factors, axis=(2, 3))

    _check_pools("channel", maps, layer.x, findings)
    if len(kernels) > 1 and activation != "other":
        _check_mlp(maps, layer, activation, findings)
    # Four are those of two MLPs.
    if len(kernels) in (2, 4):
        _note_width(layer, findings)
    else:
        findings.departs(f"The MLP has {len(kernels)} dense layers, not two.")
    biases = (layer.shape[-1],) in _shapes_of_biases(layer)
    findings.facts["use_bias"] = biases
    findings.chooses(f"The MLP has {'' if biases else 'no '}biases.")


def _note_width(layer, findings):
    """Adds the width of the hidden layer, and how `C / r` is rounded."""
    channels, ratio = layer.shape[-1], layer.factory.ratio
    sizes = (np.prod(layer.weights[i].shape) for i in layer.gates["channel"])
    width = findings.facts["hidden_units"] = int(min(sizes)) // channels
    given = "" if ratio is None else f" and a ratio of {ratio}"
    findings.chooses(
        f"The MLP has a width of {width} for {channels} channels{given}."
    )
    if ratio is not None:
        findings.facts["reduction_ratio"] = ratio
        roundings = widths(channels, ratio)
        how = [name for name, n in roundings.items() if n == width]
        if 0 < len(how) < len(roundings):
            findings.chooses(f"C / r is {' or '.join(how)}.")


def _shapes_of_biases(layer):
    """Returns shapes, without axes of length 1, of what is added."""
    return [
        tuple(size for size in weight.shape if size > 1)
        for i, weight in enumerate(layer.weights)
        # That of a batch normalization is not a bias of the layer before.
        if i not in layer.kernels and not layer.starts[i]
        if "beta" not in weight.path
    ]


def _check_activation(gate, layer, findings):
    """Returns the activation of a gate, which must be a sigmoid."""
    activation = _activation_of(gate, layer)
    if activation in OTHER_ACTIVATIONS:
        findings.departs(f"The {gate} gate {OTHER_ACTIVATIONS[activation]}.")
    return activation


def _activation_of(gate, layer):
    """Returns a key above, `"sigmoid"`, or `"unknown"` if it cannot be seen."""
    kernels = layer.gates[gate]
    # Several seeds, because the few weights of one may all be positive.
    extremes = np.stack(
        [
            layer.map(gate, layer.x, scaled(weights, kernels, SATURATING))
            for weights in map(layer.random_weights, range(3))
        ]
    )
    if np.isnan(extremes).all():
        return "unknown"
    low, high = np.nanmin(extremes), np.nanmax(extremes)
    # A sigmoid is divided by its value at rest, one half.
    if abs(high - 2) < 0.05 and low < 0.05:
        activation = "sigmoid"
    elif abs(high - 2) < 0.05 and abs(low - 1) < 0.02:
        activation = "clipped"
    elif abs(low) < 1e-6 and high > 2.05:
        activation = "relu"
    elif min(-low, high) > 10:
        activation = "none"
    else:
        return "other"
    x = 0.3 * layer.x
    if gate == "channel":
        # The same for both pools, wherever they are added.
        x = _constant(x, x.max(axis=(1, 2)))
    weights = layer.random_weights()
    before = _logits(layer.map(gate, x, weights), activation)
    # Half of the last kernels is half of the logits.
    for count in range(1, len(kernels) + 1):
        for last in itertools.combinations(kernels, count):
            halved = layer.map(gate, x, scaled(weights, last, 0.5))
            if _same_where_known(_logits(halved, activation), before / 2):
                return activation
    return "other"


def _constant(x, values):
    """Returns features with the same `(B, C)` at each position of `x`."""
    return np.broadcast_to(values[:, None, None], x.shape).astype("float32")


def _logits(values, activation):
    """Returns what the activation of a gate was applied to, NaN if lost."""
    if activation == "none":
        return values
    if activation == "relu":
        return np.where(values > 1e-4, values, np.nan)
    half = np.clip(values / 2, 1e-7, 1 - 1e-7)
    result = np.log(half / (1 - half))
    lost = np.isnan(values) | (np.abs(result) > 12)
    if activation == "clipped":
        lost |= values < 1 + 1e-4
    return np.where(lost, np.nan, result)


def _same_where_known(a, b):
    """Returns whether arrays are equal where neither is NaN."""
    known = np.isfinite(a) & np.isfinite(b)
    return same(a[known], b[known]) if known.any() else True


def _check_pools(gate, maps, x, findings):
    """Adds what a gate pools by: both the average and the maximum."""
    before, over = maps(x), "positions" if gate == "channel" else "channels"
    pools = tuple(
        name
        for name, changed in _changes(gate, x).items()
        if not same(maps(changed), before)
    )
    if pools and "other" not in pools:
        findings.facts[f"{gate}_pool_types"] = pools
    both = f"average and the maximum over {over}"
    problem = {
        (): f"does not depend on the {both}",
        ("avg",): f"pools by the average over {over} alone",
        ("max",): f"pools by the maximum over {over} alone",
        ("avg", "max"): "",
    }.get(pools, f"does not pool by the {both} alone")
    if problem:
        findings.departs(f"The {gate} gate {problem}.")


def _changes(gate, x):
    """Returns features with other averages, other maxima, or neither."""
    batch, height, width, channels = x.shape
    shape = (batch * height * width, channels, 1)
    if gate == "channel":
        shape = (batch, height * width, channels)
    flat = x.reshape(shape).astype("float64")
    mean = flat.mean(axis=1, keepdims=True)
    highest = flat.max(axis=1, keepdims=True)
    low, top = flat < mean, flat == highest
    number, of_low = np.cumsum(low, axis=1), low.sum(axis=1, keepdims=True)
    fall = top.sum(axis=1, keepdims=True) / of_low
    # Pairs of low values, of which one rises as much as the other falls.
    paired = low & (number <= of_low // 2 * 2)
    room = np.minimum(highest - mean, mean - flat.min(axis=1, keepdims=True))
    changes = {
        "avg": -1.0 * low,
        "max": 2 * top - 2 * low * fall,
        "other": 0.5 * room * paired * np.where(number % 2, 1, -1),
    }
    return {
        name: (flat + change).reshape(x.shape).astype("float32")
        for name, change in changes.items()
    }


def _check_mlp(maps, layer, activation, findings):
    """Adds whether one MLP with a ReLU is shared by both pools."""
    x = 0.3 * layer.x
    average, maximum = x.mean(axis=(1, 2)), x.max(axis=(1, 2))
    # At a single position, pools such as lse return the features too.
    position = x[:, :1, :1]
    try:
        maps(position)
    except Exception:
        position = x

    def maps_at(pooled):
        return maps(_constant(position, pooled))

    def logits_at(pooled):
        return _logits(maps_at(pooled), activation)

    both = (logits_at(average) + logits_at(maximum)) / 2
    if findings.facts.get("channel_pool_types") == ("avg", "max") and (
        not _same_where_known(_logits(maps(x), activation), both)
    ):
        both = (maps_at(average) + maps_at(maximum)) / 2
        findings.departs(
            "The sigmoid is applied to each pooled branch, before the sum."
            if activation == "sigmoid" and _same_where_known(maps(x), both)
            else "The two pooled branches do not share one MLP, whose outputs "
            "are added before the sigmoid."
        )
    middle = (logits_at(maximum) + logits_at(-0.5 * maximum)) / 2
    double = logits_at(2 * maximum)
    if _same_where_known(logits_at(0.25 * maximum), middle):
        findings.facts["activation"] = "linear"
        findings.departs("There is no activation within the MLP.")
    elif not _same_where_known(double, 2 * logits_at(maximum)):
        findings.departs("The activation within the MLP is not a ReLU.")


def check_spatial_gate(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds what the spatial gate computes."""
    kernels = layer.gates["spatial"]
    weights = layer.random_weights()
    if not kernels:
        return findings.departs("There is no spatial attention.")
    activation = _check_activation("spatial", layer, findings)
    maps = functools.partial(layer.map, "spatial", weights=weights)
    gate = maps(layer.x)
    spread = np.nanmax(gate, axis=3) - np.nanmin(gate, axis=3)
    if np.nanmax(spread) > CONSTANT:
        count = max(weights[i].shape[-1] for i in kernels)
        findings.departs(f"There are {count} spatial maps in place of one.")
    if "spatial" in layer.unobservable:
        reason = "because the channel gate is 0 at rest."
        findings.skips(f"Pools and window of the spatial gate, {reason}")
    else:
        _check_pools("spatial", maps, layer.x, findings)
        _check_window(maps, layer, findings)
        if activation != "other":
            _check_convolution(maps, layer, activation, findings)
    statistics = [
        variable.shape
        for variable in layer.layer.variables
        if "moving_" in variable.path
    ]
    normalizes = findings.facts["spatial_batch_norm"] = (1,) in statistics
    verb = "normalizes" if normalizes else "does not normalize"
    findings.chooses(f"The spatial gate {verb} before its sigmoid.")
    if any(shape != (1,) for shape in statistics):
        findings.departs("A batch normalization is outside the spatial gate.")
    biased = findings.facts["spatial_use_bias"] = () in _shapes_of_biases(layer)
    how_many = "a" if biased else "no"
    findings.chooses(f"The spatial convolution has {how_many} bias.")


def _check_window(maps, layer, findings):
    """Adds which positions the spatial map of one position depends on."""
    row, column = centre = np.array(layer.shape[:2]) // 2
    x = layer.x.copy()
    x[:, row, column] *= 2
    changed = np.abs(maps(x) - maps(layer.x)).max(axis=(0, 3)) > 1e-5
    windows = [np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0)]
    height, width = size = tuple(map(len, windows))
    if 0 in size or any(np.equal(size, layer.shape[:2])):
        return findings.departs("The spatial map does not come from a window.")
    findings.chooses(f"The spatial convolution is {height} x {width}.")
    ends = np.array([(window[0], window[-1]) for window in windows])
    if any(ends.sum(axis=1) != 2 * centre):
        findings.departs("The spatial convolution is not centred.")
    elif height == width:
        findings.facts["kernel_size"] = height


def _check_convolution(maps, layer, activation, findings):
    # All channels are equal, and so are their average and their maximum.
    x = 0.3 * np.broadcast_to(layer.x[..., :1], layer.x.shape)
    once, other = (_logits(maps(n * x), activation) for n in (1, -2))
    if not _same_where_known(other, -2 * once):
        findings.departs("The spatial gate is not one convolution.")
