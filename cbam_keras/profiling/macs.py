"""Multiply-accumulates of one call of a layer."""

import math
from collections.abc import Callable, Sequence

import keras
from keras import layers

from cbam_keras import _graph
from cbam_keras.layers import (
    BAM,
    CBAM,
    SCSE,
    AttentionGate,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SpatialAttention,
    TripletAttention,
)


# In the functions below, `x` and `y` are the shapes of input and output for a
# batch of one, with NaN for unknown sizes. The batch axis counts: a model may
# fold other axes into it, e.g. windows.
def _convolution(layer, x, y):
    # Each weight of the kernel counts once at each position of the output, also
    # in grouped and depthwise convolutions, whose kernels have fewer weights.
    return math.prod(layer.kernel.shape) * math.prod(y) // _channels(layer, y)


def _transposed_convolution(layer, x, y):
    # Each input position is multiplied by the whole kernel once.
    return math.prod(layer.kernel_size) * math.prod(x) * layer.filters


def _separable(layer, x, y):
    # A depthwise convolution to `inner_channels`, then a pointwise one.
    inner_channels = _channels(layer, x) * layer.depth_multiplier
    positions = math.prod(y) // _channels(layer, y)
    macs_per_channel = math.prod(layer.kernel_size) + layer.filters
    return positions * inner_channels * macs_per_channel


def _dense(layer, x, y):
    return x[-1] * math.prod(y)


def _mlp(layer, x, y):
    hidden = layer.squeeze_kernel.shape[1]
    return x[0] * len(layer.pool_types) * 2 * _channels(layer, x) * hidden


def _spatial_gate(layer, x, y):
    channels = _channels(layer, x)
    positions = math.prod(x) // channels
    kernel = layer.kernel_size ** (len(x) - 2) * len(layer.pool_types)
    if "conv" in layer.pool_types:
        kernel += channels
    return positions * kernel


def _cbam(layer, x, y):
    macs_of_channel_gate = _mlp(layer.channel_attention, x, y)
    return macs_of_channel_gate + _spatial_gate(layer.spatial_attention, x, y)


def _efficient(layer, x, y):
    return x[0] * _channels(layer, x) * layer.kernel.shape[0]


def _coordinate(layer, x, y):
    channels, hidden = layer.squeeze[0].shape
    # Each row and each column has a vector of means, which goes through both
    # dense layers.
    lines = sum(x[1:]) - channels
    return 2 * x[0] * lines * channels * hidden


def _bam(layer, x, y):
    channels, hidden = layer.squeeze[0].shape
    positions = math.prod(x) // channels
    dilated = sum(math.prod(kernel.shape) for kernel, _ in layer.dilated)
    at_position = (channels + 1) * hidden + dilated
    return 2 * x[0] * channels * hidden + positions * at_position


def _mlp_and_map(layer, x, y):
    # The map costs a dot product over channels at each position.
    channels, hidden = layer.squeeze[0].shape
    return 2 * x[0] * channels * hidden + math.prod(x)


def _gate_of_skip(layer, x, y):
    *_, channels, hidden = layer.theta_kernel.shape
    # The gating signal comes first; the output has the shape of the skip.
    positions = list(y)
    del positions[layer._channel_axis(len(y))]
    coarse = y[0] * math.prod(n // layer.subsampling for n in positions[1:])
    at_coarse = math.prod(layer.theta_kernel.shape) + hidden
    return coarse * at_coarse + math.prod(x) * hidden + math.prod(y) * channels


def _triplet(layer, x, y):
    # A convolution of two pooled maps in each of the three planes.
    batch, a, b, c = x
    return batch * (a * b + b * c + a * c) * 2 * layer.kernel_size**2


NOT_COUNTED: tuple[str, int | None] = ("not counted", None)

# These only scale, shift or look up: no MACs by the paper's convention.
FREE = (
    layers.BatchNormalization,
    layers.Embedding,
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
COUNTS: dict[str, dict[type | tuple[type, ...], Callable]] = {
    "attention": {
        ChannelAttention: _mlp,
        SpatialAttention: _spatial_gate,
        CBAM: _cbam,
        EfficientChannelAttention: _efficient,
        CoordinateAttention: _coordinate,
        BAM: _bam,
        (SCSE, GlobalContext): _mlp_and_map,
        TripletAttention: _triplet,
        AttentionGate: _gate_of_skip,
    },
    "convolution": {
        (layers.Conv1D, layers.Conv2D, layers.Conv3D): _convolution,
        TRANSPOSED: _transposed_convolution,
        (layers.DepthwiseConv1D, layers.DepthwiseConv2D): _convolution,
        (layers.SeparableConv1D, layers.SeparableConv2D): _separable,
    },
    "dense": {layers.Dense: _dense},
}


def count_macs(
    layer: layers.Layer,
    inputs: Sequence[keras.KerasTensor],
    outputs: Sequence[keras.KerasTensor],
) -> tuple[str, int | None]:
    """Returns the group of a layer and the MACs of a call, or `NOT_COUNTED`.

    `inputs` and `outputs` are the symbolic tensors of the call.
    """
    return _count(layer, _sizes(inputs[0]), _sizes(outputs[0]))


def _count(layer, x, y):
    if isinstance(layer, layers.TimeDistributed):
        # The time is folded into the batch.
        x, y = ((axes[0] * axes[1], *axes[2:]) for axes in (x, y))
        return _count(layer.layer, x, y)
    for group, counts in COUNTS.items():
        for classes, count in counts.items():
            if isinstance(layer, classes):
                macs = count(layer, x, y)
                return NOT_COUNTED if math.isnan(macs) else (group, macs)
    # Scales each channel; a private class of Keras' ConvNeXt.
    is_layer_scale = _graph.type_of(layer) == "LayerScale"
    if is_layer_scale or isinstance(layer, FREE) or not layer.weights:
        return "other", 0
    return NOT_COUNTED


def _sizes(tensor):
    """Returns a shape in which unknown sizes are NaN, as are their products."""
    return tuple(math.nan if n is None else n for n in tensor.shape)


def _channels(layer, shape):
    """Returns the channels of a shape by the data format of a layer."""
    return shape[1 if layer.data_format == "channels_first" else -1]
