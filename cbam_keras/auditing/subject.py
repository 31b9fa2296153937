"""`Subject`: a built copy of the layer, run with weights of our own."""

import math

import keras
import numpy as np
from keras import ops

from cbam_keras.auditing.inputs import features


class Subject:
    """A layer that is run on features `(B, H, W, C)` and arrays as weights.

    It is run without a change of its state, so it may be the user's own.

    Args:
        layer: A layer that is built, or that the first call builds.
        shape: Tuple `(H, W, C)`.
    """

    def __init__(self, layer: keras.layers.Layer, shape: tuple[int, int, int]):
        self.layer = layer
        self.shape = shape
        self.first = getattr(layer, "data_format", None) == "channels_first"
        self.x = features(*shape)
        # The residual that the output has besides the product, 0 or 1.
        self.offset = 0.0
        if not layer.built:
            layer(self._tensor(self.x))
        self.weights = [w for w in layer.weights if _is_weight(w)]
        self.kernels = [i for i, w in enumerate(self.weights) if w.ndim > 1]

    def values(self, seed=0, biases=False):
        """Returns random weights; biases are 0 unless `biases`."""
        rng = np.random.default_rng(100 + seed)
        found = []
        for weight in self.weights:
            shape = tuple(weight.shape)
            value = rng.normal(size=shape)
            if len(shape) > 1:
                value *= 0.7 / math.sqrt(math.prod(shape[:-1]))
            else:
                value = value * 0.4 if biases else np.zeros(shape)
                if "gamma" in weight.path:
                    value += 1
            found.append(value.astype("float32"))
        return found

    def output(self, x, values=None, training=False):
        """Returns the layer's output as an array of float32."""
        return self.to_array(self.call(self._tensor(x), values, training))

    def call(self, x, values=None, training=False):
        """Returns the output tensor, given weights as tensors or arrays."""
        state = [
            (variable, _at_rest(variable))
            for variable in self.layer.variables
            if _at_rest(variable) is not None
        ]
        if values is not None:
            state += zip(self.weights, values, strict=True)
        with keras.StatelessScope(state_mapping=state):
            return self.layer(x, training=training)

    def gate(self, x, values, training=False):
        """Returns the factors that the input is multiplied by."""
        y = self.output(x, values, training).astype("float64")
        return (y - self.offset * x) / x

    def muted(self, values, indices, factor=0.0):
        """Returns weights of which some are multiplied by a factor."""
        indices = set(indices)
        return [
            value * np.float32(factor) if i in indices else value
            for i, value in enumerate(values)
        ]

    def to_array(self, y):
        y = ops.convert_to_numpy(ops.cast(y, "float32"))
        return np.moveaxis(y, 1, -1) if self.first else y

    def _tensor(self, x, dtype=None):
        x = np.moveaxis(x, -1, 1) if self.first else x
        return ops.convert_to_tensor(
            np.ascontiguousarray(x), dtype=dtype or self.layer.compute_dtype
        )


def spread(values, axes):
    """Returns how much values vary along axes, relative to their size."""
    size = np.abs(values).mean()
    return float(np.std(values, axis=axes).mean() / size) if size else 0.0


def same(a, b, scale=None):
    """Returns whether arrays are equal but for rounding.

    It is judged by the variation of `b`, or by `scale`.
    """
    scale = max(np.std(b), 1e-3) if scale is None else scale
    # Half of it is left for accelerators that multiply in lower precision.
    return bool(np.abs(a - b).max(initial=0) <= 1e-2 * scale)


def _is_weight(variable):
    floating = keras.backend.is_float_dtype(variable.dtype)
    return floating and "moving_" not in variable.path


def _at_rest(variable):
    """Returns the statistics of batch normalization before any training."""
    if "moving_variance" in variable.path:
        return ops.ones(variable.shape)
    if "moving_mean" in variable.path:
        return ops.zeros(variable.shape)
    return None
