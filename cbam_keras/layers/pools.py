"""The pools of the gates: avg, max, lp, lse."""

import keras
from keras import ops


def _lp_pool(x, axis):
    total = ops.sum(ops.square(x), axis=axis)
    # The root has no finite gradient at 0, the sum of a channel that a ReLU
    # has set to zero: there, take the root of 1 and subtract 1.
    empty = ops.cast(total == 0, total.dtype)
    return ops.sqrt(total + empty) - empty


def _avg_pool(x, axis):
    if keras.backend.standardize_dtype(x.dtype) != "float64":
        return ops.mean(x, axis=axis)
    # On JAX and PyTorch, `ops.mean` of float64 computes in float32.
    size = 1
    for i in (axis,) if isinstance(axis, int) else axis:
        size = size * ops.shape(x)[i]
    return ops.sum(x, axis=axis) / ops.cast(size, "float64")


# The pools that `pool_types` may name.
POOLS = {
    "avg": _avg_pool,
    "max": ops.max,
    "lp": _lp_pool,
    "lse": ops.logsumexp,
}


def pool(x, pool_type, axis, dtype):
    """Returns `x` pooled over `axis`, computed and returned in `dtype`."""
    if pool_type == "max":
        # A maximum is exact in any precision: cast the small result.
        return ops.cast(ops.max(x, axis=axis), dtype)
    return POOLS[pool_type](ops.cast(x, dtype), axis=axis)
