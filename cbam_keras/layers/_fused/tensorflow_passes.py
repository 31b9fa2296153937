"""TensorFlow's implementation of the passes that `contract` describes.

Single operations are the fastest for pooling over axis 1 and for scaling. The
other passes would take several of them. Each is compiled by XLA inside a graph
that is otherwise not compiled: the last one, the gradient of the input, then
takes as long as one copy. In XLA, sums are products of matrices and maxima are
taken by halves, as it does not vectorize sums and maxima of products.
"""

import functools
import sys

import tensorflow as tf
from keras import ops

from cbam_keras.layers._fused import contract, private, rows
from cbam_keras.layers._fused.contract import PoolCotangents, Pooled, factors

# Maxima by halves end at this width, that of a vector register of floats.
_LANES = 16

reshape = tf.reshape
cast = tf.cast


def supports(x):
    if not isinstance(x, tf.Tensor):
        return False
    return tf.executing_eagerly() or not contract.is_small(x)


def needs_gradient(x, weights, training):
    # A branch of `tf.cond` does not pass on what a custom gradient needs.
    if training is False or private.is_branch(_graph()):
        return False
    # Exports call a model without saying whether it trains.
    return bool(training) or private.tape_may_record()


def fuses_inference():
    # In other graphs, as those of exports, the formula has half the nodes.
    return tf.executing_eagerly() or _in_xla() or _keras_predicts()


def convolve(maps, kernel, dilation_rate):
    if maps.shape[0] == 0:
        # The convolution of nothing, on a CPU, has the shape of its input.
        return maps @ kernel[(0,) * (len(maps.shape) - 2)]
    if _in_xla() and _on_cpu() and rows.can_convolve(maps):
        return rows.convolve_by_rows(maps, kernel, dilation_rate)
    return rows.convolve(maps, kernel, dilation_rate)


def maximum(x, axis, keepdims):
    if not _in_xla():
        return tf.reduce_max(x, axis, keepdims=keepdims)

    @tf.custom_gradient
    def call(x):
        def vjp(dy):
            shape = contract.pooled_as_one(ops.shape(x), axis)
            argmax = tf.argmax(tf.reshape(x, shape), 1, tf.int32)[:, None]
            dy = tf.reshape(dy, (shape[0], 1, shape[2]))
            pools = [PoolCotangents(1, None, dy, argmax)]
            dx = _pools_vjp(tf.zeros(shape, x.dtype), pools)
            return tf.reshape(dx, tf.shape(x))

        return tf.reduce_max(x, axis, keepdims=keepdims), vjp

    return call(x)


def custom_vjp(forward, backward, formula, arguments):
    @tf.custom_gradient
    def call(x, *weights):
        outputs, residuals = forward(x, *weights)
        return outputs, lambda dy, *_: backward(dy, x, residuals)

    return call(*(tf.convert_to_tensor(argument) for argument in arguments))


def vjp(function, values, weights):
    # The gradient may be taken several times.
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([values, weights])
        gate_map, state = function(values, weights)

    def map_vjp(dmap):
        return tape.gradient(
            gate_map,
            [list(values), list(weights)],
            dmap,
            unconnected_gradients="zero",
        )

    return gate_map, state, map_vjp


def pool(x, gate_map, axis, pool_types, dtype, with_argmax):
    arguments = (x, gate_map, axis, tuple(pool_types), dtype, with_argmax)
    # The other axis, or the maximum alone, takes longer in XLA.
    if axis == 1 or not with_argmax or not _on_cpu() or x.shape[2] is None:
        return _pool(*arguments)
    pooled = _compiled_call(_pool, *arguments)
    return pooled._replace(product=x) if gate_map is None else pooled


