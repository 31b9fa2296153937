"""The convolution of the spatial gate, in the form that is fast."""

import keras

from cbam_keras.layers._fused import rows
from cbam_keras.layers._fused.decorator import PASSES


def convolve(maps, kernel, dilation_rate):
    """Returns the convolution of maps to one map, with "same" padding.

    It is that of `(B, .., M)`, with one to three spatial axes, by a kernel
    `(k, .., M, 1)` to `(B, .., 1)`.
    """
    if PASSES is None or isinstance(maps, keras.KerasTensor):
        return rows.convolve(maps, kernel, dilation_rate)
    return PASSES.convolve(maps, kernel, dilation_rate)
