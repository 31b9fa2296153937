"""`EfficientChannelAttention` (ECA), a convolution over channels."""

import math

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import TrainableAttention


@keras.saving.register_keras_serializable(package="cbam_keras")
class EfficientChannelAttention(TrainableAttention):
    """Scales each channel by a factor from its neighbors among the channels.

    The gate of ECA-Net: `output = x * sigmoid(conv(mean(x)))`.

    The mean is over positions; one convolution goes over the channels in their
    order, with "same" padding and without bias.

    Args:
        kernel_size: Odd positive integer, from how many channels each factor is
            computed. The size in the paper is `t` if it is odd and `t + 1`
            otherwise, where `t = int((log2(C) + 1) / 2)`. Defaults to `None`,
            which means the size in the paper.
        gate_activation, identity_init, **kwargs: See `ChannelAttention`.

    Call arguments:
        See `ChannelAttention`.

    Input shape:
        See `ChannelAttention`.

    Output shape:
        The input shape. `attention_map(inputs)` gives `(B, 1, 1, C)`.

    Example:
        >>> tuple(EfficientChannelAttention()(np.ones((2, 7, 5, 32))).shape)
        (2, 7, 5, 32)

    Reference:
        Wang, Wu, Zhu, Li, Zuo and Hu, 2020
        (https://arxiv.org/abs/1910.03151).
    """

    _gated = ("channel",)
    _ranks = (2, 3, 4, 5)

    def __init__(
        self,
        kernel_size=None,
        *,
        gate_activation="sigmoid",
        identity_init=False,
        **kwargs,
    ):
        super().__init__(gate_activation, identity_init, **kwargs)
        if kernel_size is not None:
            kernel_size = _checks.odd_integer("kernel_size", kernel_size)
        self.kernel_size = kernel_size

    def build(self, input_shape):
        channels = self._check_input_shape(input_shape)
        size = self.kernel_size
        if size is None:
            size = int((math.log2(channels) + 1) / 2)
            size += 1 - size % 2
        self.kernel = self._add_parameter("kernel", (size, 1, 1), last=True)

    def _map(self, x, training, mask):
        means = self._mean(x, mask)
        row = ops.reshape(means, (-1, x.shape[-1], 1))
        logits = self._convolve(row, self.kernel)
        return self._gate(ops.reshape(logits, (-1, *means.shape[1:])))
