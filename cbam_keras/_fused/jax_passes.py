"""JAX's implementation of the passes that `contract.Passes` describes.

XLA fuses products into the sum or maximum that is taken of them, so that only
the small results are written. Measured on two cores at (16, 56, 56, 256),
forward and backward: 76 ms, and 109 ms if the gradient of a maximum is split
among equal elements, which have to be counted.
"""

import jax
from jax import numpy as jnp

from cbam_keras._fused import rows
from cbam_keras._fused.contract import COMPILED_ROWS, Pooled, factors


def supports(x):
    return True


def needs_gradient(x, weights, training):
    # Outside of transformations there is no gradient to take, and a custom
    # one would be traced at each call.
    return training is not False and any(
        isinstance(value, jax.core.Tracer) for value in (x, *weights)
    )


def fuses_inference():
    # XLA does as well with the formula.
    return False


def widest_rows(maps):
    compiles = isinstance(maps, jax.core.Tracer)
    return COMPILED_ROWS if _on_cpu() and compiles else 0


def convolve_by_rows(maps, kernel, dilation_rate):
    return rows.convolve_by_rows(maps, kernel, dilation_rate)


def reshape(x, shape):
    return jnp.reshape(x, shape)


def cast(x, dtype):
    return x.astype(dtype)


def custom_vjp(forward, backward, formula, arguments):
    @jax.custom_vjp
    def call(x, *weights):
        return forward(x, *weights, with_argmax=False)[0]

    def call_forward(x, *weights):
        outputs, residuals = forward(x, *weights)
        return outputs, (x, residuals)

    def call_backward(residuals, cotangents):
        return backward(cotangents[0], *residuals)

    call.defvjp(call_forward, call_backward)
    return call(*arguments)


def vjp(function, values, weights):
    gate_map, map_vjp, state = jax.vjp(
        function, list(values), list(weights), has_aux=True
    )
    return gate_map, state, map_vjp


def pool(x, gate_map, axis, pool_types, split, dtype, with_argmax):
    product = x if gate_map is None else x * gate_map
    total = maximum = argmax = None
    if "avg" in pool_types:
        if axis == 2 and gate_map is not None and _sums_by_matmul(x):
            total = jnp.matmul(x, jnp.swapaxes(gate_map, 1, 2))
        else:
            total = jnp.sum(product.astype(dtype), axis, keepdims=True)
    if "max" in pool_types:
        if not with_argmax:
            maximum = jnp.max(product, axis, keepdims=True)
        elif axis == 1:
            maximum, argmax = _max_over_axis_1(product, split)
        else:
            maximum, argmax = _max_over_axis_2(x, gate_map, product)
        maximum = maximum.astype(dtype)
    return Pooled(total, maximum, argmax, product)


def scale(product, gate_map, x):
    return product * gate_map


class Backward:
    def __init__(self, dy, x, split):
        self.dy, self.x = dy, x

    def dmap2(self, map1, axis):
        if not _on_cpu():
            return _sum_of_product(self.dy * map1, self.x, axis)
        # As a product of matrices. XLA would expand `map1` to the shape of
        # `x` for a product of elements, and keep that from the forward pass
        # on: one more copy of the features for each layer.
        product = _exact(self.dy) * _exact(self.x)
        map1 = jnp.swapaxes(_exact(map1), 1, 2)
        both = (product, map1) if axis == 2 else (map1, product)
        return jnp.matmul(*both).astype(self.x.dtype)

    def dmap1(self, map2, to_dp, axis):
        return _sum_of_product(self._dp(map2, to_dp), self.x, axis)

    def dx(self, map1, map2, to_dp, to_dx):
        # XLA decides whether to compute `dp` again.
        return _pools_vjp(self._dp(map2, to_dp) * map1, to_dx)

    def _dp(self, map2, to_dp):
        dp = self.dy if map2 is None else self.dy * map2
        return _pools_vjp(dp, to_dp)


def _pools_vjp(x, cotangents):
    """Adds the cotangents of pools to `x`."""
    for pools in cotangents:
        if pools.sum is not None:
            x = x + pools.sum
        if pools.max is not None:
            index = jnp.arange(x.shape[pools.axis])
            index = index.reshape((-1, 1)[: 3 - pools.axis])
            x = x + jnp.where(index == pools.argmax, pools.max, 0)
    return x


def _sum_of_product(x, y, axis):
    """Returns the sum over an axis of `x * y`."""
    exact = jnp.promote_types(x.dtype, jnp.float32)
    if _on_cpu():
        # `sum` takes up to three times as long. Other devices round what
        # `einsum` multiplies.
        kept = "bm" if axis == 2 else "bn"
        total = jnp.einsum(
            f"bmn,bmn->{kept}", x, y, preferred_element_type=exact
        )
        total = jnp.expand_dims(total, axis)
    else:
        total = jnp.sum(x * y, axis, exact, keepdims=True)
    return total.astype(x.dtype)


def _exact(x):
    """Returns `x` in float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _sums_by_matmul(x):
    """Whether a product of matrices is computed as precisely as a sum."""
    return _on_cpu() and x.dtype.itemsize >= 4


def _on_cpu():
    return jax.default_backend() == "cpu"


def _max_over_axis_1(x, split):
    """Returns maximum and argmax."""
    x = x.reshape(x.shape[0], *split, x.shape[2])
    row_max = jnp.max(x, 2)
    maximum = jnp.max(row_max, 1, keepdims=True)
    row = _first_true(row_max == maximum, 1)
    found = jnp.take_along_axis(x, row[:, :, None], 1)[:, 0]
    column = _first_true(found == maximum, 1)
    return maximum, row * split[1] + column


def _max_over_axis_2(x, gate_map, product):
    """Returns maximum and argmax of `product`, which is `x * gate_map`."""
    batch, height, size = x.shape
    lanes, steps = factors(size)
    lane_max = jnp.max(product.reshape(batch, height, steps, lanes), 2)
    maximum = jnp.max(lane_max, 2, keepdims=True)
    lane = _first_true(lane_max == maximum, 2)
    # The elements of that lane, from `x`: then `product` is never written.
    index = jnp.arange(steps) * lanes + lane
    found = jnp.take_along_axis(x, index, 2)
    if gate_map is not None:
        flat = index.reshape(batch, 1, height * steps)
        gate_map = jnp.take_along_axis(gate_map, flat, 2)
        found = found * gate_map.reshape(index.shape)
    return maximum, _first_true(found == maximum, 2) * lanes + lane


def _first_true(found, axis):
    """Returns the position along an axis of the first `True`.

    Faster than `argmax`, which XLA does not vectorize.
    """
    size = found.shape[axis]
    order = jnp.arange(size, 0, -1, dtype="float32")
    order = order.reshape((-1,) + (1,) * (found.ndim - 1 - axis))
    # At least 1, as nothing is equal to NaN.
    last = jnp.max(jnp.where(found, order, 1), axis, keepdims=True)
    return size - last.astype("int32")