def _pool(x, gate_map, axis, pool_types, dtype, with_argmax):
    product = x if gate_map is None else x * gate_map
    total = maximum = argmax = None
    if "avg" in pool_types:
        if product.dtype.size < 4 or not _on_cpu():
            exact = tf.cast(product, dtype)
            total = tf.reduce_sum(exact, axis, keepdims=True)
        elif gate_map is not None and _in_xla():
            total = _weighted_sum(x, gate_map, axis)
        else:
            total = _sum(product, axis)
    if "max" in pool_types:
        if axis == 1:
            maximum, argmax = _max_over_axis_1(product, with_argmax)
        elif _in_xla() and product.shape[2] is not None:
            maximum, argmax = _max_over_axis_2_in_xla(
                x, gate_map, product, with_argmax
            )
        else:
            maximum = tf.reduce_max(product, 2, keepdims=True)
            if with_argmax:
                argmax = tf.argmax(product, 2, tf.int32)[..., None]
        maximum = tf.cast(maximum, dtype)
    return Pooled(total, maximum, argmax, product)


def scale(product, gate_map, x):
    return product * gate_map


class Backward:
    """The passes of the gradient, each a function that XLA may compile."""

    def __init__(self, dy, x):
        self.dy = dy
        self.x = x

    def dmap2(self, map1, axis):
        return _compiled_call(_dmap2, self.dy, self.x, map1, axis)

    def dmap1(self, map2, to_dp, axis):
        return _compiled_call(_dmap1, self.dy, self.x, map2, tuple(to_dp), axis)

    def dx(self, map1, map2, to_dp, to_dx):
        return _compiled_call(
            _dx, self.dy, map1, map2, tuple(to_dp), tuple(to_dx)
        )


def _dmap2(dy, x, map1, axis):
    return _weighted_sum(dy * x, map1, axis)


def _dmap1(dy, x, map2, to_dp, axis):
    return _weighted_sum(_dp(dy, map2, to_dp) * x, None, axis)


def _dp(dy, map2, to_dp):
    return _pools_vjp(dy if map2 is None else dy * map2, to_dp)


def _dx(dy, map1, map2, to_dp, to_dx):
    return _pools_vjp(_dp(dy, map2, to_dp) * map1, to_dx)


def _pools_vjp(x, cotangents):
    """Adds the cotangents of pools to `x`."""
    for pools in cotangents:
        if pools.sum is not None:
            x += pools.sum
        if pools.max is not None:
            index = tf.range(tf.shape(x)[pools.axis])
            index = index if pools.axis == 2 else index[:, None]
            zero = tf.zeros((), x.dtype)
            x += tf.where(index == pools.argmax, pools.max, zero)
    return x


def _sum(x, axis):
    if axis == 2 or _in_xla():
        return tf.reduce_sum(x, axis, keepdims=True)
    return tf.reduce_sum(tf.reduce_sum(_split_axis_1(x), 2), 1, keepdims=True)


def _split_axis_1(x):
    """Returns `x` as `(B, height, width, N)`: two steps pool it faster."""
    size = x.shape[1] or tf.shape(x)[1]
    last = x.shape[2] or tf.shape(x)[2]
    if isinstance(size, int):
        height, width = factors(size)
    else:
        height, width = 1, size
    return tf.reshape(x, (-1, height, width, last))


def _weighted_sum(x, gate_map, axis):
    """Returns the sum over an axis of `x`, or of `x * gate_map`."""
    if x.dtype.size < 4 or not _on_cpu():
        product = x if gate_map is None else x * gate_map
        exact = tf.cast(product, tf.float32) if x.dtype.size < 4 else product
        return tf.cast(tf.reduce_sum(exact, axis, keepdims=True), x.dtype)
    if gate_map is None:
        return _sum(x, axis)
    if axis == 2:
        return tf.matmul(x, gate_map, transpose_b=True)
    # XLA takes ten times as long for one image if the axis is not split.
    x = _split_axis_1(x)
    gate_map = tf.reshape(gate_map, (-1, tf.shape(x)[1], 1, tf.shape(x)[2]))
    return tf.reduce_sum(tf.matmul(gate_map, x), 1)


