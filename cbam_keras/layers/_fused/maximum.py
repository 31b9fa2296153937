"""The maximum of a pool, with a gradient that no compiler breaks.

A backend's own gradient compares the features with their maximum, and divides
by the number of those that are equal. XLA may compute the features twice, with
other roundings. Then none is equal, and 0 / 0 goes into all weights.

So where XLA compiles, one of the greatest elements has all of the gradient, as
in the fused passes and in the authors' code. Elsewhere, equal elements share
it, which is faster. Its sum is the same.
"""

import keras
from keras import ops

from cbam_keras.layers._fused.decorator import PASSES


def maximum(x, axis, keepdims=False):
    """Returns the maximum over an axis, or over several that are adjacent."""
    if PASSES is None or isinstance(x, keras.KerasTensor):
        return ops.amax(x, axis=axis, keepdims=keepdims)
    return PASSES.maximum(x, axis, keepdims)
