"""The convolution of the spatial gate, in the form that is fast.

It turns two maps into one. What compiles, XLA or PyTorch's, computes that and
its gradients badly on a CPU: at (64, 24, 24), forward and backward, JAX takes
32 ms, and 1.6 ms for the same by products of matrices.
"""

from keras import ops

from cbam_keras._fused import decorator

# The work for a position grows with the width. At 112 positions, the products
# still take half as long.
_WIDEST = 128


def convolve(maps, kernel, dilation_rate):
    """Returns the convolution of maps to one map, with "same" padding.

    Args:
        maps: Tensor `(B, .., M)` with one to three spatial axes.
        kernel: Tensor `(k, .., M, 1)`.
        dilation_rate: Positive integer.

    Returns:
        Tensor `(B, .., 1)`.
    """
    passes = decorator.backend_passes()
    if (
        passes is not None
        and passes.is_compiled_for_cpu(maps)
        and len(maps.shape) == 4
        and all(isinstance(size, int) for size in maps.shape[1:])
        and maps.shape[2] <= _WIDEST
    ):
        return _by_rows(maps, kernel, dilation_rate)
    return ops.conv(
        maps,
        kernel,
        padding="same",
        data_format="channels_last",
        dilation_rate=dilation_rate,
    )


def _by_rows(maps, kernel, dilation_rate):
    """Returns the convolution, each row of the result by one product.

    The `k` rows of all maps that a row of the result depends on, one after
    the other, are multiplied by a matrix that holds the kernel in bands.
    """
    _, height, width, count = maps.shape
    size = kernel.shape[0]
    margin = size // 2 * dilation_rate
    rows = ops.swapaxes(maps, 2, 3)
    # PyTorch would compile `ops.pad` again for each call.
    edge = (ops.shape(maps)[0], margin, count, width)
    edge = ops.zeros(edge, maps.dtype)
    rows = ops.concatenate([edge, rows, edge], axis=1)
    starts = range(0, size * dilation_rate, dilation_rate)
    rows = ops.concatenate([rows[:, y : y + height] for y in starts], axis=2)
    rows = ops.reshape(rows, (-1, size * count * width))
    # Where column `i` of a row, times the kernel at `j`, adds to column `o`.
    column = ops.arange(width, dtype="int32")
    offset = ops.arange(size, dtype="int32") * dilation_rate - margin
    band = column[:, None] == column + offset[:, None, None]
    band = ops.reshape(ops.cast(band, kernel.dtype), (size, width * width))
    kernel = ops.reshape(ops.swapaxes(kernel[..., 0], 1, 2), (-1, size))
    bands = ops.reshape(kernel @ band, (size * count * width, width))
    return ops.reshape(rows @ bands, (-1, height, width, 1))