def _max_over_axis_1(x, with_argmax):
    """Returns maximum and argmax."""
    x = _split_axis_1(x)
    row_max = tf.reduce_max(x, 2)
    maximum = tf.reduce_max(row_max, 1, keepdims=True)
    if not with_argmax:
        return maximum, None
    return maximum, _compiled_call(_argmax_of_axis_1, x, row_max, maximum)


def _argmax_of_axis_1(x, row_max, maximum):
    width = tf.shape(x)[2]
    size = tf.shape(x)[3]
    row = _first(row_max == maximum)
    index = (row * width + tf.range(width)[:, None]) * size + tf.range(size)
    flat = tf.reshape(x, (tf.shape(x)[0], -1))
    values = tf.gather(flat, index, axis=1, batch_dims=1)
    return row * width + _first(values == maximum)


def _first(condition):
    """Returns the position along axis 1 of the first `True`."""
    return tf.argmax(tf.cast(condition, tf.int8), 1, tf.int32)[:, None]


def _max_over_axis_2_in_xla(x, gate_map, product, with_argmax):
    """Returns maximum and argmax of `product`, which is `x * gate_map`."""
    size = product.shape[2]
    lane_max = _max_by_halves(product)
    maximum = tf.reduce_max(lane_max, 2, keepdims=True)
    if not with_argmax:
        return maximum, None
    lanes = lane_max.shape[2]
    lane = tf.argmax(lane_max, 2, tf.int32)[..., None]
    # The elements of that lane come from `x`: `product` is never written.
    index = tf.range(0, size, lanes) + lane
    candidates = tf.gather(x, index, batch_dims=2)
    if gate_map is not None:
        candidates *= tf.gather(gate_map[:, 0], index, batch_dims=1)
    step = tf.argmax(candidates, 2, tf.int32)[..., None]
    return maximum, step * lanes + lane


def _max_by_halves(x):
    """Returns maxima over parts of axis 2, which XLA vectorizes."""
    while x.shape[2] > _LANES and x.shape[2] % 2 == 0:
        half = x.shape[2] // 2
        x = tf.maximum(x[..., :half], x[..., half:])
    return x


def _compiled_call(function, *arguments):
    """Calls a function, compiled by XLA if nothing around it is."""
    if tf.executing_eagerly() or _in_xla() or not _has_xla():
        return function(*arguments)
    # Outside of the graph, so that all graphs share it and it keeps none alive.
    with tf.init_scope():
        signature = tf.nest.map_structure(_signature, arguments)
        compiled = _compiled(function, signature)
    return compiled(*arguments)


@functools.cache
def _compiled(function, signature):
    # One function for all signatures would take one that was traced for
    # unknown sizes where sizes are known.
    compiled = tf.function(function, jit_compile=True, autograph=False)
    return compiled.get_concrete_function(*signature)


def _signature(value):
    is_tensor = tf.is_tensor(value)
    return tf.TensorSpec(value.shape, value.dtype) if is_tensor else value


def _keras_predicts():
    """Whether this graph is a step of Keras' `predict` or `evaluate`.

    If Keras renames its steps, predictions take the formula.
    """
    return any(
        getattr(graph, "name", "").startswith("one_step_on_data")
        for graph in private.with_outer_graphs(_graph())
    )


def _in_xla():
    return private.xla_compiles(_graph())


def _graph():
    return tf.compat.v1.get_default_graph()


@functools.cache
def _on_cpu():
    # Other devices sum quickly what is fused, and round what matrix products
    # multiply.
    device_types = {
        device.device_type for device in tf.config.list_physical_devices()
    }
    return device_types <= {"CPU", "XLA_CPU"}


@functools.cache
def _has_xla():
    return sys.platform == "linux" and (
        _on_cpu() or tf.test.is_built_with_gpu_support()
    )
