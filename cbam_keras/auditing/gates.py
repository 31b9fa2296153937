"""The two gates of a layer: their kernels, activations and pools."""

import itertools
from collections.abc import Callable

import numpy as np

from cbam_keras.auditing.layer_under_test import (
    LayerUnderTest,
    has_window,
    same,
    scaled,
)

# Relative standard deviation below which a map counts as constant.
CONSTANT = 1e-3
# Scales kernels so that a sigmoid becomes 0 or 1.
SATURATING = 1e3


def find_gates(layer: LayerUnderTest) -> None:
    """Notes at the layer which of its kernels belong to which gate.

    Without the kernels of the spatial gate, each channel is multiplied by
    the same factor at all positions.
    """
    weights = layer.random_weights()
    saturated = scaled(weights, layer.kernels, SATURATING)
    layer.residual = float(layer.factors(layer.x, saturated).min() > 0.98)
    factors = layer.factors(layer.x, weights)
    if is_constant(factors, (1, 2)):
        spatial = [i for i in layer.kernels if has_window(layer.weights[i])]
    elif is_constant(factors, 3):
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


def is_constant(values: np.ndarray, axes) -> bool:
    """Returns whether values hardly vary along axes."""
    deviation = np.std(values, axis=axes).mean()
    return bool(deviation <= CONSTANT * np.abs(values).mean())


def _is_spatial(layer, index, weights, factors):
    without = layer.factors(layer.x, scaled(weights, [index]))
    if np.abs(without).max() < 1e-6:
        # The gate is a ReLU, which is 0 then: nothing more can be seen.
        return has_window(layer.weights[index])
    if is_constant(without, (1, 2)):
        return True
    others = list(weights)
    others[index] = layer.random_weights(seed=1)[index]
    changed = layer.factors(layer.x, others)
    return same(_by_channel(changed), _by_channel(factors))


def _by_channel(factors):
    """Returns how factors differ between channels, `(B, C)`."""
    logs = np.log(np.maximum(factors, 1e-9)).mean(axis=(1, 2))
    return logs - logs.mean(axis=-1, keepdims=True)


def constant(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns features with the same `(B, C)` at each position of `x`."""
    return np.broadcast_to(values[:, None, None], x.shape).astype("float32")


def activation_of(layer: LayerUnderTest, gate: str) -> str:
    """Returns what the map of a gate is computed by.

    `"sigmoid"`, `"clipped"` (a sigmoid of a ReLU), `"relu"`, `"none"`,
    `"other"`, or `"unknown"` if the gate is unobservable.
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
    elif min(-low, high) > 10:
        activation = "none"
    else:
        return "other"
    x = 0.3 * layer.x
    if gate == "channel":
        # The same for both pools, wherever they are added.
        x = constant(x, x.max(axis=(1, 2)))
    weights = layer.random_weights()
    before = logits(layer.map(gate, x, weights), activation)
    # Half of the last kernels is half of the logits.
    for count in range(1, len(kernels) + 1):
        for last in itertools.combinations(kernels, count):
            halved = layer.map(gate, x, scaled(weights, last, 0.5))
            if same_where_known(logits(halved, activation), before / 2):
                return activation
    return "other"


def logits(values: np.ndarray, activation: str) -> np.ndarray:
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


def same_where_known(a: np.ndarray, b: np.ndarray) -> bool:
    """Returns whether arrays are equal where neither is NaN."""
    known = np.isfinite(a) & np.isfinite(b)
    return same(a[known], b[known]) if known.any() else True


def pools_used(
    gate: str, maps: Callable[[np.ndarray], np.ndarray], x: np.ndarray
) -> tuple[str, ...]:
    """Returns which of `"avg"`, `"max"` and `"other"` a gate depends on."""
    before = maps(x)
    return tuple(
        name
        for name, changed in _changes(gate, x).items()
        if not same(maps(changed), before)
    )


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
