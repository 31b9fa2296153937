"""Computes each layer of features with axes of one position, in a process.

Usage: python unit_axes_script.py
"""

import keras
import numpy as np
from layer_checks import (
    LAYERS,
    call_and_gradients,
    random_input,
    randomize,
)

from cbam_keras import SpatialAttention, layers

# A height of one as of signals, a width of one, and pooled features. The width
# exceeds the channels: there TensorFlow's oneDNN leaves the array.
SHAPES = [(3, 1, 14, 8), (3, 14, 1, 8), (3, 1, 1, 8)]


class Gated(keras.layers.Layer):
    """An attention gate, whose gating signal is the skip connection."""

    def __init__(self, **options):
        super().__init__(**options)
        self.gate = layers.AttentionGate(subsampling=1, **options)

    def build(self, shape):
        self.gate.build([shape, shape])

    def call(self, x, training=None):
        return self.gate(x, x, training=training)


class ConvPooled(SpatialAttention):
    """Pools by a product with a learned vector."""

    def __init__(self, **options):
        super().__init__(pool_types=("conv", "max"), **options)


KINDS = [*LAYERS, Gated, ConvPooled]


def differences(kind, shape, modes):
    """Yields the greatest difference of float32 from float64, by mode."""
    expected = compute(kind, shape, "float64", "eager")
    for mode in modes:
        found = compute(kind, shape, "float32", mode)
        yield max(map(relative, found, expected))


def compute(kind, shape, dtype, mode):
    """Returns outputs, state, and gradients by the input and weights."""
    layer = kind(dtype=dtype)
    layer.build(shape)
    randomize(layer)
    x, weighting = (random_input(shape, dtype, seed) for seed in (0, 1))
    return sum(call_and_gradients(layer, x, weighting, True, mode), [])


def relative(found, expected):
    scale = max(1, np.abs(expected).max(initial=0))
    return np.abs(found - expected).max(initial=0) / scale


if __name__ == "__main__":
    for kind in KINDS:
        for shape in SHAPES:
            # One shape in a graph, as `fit` computes.
            modes = ["eager", "graph"] if shape == SHAPES[0] else ["eager"]
            for found in differences(kind, shape, modes):
                # What is buffered would be lost if the process is killed.
                print(kind.__name__, *shape, found, flush=True)
