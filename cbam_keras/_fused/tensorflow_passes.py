"""The passes of `_fused` on TensorFlow.

Ready-made operations are the fastest for pooling and scaling. The last pass,
the gradient of the input, would take eight of them; compiled by XLA inside a
graph that is otherwise not compiled, it takes as long as one copy. Measured
on two cores at (16, 56, 56, 256): 58 ms in place of 86 ms for forward and
backward. Where all is compiled by XLA, sums are products of matrices and
maxima are taken by halves, as XLA does not vectorize sums and maxima of
products.
"""

import functools
import sys

import tensorflow as tf
from tensorflow.python.eager import record
from tensorflow.python.ops import (
    control_flow_util,
    control_flow_v2_func_graphs,
)

from cbam_keras._fused.records import Pooled

_LANES = 16


FORWARD_PAYS = True


def can_take(x):
    return isinstance(x, tf.Tensor)


def expects_gradient(x, weights, training):
    if training is False or _is_in_branch():
        return False
    # Whoever exports a model calls it without saying what for.
    return bool(training) or record.could_possibly_record()


def reshape(x, shape):
    return tf.reshape(x, shape)


def cast(x, dtype):
    return tf.cast(x, dtype)


def with_gradient(forward, backward, plain, arguments):
    @tf.custom_gradient
    def call(x, *weights):
        outputs, records = forward(x, *weights)
        return outputs, lambda dy, *_: backward(dy, x, records)

    return call(*(tf.convert_to_tensor(argument) for argument in arguments))


def pull(function, values, weights):
    # Persistent, as the gradient may be asked for several times.
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([values, weights])
        gate_map, state = function(values, weights)

    def back(slope):
        return tape.gradient(
            gate_map,
            [list(values), list(weights)],
            slope,
            unconnected_gradients="zero",
        )

    return gate_map, state, back


def pool(x, gate_map, axis, pool_types, rows, dtype, locate):
    product = x if gate_map is None else x * gate_map
    total = peak = place = None
    if "avg" in pool_types:
        if product.dtype.size < 4 or not _on_cpu():
            exact = tf.cast(product, dtype)
            total = tf.reduce_sum(exact, axis, keepdims=True)
        elif gate_map is not None and _is_compiled():
            total = _contracted(x, gate_map, axis, rows)
        else:
            total = _total(product, axis, rows)
    if "max" in pool_types:
        if axis == 1:
            peak, place = _column_peak(product, rows, locate)
        elif _is_compiled() and product.shape[2] is not None:
            peak, place = _row_peak(x, gate_map, product, locate)
        else:
            peak = tf.reduce_max(product, 2, keepdims=True)
            place = _row_place(product, peak) if locate else None
        peak = tf.cast(peak, dtype)
    return Pooled(total, peak, place, product)


def scale(product, gate_map, x):
    return product * gate_map


class Slopes:
    def __init__(self, dy, x, rows):
        self.dy, self.x, self.rows = dy, x, rows
        self.product = dy * x

    def of_second(self, first, axis):
        return _contracted(self.product, first, axis, self.rows)

    def of_first(self, second, inside, axis):
        if not _on_cpu():
            # One pass, and sums in a fixed order.
            dx = _call(_inner_slope, self.dy, second, inside)
            return _contracted(dx * self.x, None, axis, self.rows)
        slope = _contracted(self.product, second, axis, self.rows)
        for spread in inside:
            if spread.near is not None:
                slope += _contracted(self.x, spread.near, axis, self.rows)
            if spread.top is not None:
                slope += _at_places(self.x, spread)
        return slope

    def of_input(self, first, second, inside, outside):
        return _call(_input_slope, self.dy, first, second, inside, outside)


def _inner_slope(dy, second, inside):
    return _spread(dy if second is None else dy * second, inside)


def _input_slope(dy, first, second, inside, outside):
    return _spread(_inner_slope(dy, second, inside) * first, outside)


def _spread(x, spreads):
    for axis, near, top, place in spreads:
        if near is not None:
            x += near
        if top is not None:
            index = tf.range(tf.shape(x)[axis])
            index = index if axis == 2 else index[:, None]
            x += tf.where(index == place, top, tf.zeros((), top.dtype))
    return x


def _total(x, axis, rows):
    if axis == 2 or _is_compiled():
        return tf.reduce_sum(x, axis, keepdims=True)
    # Up to four times as fast as over axis 1 at once.
    x = tf.reduce_sum(_by_rows(x, rows), 2)
    return tf.reduce_sum(x, 1, keepdims=True)


def _by_rows(x, rows):
    return tf.reshape(x, (-1, *rows, x.shape[2] or tf.shape(x)[2]))


