"""The passes of `_fused` on JAX.

XLA fuses what is multiplied into the sum or maximum of it, so that nothing but
the outputs is written. Measured on two cores at (16, 56, 56, 256), forward and
backward: 76 ms, and 109 ms if the gradient of a maximum is shared among equal
ones, which have to be counted.
"""

import jax
from jax import numpy as jnp

from cbam_keras._fused.records import Pooled, halves

# XLA does as well with single operations, where there is no gradient.
FORWARD_PAYS = False


def can_take(x):
    return True


def expects_gradient(x, weights, training):
    # Outside of transformations there is nothing to differentiate by, and
    # a gradient of our own would be traced at each call.
    return training is not False and any(
        isinstance(value, jax.core.Tracer) for value in (x, *weights)
    )


def reshape(x, shape):
    return jnp.reshape(x, shape)


def cast(x, dtype):
    return x.astype(dtype)


def with_gradient(forward, backward, plain, arguments):
    @jax.custom_vjp
    def call(x, *weights):
        return forward(x, *weights, locate=False)[0]

    def call_with_records(x, *weights):
        outputs, records = forward(x, *weights)
        return outputs, (x, records)

    def back(kept, slopes):
        return backward(slopes[0], *kept)

    call.defvjp(call_with_records, back)
    return call(*arguments)


def pull(function, values, weights):
    gate_map, back, state = jax.vjp(
        function, list(values), list(weights), has_aux=True
    )
    return gate_map, state, back


def pool(x, gate_map, axis, pool_types, rows, dtype, locate):
    product = x if gate_map is None else x * gate_map
    total = peak = place = None
    if "avg" in pool_types:
        if axis == 2 and gate_map is not None and _is_exact(x):
            total = jnp.matmul(x, jnp.swapaxes(gate_map, 1, 2))
        else:
            total = jnp.sum(product.astype(dtype), axis, keepdims=True)
    if "max" in pool_types:
        if not locate:
            peak = jnp.max(product, axis, keepdims=True)
        elif axis == 1:
            peak, place = _column_peak(product, rows)
        else:
            peak, place = _row_peak(x, gate_map, product)
        peak = peak.astype(dtype)
    return Pooled(total, peak, place, product)


def scale(product, gate_map, x):
    return product * gate_map


class Slopes:
    def __init__(self, dy, x, rows):
        self.dy, self.x = dy, x

    def of_second(self, first, axis):
        return self._contracted(self.dy * first, axis)

    def of_first(self, second, inside, axis):
        return self._contracted(self._inner(second, inside), axis)

    def of_input(self, first, second, inside, outside):
        return _spread(self._inner(second, inside) * first, outside)

    def _inner(self, second, inside):
        dy = self.dy if second is None else self.dy * second
        return _spread(dy, inside)

    def _contracted(self, dx, axis):
        exact = jnp.promote_types(dx.dtype, jnp.float32)
        if _on_cpu():
            # `sum` takes up to three times as long. Other devices round what
            # `einsum` multiplies.
            kept = "bm" if axis == 2 else "bn"
            slope = jnp.einsum(
                f"bmn,bmn->{kept}", dx, self.x, preferred_element_type=exact
            )
            slope = jnp.expand_dims(slope, axis)
        else:
            slope = jnp.sum(dx * self.x, axis, exact, keepdims=True)
        return slope.astype(dx.dtype)


def _is_exact(x):
    """Whether a product of matrices is computed as precisely as a sum."""
    return _on_cpu() and x.dtype.itemsize >= 4


def _on_cpu():
    return jax.default_backend() == "cpu"


def _spread(x, spreads):
    for spread in spreads:
        if spread.near is not None:
            x = x + spread.near
        if spread.top is not None:
            size = x.shape[spread.axis]
            index = jnp.arange(size).reshape((-1, 1)[: 3 - spread.axis])
            x = x + jnp.where(index == spread.place, spread.top, 0)
    return x


def _column_peak(x, rows):
    """Returns the maximum over axis 1 and where it is."""
    x = x.reshape(x.shape[0], *rows, x.shape[2])
    peaks = jnp.max(x, 2)
    peak = jnp.max(peaks, 1, keepdims=True)
    row = _first(peaks == peak, 1)
    found = jnp.take_along_axis(x, row[:, :, None], 1)[:, 0]
    return peak, row * rows[1] + _first(found == peak, 1)


def _row_peak(x, gate_map, product):
    """Returns the maximum over axis 2 and where it is."""
    batch, height, size = x.shape
    lanes, steps = halves(size)
    peaks = jnp.max(product.reshape(batch, height, steps, lanes), 2)
    peak = jnp.max(peaks, 2, keepdims=True)
    lane = _first(peaks == peak, 2)
    places = jnp.arange(steps) * lanes + lane
    found = jnp.take_along_axis(x, places, 2)
    if gate_map is not None:
        flat = places.reshape(batch, 1, height * steps)
        gate_map = jnp.take_along_axis(gate_map, flat, 2)
        found = found * gate_map.reshape(places.shape)
    return peak, _first(found == peak, 2) * lanes + lane


def _first(found, axis):
    """Returns where along an axis the first `True` is.

    Faster than `argmax`, which XLA does not vectorize.
    """
    size = found.shape[axis]
    order = jnp.arange(size, 0, -1, dtype="float32")
    order = order.reshape((-1,) + (1,) * (found.ndim - 1 - axis))
    # At least 1, as nothing is equal to NaN.
    last = jnp.max(jnp.where(found, order, 1), axis, keepdims=True)
    return size - last.astype("int32")
