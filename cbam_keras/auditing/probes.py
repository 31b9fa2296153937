"""What tells pools apart, which kernels are whose, what a gate computes."""

import math
from collections.abc import Callable

import numpy as np

from cbam_keras.auditing.layer_under_test import LayerUnderTest, same, scaled

# Relative standard deviation below which a map counts as constant.
CONSTANT = 1e-3
# Scales kernels so that a sigmoid becomes 0 or 1.
SATURATING = 1e3


def constant(x, values):
    """Returns features with the same `(B, C)` at each position of `x`."""
    return np.broadcast_to(values[:, None, None], x.shape).astype("float32")


def shuffled(x):
    """Returns `x` with its positions in another order."""
    rows = np.random.default_rng(1).permutation(x.shape[1])
    columns = np.random.default_rng(2).permutation(x.shape[2])
    return x[:, rows][:, :, columns]


def pools_used(
    gate: str, maps: Callable[[np.ndarray], np.ndarray], x: np.ndarray
) -> tuple[str, ...]:
    """Returns what the maps of a gate depend on.

    Returns:
        Tuple of strings among `"avg"`, `"max"` and `"other"`.
    """
    changes = {"avg": _average, "max": _maximum, "other": _spread}
    before = maps(x)
    return tuple(
        name
        for name, change in changes.items()
        if not same(maps(_changed(x, gate, change)), before)
    )


def _changed(x, gate, change):
    """Changes what a gate pools, given which values are below average."""
    batch, height, width, channels = x.shape
    shape = (batch * height * width, channels, 1)
    if gate == "channel":
        shape = (batch, height * width, channels)
    flat = x.reshape(shape).astype("float64")
    flat = change(flat, flat < flat.mean(axis=1, keepdims=True))
    return flat.reshape(x.shape).astype("float32")


def _average(x, low):
    """Changes averages alone."""
    return x - low


def _maximum(x, low):
    """Changes maxima alone."""
    top = x == x.max(axis=1, keepdims=True)
    fall = top.sum(axis=1, keepdims=True) / low.sum(axis=1, keepdims=True)
    return x + 2 * top - 2 * low * fall


def _spread(x, low):
    """Changes values, but neither averages nor maxima."""
    count = np.cumsum(low, axis=1) * low
    even = low.sum(axis=1, keepdims=True) // 2 * 2
    paired = low * (count <= even)
    mean = x.mean(axis=1, keepdims=True)
    above = x.max(axis=1, keepdims=True) - mean
    below = mean - x.min(axis=1, keepdims=True)
    room = np.minimum(above, below)
    return x + 0.5 * room * paired * np.where(count % 2, 1, -1)


def find_gates(layer: LayerUnderTest) -> None:
    """Notes at the layer which of its kernels belong to which gate.

    Without the kernels of the spatial gate, each channel is multiplied by
    the same factor at all positions.
    """
    weights = layer.random_weights()
    saturated = scaled(weights, layer.kernels, SATURATING)
    layer.residual = float(layer.factors(layer.x, saturated).min() > 0.98)
    factors = layer.factors(layer.x, weights)
    if relative_spread(factors, (1, 2)) < CONSTANT:
        spatial = [i for i in layer.kernels if _has_window(layer, i)]
    elif relative_spread(factors, 3) < CONSTANT:
        spatial = layer.kernels
    else:
        spatial = [
            i for i in layer.kernels if _is_spatial(layer, i, weights, factors)
        ]
    layer.gates = {
        "channel": [i for i in layer.kernels if i not in spatial],
        "spatial": spatial,
    }
    at_rest = layer.factors(layer.x, scaled(weights, layer.kernels))
    layer.factor_at_rest = float(at_rest.mean())
    for gate in layer.gates:
        if np.abs(layer.map(gate, layer.x, weights)).max() < 1e-6:
            layer.unobservable.append(gate)


def relative_spread(values, axes):
    """Returns the standard deviation along axes, relative to the values."""
    size = np.abs(values).mean()
    return float(np.std(values, axis=axes).mean() / size) if size else 0.0


def _is_spatial(layer, index, weights, factors):
    without = layer.factors(layer.x, scaled(weights, [index]))
    if np.abs(without).max() < 1e-6:
        # The gate is a ReLU, which is 0 then: nothing more can be seen.
        return _has_window(layer, index)
    if relative_spread(without, (1, 2)) < CONSTANT:
        return True
    others = list(weights)
    others[index] = layer.random_weights(seed=1)[index]
    changed = layer.factors(layer.x, others)
    return same(_by_channel(changed), _by_channel(factors))


def _by_channel(factors):
    """Returns how factors differ between channels, `(B, C)`."""
    logs = np.log(np.maximum(factors, 1e-9)).mean(axis=(1, 2))
    return logs - logs.mean(axis=-1, keepdims=True)


def _has_window(layer, index):
    return math.prod(layer.weights[index].shape[:-2]) > 1


def activation_of(layer: LayerUnderTest, gate: str) -> str:
    """Returns what the map of a gate is computed by.

    Returns:
        `"sigmoid"`; `"clipped"`, a sigmoid of a ReLU; `"relu"`; `"other"`;
        or `"unknown"`, if the gate is unobservable.
    """
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
    else:
        return "other"
    x = 0.3 * layer.x
    if gate == "channel":
        # The same for both pools, wherever they are added.
        x = constant(x, x.max(axis=(1, 2)))
    weights = layer.random_weights()
    last = [i for i in kernels if weights[i].shape[-1] in (1, x.shape[-1])]
    halved = layer.map(gate, x, scaled(weights, last, 0.5))
    before = logits(layer.map(gate, x, weights), activation)
    after = logits(halved, activation)
    # Half, or a quarter if two of the kernels are last.
    halves = [same_where_known(after, f * before) for f in (0.5, 0.25)]
    return activation if any(halves) else "other"


def logits(values: np.ndarray, activation: str) -> np.ndarray:
    """Returns what the activation of a gate was applied to, NaN if lost."""
    if activation == "relu":
        return np.where(values > 1e-4, values, np.nan)
    half = np.clip(values / 2, 1e-7, 1 - 1e-7)
    result = np.log(half / (1 - half))
    lost = np.isnan(values) | (np.abs(result) > 12)
    if activation == "clipped":
        lost |= values < 1 + 1e-4
    return np.where(lost, np.nan, result)


def same_where_known(a: np.ndarray, b: np.ndarray) -> bool:
    """Returns whether arrays are equal where neither is NaN."""
    known = np.isfinite(a) & np.isfinite(b)
    return same(a[known], b[known]) if known.any() else True
