"""The formulas of the layers in plain NumPy, float64, channels last.

Written from the paper and the API, independently of the package, as the
reference of the value tests. Every function takes `x` of shape `(B, ..., C)`.
"""

import itertools

import numpy as np


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))


def relu(x):
    return np.maximum(x, 0)


def pool(x, kind, axes):
    if kind == "avg":
        return x.mean(axis=axes)
    if kind == "max":
        return x.max(axis=axes)
    if kind == "lp":
        return np.sqrt((x**2).sum(axis=axes))
    if kind == "lse":
        return np.logaddexp.reduce(x, axis=axes)
    raise ValueError(kind)


def channel_logits(x, weights, pools=("avg", "max"), activation=relu):
    """`weights`: squeeze_kernel, squeeze_bias, excite_kernel, excite_bias."""
    w1, b1, w2, b2 = weights
    axes = tuple(range(1, x.ndim - 1))
    total = 0
    for kind in pools:
        total = total + activation(pool(x, kind, axes) @ w1 + b1) @ w2 + b2
    return total.reshape(len(x), *(1,) * len(axes), -1)


def convolve(maps, kernel, dilation=1):
    """Correlates `(B, ..., M)` with `(k, ..., k, M, 1)`, zero padding."""
    rank = maps.ndim - 2
    size = kernel.shape[0]
    margin = dilation * (size - 1) // 2
    padded = np.pad(maps, [(0, 0)] + [(margin, margin)] * rank + [(0, 0)])
    result = np.zeros((*maps.shape[:-1], 1))
    for offset in itertools.product(range(size), repeat=rank):
        window = tuple(
            slice(dilation * start, dilation * start + length)
            for start, length in zip(offset, maps.shape[1:-1], strict=True)
        )
        result += padded[(slice(None), *window)] @ kernel[offset]
    return result


def spatial_logits(
    x, kernel, bias=0.0, pools=("avg", "max"), pool_kernel=None, dilation=1
):
    maps = [
        x @ pool_kernel[:, 0] if kind == "conv" else pool(x, kind, -1)
        for kind in pools
    ]
    return convolve(np.stack(maps, axis=-1), kernel, dilation) + bias


def batch_norm(x, gamma, beta, mean, variance, epsilon=1e-5):
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta
