"""Features to probe a layer with, and changes that some pools do not see."""

import numpy as np

BATCH = 4
# Axes of `(B, H, W, C)`, over which the channel and the spatial gate pool.
POSITIONS, CHANNELS = "positions", "channels"


def features(height: int, width: int, channels: int, seed: int = 0):
    """Returns random features `(B, H, W, C)` of both signs, without zeros."""
    rng = np.random.default_rng(seed)
    shape = (BATCH, height, width, channels)
    of_channel, of_position = (BATCH, 1, 1, channels), (BATCH, height, width, 1)
    # Averages and maxima differ between channels and between positions, also
    # in sign: the ReLU of a small MLP is not to be 0 for all of them.
    positive = rng.uniform(-0.7, 1.4, of_channel) > rng.random(shape)
    x = np.where(positive, 1, -1) * rng.uniform(0.5, 2, shape)
    x = x * rng.uniform(0.5, 1.5, of_channel)
    return (x * rng.uniform(0.5, 1.5, of_position)).astype("float32")


def constant(x, values):
    """Returns features with the same `(B, C)` at each position of `x`."""
    values = np.asarray(values)[:, None, None]
    return np.broadcast_to(values, x.shape).astype("float32")


def shuffled(x):
    """Returns `x` with its positions in another order."""
    rows = np.random.default_rng(1).permutation(x.shape[1])
    columns = np.random.default_rng(2).permutation(x.shape[2])
    return x[:, rows][:, :, columns]


def other_average(x, over):
    """Returns `x` with other averages and the same maxima."""
    return _changed(x, over, lambda x, low: x - low)


def other_maximum(x, over):
    """Returns `x` with other maxima and the same averages."""

    def change(x, low):
        top = x == x.max(axis=1, keepdims=True)
        fall = top.sum(axis=1, keepdims=True) / low.sum(axis=1, keepdims=True)
        return x + 2 * top - 2 * low * fall

    return _changed(x, over, change)


def other_spread(x, over):
    """Returns `x` with the same averages and maxima, but other values."""

    def change(x, low):
        count = np.cumsum(low, axis=1) * low
        even = low.sum(axis=1, keepdims=True) // 2 * 2
        paired = low * (count <= even)
        mean = x.mean(axis=1, keepdims=True)
        room = np.minimum(
            x.max(axis=1, keepdims=True) - mean,
            mean - x.min(axis=1, keepdims=True),
        )
        return x + 0.5 * room * paired * np.where(count % 2, 1, -1)

    return _changed(x, over, change)


def _changed(x, over, change):
    """Applies `change` to `(B, N, ..)` and a mask of values below average."""
    batch, height, width, channels = x.shape
    flat = x.reshape(batch, height * width, channels).astype("float64")
    if over == CHANNELS:
        flat = flat.swapaxes(1, 2)
    flat = change(flat, flat < flat.mean(axis=1, keepdims=True))
    if over == CHANNELS:
        flat = flat.swapaxes(1, 2)
    return flat.reshape(x.shape).astype("float32")
