"""The pools of the gates: avg, max, lp, lse."""

import keras
from keras import ops

from cbam_keras.layers._fused.decorator import PASSES


def maximum(x, axis, keepdims=False):
    """Returns the maximum over an axis, or over several that are adjacent.

    A backend's own gradient divides by the number of elements that are equal to
    the maximum. XLA may compute the elements again with different rounding;
    then none of them equals the maximum, and the gradient is NaN. So where XLA
    compiles, one of the largest elements gets the whole gradient, as in fused
    attention and in the authors' code. Elsewhere equal elements share the
    gradient, which is faster.
    """
    if PASSES is None or isinstance(x, keras.KerasTensor):
        return ops.amax(x, axis=axis, keepdims=keepdims)
    return PASSES.maximum(x, axis, keepdims)


def scale_for_squares(x, axis):
    """Returns what to multiply `x` by, so that a sum of squares is finite.

    It is 1 or, where values are large, a power of two, by which a product is
    exact.
    """
    is_double = keras.backend.standardize_dtype(x.dtype) == "float64"
    # The largest numbers of the dtype are about 2**bits. Values up to
    # 2**(3/8 * bits) have squares that leave room for sums. Larger values are
    # multiplied by 2**(-5/8 * bits), so that their squares neither overflow nor
    # vanish.
    bits = 1024 if is_double else 128
    largest = maximum(ops.abs(x), axis, keepdims=True)
    return ops.where(
        largest > 2.0 ** (3 * bits // 8),
        ops.full_like(largest, 2.0 ** (-5 * bits // 8)),
        ops.ones_like(largest),
    )


def _lp_pool(x, axis, keepdims):
    scale = scale_for_squares(x, axis)
    total = ops.sum(ops.square(x * scale), axis=axis, keepdims=True)
    # The root has no finite gradient at 0, the sum of a channel that a ReLU
    # has set to zero: there, take the root of 1 and subtract 1.
    is_zero = ops.cast(ops.equal(total, 0), total.dtype)
    root = (ops.sqrt(total + is_zero) - is_zero) / scale
    return root if keepdims else ops.squeeze(root, axis)


def _avg_pool(x, axis, keepdims):
    if keras.backend.standardize_dtype(x.dtype) != "float64":
        return ops.mean(x, axis=axis, keepdims=keepdims)
    # On JAX and PyTorch, `ops.mean` of float64 computes in float32.
    axes = (axis,) if isinstance(axis, int) else axis
    size = 1
    for pooled_axis in axes:
        size = size * ops.shape(x)[pooled_axis]
    total = ops.sum(x, axis=axis, keepdims=keepdims)
    return total / ops.cast(size, "float64")


def _lse_pool(x, axis, keepdims):
    # For symbolic features, Keras 3.10 takes axes only as a sequence.
    axes = (axis,) if isinstance(axis, int) else axis
    return ops.logsumexp(x, axis=axes, keepdims=keepdims)


# The pools that `pool_types` may name.
POOLS = {
    "avg": _avg_pool,
    "max": maximum,
    "lp": _lp_pool,
    "lse": _lse_pool,
}


def pool(x, pool_type, axis, dtype, keepdims=False, mask=None):
    """Returns `x` pooled over `axis`, computed and returned in `dtype`.

    A boolean `mask`, which broadcasts to `x`, says where to pool. Where it is
    `False` all along `axis`, the result is 0. Without axes, as for vectors
    `(B, C)`, each value is pooled alone.
    """
    if axis == ():
        return pool(ops.expand_dims(x, 1), pool_type, 1, dtype)
    if mask is not None:
        x = ops.cast(x, dtype)
        # A difference of infinities has no finite gradient.
        fill = -1e38 if pool_type in ("max", "lse") else 0
        x = ops.where(mask, x, ops.cast(fill, dtype))
        count = ops.sum(ops.cast(mask, dtype), axis=axis, keepdims=keepdims)
        if pool_type == "avg":
            total = ops.sum(x, axis=axis, keepdims=keepdims)
            return total / ops.maximum(count, ops.cast(1, dtype))
        pooled = POOLS[pool_type](x, axis=axis, keepdims=keepdims)
        return ops.where(count > 0, pooled, ops.zeros_like(pooled))
    if pool_type == "max":
        # A maximum is exact in any precision: cast the small result.
        return ops.cast(maximum(x, axis, keepdims), dtype)
    return POOLS[pool_type](ops.cast(x, dtype), axis=axis, keepdims=keepdims)
