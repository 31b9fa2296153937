"""Probes: random features, to compare a part of a network with layers on."""

import functools
import math

import numpy as np
from keras import ops

from cbam_keras.explain.gradients import gradient_at

# The largest difference of outputs that are equal, relative to the largest
# output.
TOLERANCE = 1e-5
# The sizes of positions in probes, where the part takes any.
SIZES = (6, 5, 4)
# Maps of more positions are not compared where that would do with few.
MOST_POSITIONS = 256


class Probes:
    """Features to compare a part with layers on, and what it gives of them."""

    def __init__(self, cut, data_format, shape):
        self.cut, self.data_format, self.shape = cut, data_format, shape
        self.axis = 1 if data_format == "channels_first" else len(shape) - 1
        self.channels = shape[self.axis]
        generator = np.random.default_rng(0)
        x = generator.normal(size=shape)
        # No value is so small that a quotient by it is inexact.
        x = np.sign(x) * (np.abs(x) + 0.1)
        pairs = zip(cut.shape[1:], shape[1:], strict=True)
        other = [size or small + 1 for size, small in pairs]
        self.features = [
            x,
            np.maximum(x, 0),
            20 * x,
            generator.normal(size=(1, *other)),
        ]
        self.direction = generator.normal(size=shape)
        self.outputs = [_run(cut, x) for x in self.features]

    def difference(self, layer):
        """Returns the largest relative difference of a layer's outputs.

        It is infinite if the layer does not compute the same.
        """
        largest = 0.0
        for x, y in zip(self.features, self.outputs, strict=True):
            difference = difference_of(y, _run(layer, x))
            if not difference <= TOLERANCE:
                return math.inf
            largest = max(largest, difference)
        gradients = (
            _gradient(function, self.features[0], self.direction)
            for function in (self.cut, layer)
        )
        # Gradients add more terms than outputs.
        is_equal = difference_of(*gradients) <= 10 * TOLERANCE
        return largest if is_equal else math.inf

    def factors(self, x):
        """Returns what the part multiplies features by, channels last."""
        return np.moveaxis(_run(self.cut, x) / x, self.axis, -1)

    @functools.cached_property
    def is_product(self):
        """Whether factors are a factor of channels by one of positions."""
        factors = self.factors(self.features[0])
        corner = (slice(None), *(slice(1) for _ in factors.shape[1:-1]))
        by_channel, by_position = factors[corner], factors[..., :1]
        product = by_channel * by_position
        atol = 1e-4 * np.abs(factors).max() ** 2
        return np.allclose(factors * by_channel[..., :1], product, atol=atol)


def probe(cut, data_format):
    """Returns the probes of a part, `None` if it takes none.

    Their positions are few, unless it takes only those that it was made for.
    """
    sizes = list(cut.shape[1:])
    axis = 0 if data_format == "channels_first" else len(sizes) - 1
    others = sizes[:axis] + sizes[axis + 1 :]
    # What has no positions or one channel has no attention.
    if (sizes[axis] or 1) == 1 or math.prod(x or 2 for x in others) == 1:
        return None
    few = list(SIZES[: len(others)])
    true = [x or y for x, y in zip(others, few, strict=True)]
    # Without weights, there may be sizes in the formula.
    is_small = math.prod(true) <= MOST_POSITIONS or not cut.variables
    for positions in [true] if is_small else [few, true]:
        positions.insert(axis, sizes[axis])
        try:
            probes = Probes(cut, data_format, (3, *positions))
        # A part of any network may raise anything.
        except Exception:  # noqa: BLE001
            continue
        y = probes.outputs[0]
        if y.shape == probes.shape and np.isfinite(y).all():
            return probes
    return None


def _run(function, x):
    x = ops.convert_to_tensor(x, "float32")
    return ops.convert_to_numpy(ops.stop_gradient(function(x)))


def _gradient(function, x, weights):
    """Returns the gradient of a weighted sum of outputs."""
    weights = ops.convert_to_tensor(weights, "float32")

    def run(watch):
        features = watch(ops.convert_to_tensor(x, "float32"))
        return ops.sum(function(features) * weights), features

    return ops.convert_to_numpy(gradient_at(run, x.shape)[1])


def difference_of(expected, y):
    """Returns the largest difference, relative to the largest value."""
    largest = max(np.abs(expected).max(), 1e-30)
    return float(np.abs(expected - y).max() / largest)
