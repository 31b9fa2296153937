"""Products counted in plain NumPy, and models to profile."""

import keras
import numpy as np
from keras import layers

from cbam_keras.profiling import profile_model


class Counted:
    """A number that counts the products it is part of."""

    products = 0

    def __mul__(self, other):
        Counted.products += 1
        return self

    def __add__(self, other):
        return self

    __rmul__, __radd__ = __mul__, __add__


def products(function, *shapes):
    """Returns how often `function` multiplies, given arrays of `shapes`."""
    Counted.products = 0
    function(*(np.full(shape, Counted(), dtype=object) for shape in shapes))
    return Counted.products


def convolve(x, kernel, stride=1, dilation=1, groups=1, padding="valid"):
    """Convolves one sample `(*space, C)` by `(*taps, C / groups, filters)`."""
    rank = x.ndim - 1
    reach = [dilation * (taps - 1) + 1 for taps in kernel.shape[:rank]]
    if padding == "same":
        lengths = [-(-n // stride) for n in x.shape[:rank]]
        around = [
            max((length - 1) * stride + r - n, 0)
            for length, r, n in zip(lengths, reach, x.shape, strict=False)
        ]
        x = np.pad(x, [*((n // 2, n - n // 2) for n in around), (0, 0)])
    if padding == "causal":
        x = np.pad(x, [(reach[0] - 1, 0), (0, 0)])
    size = [(n - r) // stride + 1 for n, r in zip(x.shape, reach, strict=False)]
    pairs = list(
        zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    )
    rows = []
    for position in np.ndindex(*size):
        window = tuple(
            slice(stride * p, stride * p + r, dilation)
            for p, r in zip(position, reach, strict=True)
        )
        rows += [np.tensordot(part[window], k, rank + 1) for part, k in pairs]
    return np.concatenate(rows).reshape(*size, kernel.shape[-1])


def depthwise(x, kernel, **options):
    channels = x.shape[-1]
    kernel = kernel.reshape(*kernel.shape[:-2], 1, -1)
    return convolve(x, kernel, groups=channels, **options)


def separable(x, kernel, pointwise, **options):
    return convolve(depthwise(x, kernel, **options), pointwise)


def spread(x, kernel, stride=1):
    """Adds the kernel `(*taps, filters, C)` up around each position of `x`."""
    taps, filters = kernel.shape[: x.ndim - 1], kernel.shape[-2]
    size = [
        stride * (n - 1) + k for n, k in zip(x.shape[:-1], taps, strict=True)
    ]
    y = np.zeros((*size, filters), x.dtype)
    for position in np.ndindex(*x.shape[:-1]):
        window = tuple(
            slice(stride * p, stride * p + k)
            for p, k in zip(position, taps, strict=True)
        )
        y[window] += np.tensordot(kernel, x[position], 1)
    return y


def model_of(*parts, shape):
    return keras.Sequential([keras.Input(shape), *parts], name="model")


def profile_of(layer, shape):
    return profile_model(model_of(layer, shape=shape))


def channels_first(shape):
    return (shape[-1], *shape[:-1])


@keras.saving.register_keras_serializable(package="test_profiling")
class Scale(layers.Layer):
    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],))

    def call(self, inputs):
        return inputs * self.factor


class Forget(layers.Layer):
    """Hides the length of axis 1, as `ops.nonzero` does."""

    def compute_output_shape(self, input_shape):
        return (input_shape[0], None, *input_shape[2:])

    def call(self, inputs):
        return inputs
