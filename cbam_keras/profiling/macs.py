"""Multiply-accumulates of one call of a layer."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from cbam_keras import _inspection
from cbam_keras.layers import (
    CBAM,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
)


# In the functions below, `x` and `y` are the shapes of input and output for a
# batch of one, with NaN for unknown sizes. The batch axis counts: a model may
# fold other axes into it, e.g. windows.
def _convolution(layer, x, y):
    channels = x[_channel_axis(layer, len(x))] // layer.groups
    return math.prod(layer.kernel_size) * channels * math.prod(y)


def _transposed_convolution(layer, x, y):
    # Each input position is multiplied by the whole kernel once.
    return math.prod(layer.kernel_size) * math.prod(x) * layer.filters


def _depthwise(layer, x, y):
    return math.prod(layer.kernel_size) * math.prod(y)


def _separable(layer, x, y):
    axis = _channel_axis(layer, len(x))
    between = x[axis] * layer.depth_multiplier
    positions = math.prod(y) // y[axis]
    return positions * between * (math.prod(layer.kernel_size) + layer.filters)


def _dense(layer, x, y):
    return x[-1] * math.prod(y)


def _einsum_dense(layer, x, y):
    # One multiplication for each value of all indices of the equation, which
    # are in the input or in the kernel.
    given, kernel = layer.equation.split("->")[0].split(",")
    sizes = dict(zip(kernel, layer.kernel.shape, strict=True))
    head, dots, tail = given.partition("...")
    sizes.update(zip(head, x, strict=False))
    if dots:
        sizes[dots] = math.prod(x[len(head) : len(x) - len(tail)])
        sizes.update(zip(reversed(tail), reversed(x), strict=False))
    return math.prod(sizes.values())


def _mlp(layer, x, y):
    channels = x[_channel_axis(layer, len(x))]
    hidden = layer.squeeze_kernel.shape[1]
    return x[0] * len(layer.pool_types) * 2 * channels * hidden


def _spatial_gate(layer, x, y):
    channels = x[_channel_axis(layer, len(x))]
    positions = math.prod(x) // channels
    kernel = layer.kernel_size ** (len(x) - 2) * len(layer.pool_types)
    if "conv" in layer.pool_types:
        kernel += channels
    return positions * kernel


def _cbam(layer, x, y):
    channel, spatial = layer.channel_attention, layer.spatial_attention
    return _mlp(channel, x, y) + _spatial_gate(spatial, x, y)


def _embedding(layer, x, y):
    # A lookup adds an axis; `ReversibleEmbedding` called in reverse multiplies.
    return 0 if len(y) > len(x) else math.nan


NOT_COUNTED = ("not counted", None)

# Layers that only scale or shift have no MACs by the paper's convention.
FREE = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.PReLU,
    layers.RMSNormalization,
)
TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
COUNTS: dict[str, dict[Any, Any]] = {
    "attention": {
        (ChannelAttention, SqueezeExcite): _mlp,
        SpatialAttention: _spatial_gate,
        CBAM: _cbam,
    },
    "convolution": {
        (layers.Conv1D, layers.Conv2D, layers.Conv3D): _convolution,
        TRANSPOSED: _transposed_convolution,
        (layers.DepthwiseConv1D, layers.DepthwiseConv2D): _depthwise,
        (layers.SeparableConv1D, layers.SeparableConv2D): _separable,
    },
    "dense": {layers.Dense: _dense, layers.EinsumDense: _einsum_dense},
    "other": {FREE: lambda layer, x, y: 0, layers.Embedding: _embedding},
}


def count_macs(
    layer: Any, inputs: Sequence[Any], outputs: Sequence[Any]
) -> tuple[str, int | None]:
    """Returns the group of a layer and the MACs of a call, or `NOT_COUNTED`.

    `inputs` and `outputs` are the symbolic tensors of the call.
    """
    if isinstance(layer, layers.SpectralNormalization):
        # At inference, the inner layer with another kernel.
        return count_macs(layer.layer, inputs, outputs)
    if isinstance(layer, layers.TimeDistributed):
        return _count_times(layer, inputs, outputs)
    for group, counts in COUNTS.items():
        for classes, count in counts.items():
            if isinstance(layer, classes):
                macs = count(layer, _sizes(inputs[0]), _sizes(outputs[0]))
                return NOT_COUNTED if math.isnan(macs) else (group, macs)
    # Scales each channel; a private class of Keras' ConvNeXt.
    if type(layer).__name__ == "LayerScale" or not layer.weights:
        return "other", 0
    return NOT_COUNTED


def _sizes(tensor):
    return tuple(math.nan if n is None else n for n in tensor.shape)


def _count_times(wrapper, inputs, outputs) -> tuple[str, int | None]:
    """Counts a layer or model that is applied to each step of axis 1."""
    x, y = (
        keras.KerasTensor((1, *tensors[0].shape[2:]), tensors[0].dtype)
        for tensors in (inputs, outputs)
    )
    counts = [count_macs(wrapper.layer, (x,), (y,))]
    if _inspection.is_graph(wrapper.layer):
        steps, _ = _inspection.trace(wrapper.layer, [x])
        counts = [
            count_macs(step.operation, step.inputs, step.outputs)
            for step in steps
            if isinstance(step.operation, layers.Layer)
        ]
    known = [(group, macs) for group, macs in counts if macs is not None]
    times = math.prod(_sizes(inputs[0])[:2])
    if math.isnan(times) or len(known) < len(counts):
        return NOT_COUNTED
    group, _ = max(known, key=lambda count: count[1])
    return group, times * sum(macs for _, macs in known)


def _channel_axis(layer: Any, rank: int) -> int:
    return 1 if layer.data_format == "channels_first" else rank - 1
