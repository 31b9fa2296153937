"""Which pools the factors of a half of CBAM depend on, measured."""

import math

import numpy as np

from cbam_keras.recognition.departures import (
    Departure,
    Difference,
    pooled_by,
)
from cbam_keras.recognition.probes import ONE_FACTOR, Probes, same_pools

MEAN = ("avg",)
BOTH = ("avg", "max")


def fault_of_pools(probes: Probes) -> Difference | None:
    """Returns what is wrong about the pools of a half of CBAM, if anything.

    It is for gates that equal no layer of ours, and have the weights of such a
    half. Gates of channels by their mean are published, and what depends on
    more than pools may be anything.
    """
    if probes.gated == {"channel"} and _has_one_mlp(probes):
        pools = _pools_of(probes, "channel")
        if pools == BOTH:
            return Departure.JOINED.say()
        if pools not in ((), MEAN):
            return pooled_by("channel", pools)
    if probes.gated == {"spatial"} and _has_one_convolution(probes):
        pools = _pools_of(probes, "spatial")
        if pools not in ((), BOTH):
            return pooled_by("spatial", pools)
    return None


def _kernels(probes):
    return [x.shape for x in probes.values.values() if x.ndim > 1]


def _has_one_mlp(probes):
    """Returns whether its kernels are those of one MLP, of a pool or two."""
    sizes = [shape[-2:] for shape in _kernels(probes)]
    channels = probes.channels
    inputs = (channels, 2 * channels)
    return len(sizes) == 2 and any(
        first[0] in inputs and second == (first[1], channels)
        for first, second in (sizes, sizes[::-1])
    )


def _has_one_convolution(probes):
    """Returns whether its kernel is that of a map of one pool or two."""
    sizes = [shape[-2:] for shape in _kernels(probes)]
    return sizes in ([(1, 1)], [(2, 1)])


def _pools_of(probes, half):
    """Returns the fewest pools that decide all factors, `()` if none do."""
    x = np.moveaxis(probes.positive, probes.axis, -1)
    positions = tuple(range(1, x.ndim - 1))
    axes = positions if half == "channel" else (x.ndim - 1,)
    if math.prod(x.shape[axis] for axis in axes) < 2:
        return ()
    weights = probes._several
    factors = [probes.factors(probes.positive, values) for values in weights]
    for pools, changed in same_pools(x, axes).items():
        changed = np.moveaxis(changed, -1, probes.axis)
        # The first that differs ends it.
        new = (probes.factors(changed, values) for values in weights)
        if all(map(_are_equal, factors, new)):
            return pools
    return ()


def _are_equal(factors, others):
    size = max(np.abs(factors).max(), np.abs(others).max())
    return np.abs(factors - others).max() <= ONE_FACTOR * size