def _contracted(x, gate_map, axis, rows):
    """Returns the sum over an axis of `x * gate_map`."""
    if x.dtype.size < 4 or not _on_cpu():
        product = x if gate_map is None else x * gate_map
        exact = tf.cast(product, tf.float32) if x.dtype.size < 4 else product
        return tf.cast(tf.reduce_sum(exact, axis, keepdims=True), x.dtype)
    if gate_map is None:
        return _total(x, axis, rows)
    if axis == 2:
        return tf.matmul(x, gate_map, transpose_b=True)
    # By rows: for one image, XLA takes ten times as long otherwise.
    gate_map = tf.reshape(gate_map, (-1, rows[0], 1, rows[1]))
    return tf.reduce_sum(tf.matmul(gate_map, _by_rows(x, rows)), 1)


def _at_places(x, spread):
    """Returns the sum over the other axis of `x` where `spread.top` goes."""
    batch, height, width = (tf.shape(x)[i] for i in range(3))
    place = tf.squeeze(spread.place, spread.axis)
    if spread.axis == 2:
        index = tf.range(height) * width + place
        size, shape = width, (-1, 1, width)
    else:
        index = place * width + tf.range(width)
        size, shape = height, (-1, height, 1)
    found = _gathered(x, index) * tf.squeeze(spread.top, spread.axis)
    image = tf.range(batch)[:, None] * size
    total = tf.math.unsorted_segment_sum(found, image + place, batch * size)
    return tf.reshape(total, shape)


def _gathered(x, index):
    """Returns the elements of each image at flat indices."""
    return tf.gather(
        tf.reshape(x, (tf.shape(x)[0], -1)), index, axis=1, batch_dims=1
    )


def _column_peak(x, rows, locate):
    """Returns the maximum over axis 1, and where it is."""
    x = _by_rows(x, rows)
    peaks = tf.reduce_max(x, 2)
    peak = tf.reduce_max(peaks, 1, keepdims=True)
    return peak, _call(_column_place, x, peaks, peak) if locate else None


def _column_place(x, peaks, peak):
    width, size = tf.shape(x)[2], tf.shape(x)[3]
    row = _first(peaks == peak)
    index = (row * width + tf.range(width)[:, None]) * size + tf.range(size)
    return row * width + _first(_gathered(x, index) == peak)


def _row_peak(x, gate_map, product, locate):
    """Returns the maximum over axis 2, and where it is, for XLA."""
    size = product.shape[2]
    peaks = _lanes(product)
    peak = tf.reduce_max(peaks, 2, keepdims=True)
    if not locate:
        return peak, None
    lanes = peaks.shape[2]
    lane = tf.argmax(peaks, 2, tf.int32)[..., None]
    places = tf.range(0, size, lanes) + lane
    found = tf.gather(x, places, batch_dims=2)
    if gate_map is not None:
        found *= tf.gather(gate_map[:, 0], places, batch_dims=1)
    step = tf.argmax(found, 2, tf.int32)[..., None]
    return peak, step * lanes + lane


def _lanes(x):
    """Returns maxima over axis 2 by halves, which XLA vectorizes."""
    while x.shape[2] > _LANES and x.shape[2] % 2 == 0:
        half = x.shape[2] // 2
        x = tf.maximum(x[..., :half], x[..., half:])
    return x


def _row_place(product, peak):
    if tf.executing_eagerly() or product.shape[2] is None or not _has_xla():
        return tf.argmax(product, 2, tf.int32)[..., None]
    # With `argmax`, forward and backward take 2 to 10 % longer.
    return _compiled(_first_in_row)(product, peak)


def _first_in_row(product, peak):
    size = product.shape[2]
    order = tf.cast(tf.range(size, 0, -1), tf.float32)
    last = _lanes(tf.where(product == peak, order, 1.0))
    return size - tf.cast(tf.reduce_max(last, 2, keepdims=True), tf.int32)


def _first(found):
    """Returns where along axis 1 the first `True` is.

    Four times as fast as `argmax` outside XLA.
    """
    size = tf.shape(found)[1]
    order = tf.cast(tf.range(size, 0, -1), tf.float32)[:, None]
    # At least 1, as nothing is equal to NaN.
    last = tf.reduce_max(tf.where(found, order, 1.0), 1, keepdims=True)
    return size - tf.cast(last, tf.int32)


def _call(function, *arguments):
    """Calls a function, compiled by XLA if nothing around it is."""
    if tf.executing_eagerly() or _is_compiled() or not _has_xla():
        return function(*arguments)
    return _compiled(function)(*arguments)


@functools.cache
def _compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


def _is_compiled():
    return control_flow_util.GraphOrParentsInXlaContext(
        tf.compat.v1.get_default_graph()
    )


def _is_in_branch():
    """Whether this is traced as a branch of `tf.cond`.

    A branch does not hand on what a gradient of our own needs of it.
    """
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if isinstance(graph, control_flow_v2_func_graphs.CondBranchFuncGraph):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


@functools.cache
def _on_cpu():
    # Other devices sum fast what is fused, and round what matrix products
    # multiply.
    return {
        device.device_type for device in tf.config.list_physical_devices()
    } <= {"CPU", "XLA_CPU"}


@functools.cache
def _has_xla():
    return sys.platform == "linux" and (
        _on_cpu() or tf.test.is_built_with_gpu_support()
    )
