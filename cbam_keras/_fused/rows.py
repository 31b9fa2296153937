"""The convolution of the spatial gate, each row of the result by one product.

The `k` rows of all maps that a row of the result depends on, one after the
other, are multiplied by a matrix that holds the kernel in bands. PyTorch does
the same in `torch_passes`, by fewer operations.
"""

from keras import ops


def convolve_by_rows(maps, kernel, dilation_rate):
    _, height, width, count = maps.shape
    size = kernel.shape[0]
    margin = size // 2 * dilation_rate
    rows = ops.pad(
        ops.swapaxes(maps, 2, 3), ((0, 0), (margin, margin), (0, 0), (0, 0))
    )
    starts = range(0, 2 * margin + 1, dilation_rate)
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
