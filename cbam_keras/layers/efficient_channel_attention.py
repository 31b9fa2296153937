"""`EfficientChannelAttention` (ECA), a convolution over channels."""

import math

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import TrainableAttention


@keras.saving.register_keras_serializable(package="cbam_keras")
class EfficientChannelAttention(TrainableAttention):
    """Scales each channel by a factor computed from the neighboring channels.

    The gate of ECA-Net: `output = x * sigmoid(conv(mean(x)))`.

    The mean is over positions; one convolution goes over the channels in their
    order, with "same" padding and without bias.

    Args:
        kernel_size: Odd positive integer, the number of channels that each
            factor is computed from. Defaults to `None`, which means the size
            in the paper: `t` if it is odd and `t + 1` otherwise, where
            `t = int((log2(C) + 1) / 2)`.
        gate_activation: Activation of each gate. Defaults to `"sigmoid"`.
        identity_init: Boolean. If `True`, the layer returns exactly its input
            until it is trained. The kernel starts at zero, and the gate is
            `2 * sigmoid`. Use it in pretrained networks. Defaults to `False`.
        kernel_initializer: Initializer of the kernels. Defaults to
            `"glorot_uniform"`.
        bias_initializer: Not used, since the layer has no biases. Defaults to
            `"zeros"`.
        kernel_regularizer: Regularizer of the kernels. Defaults to `None`.
        bias_regularizer: Not used, since the layer has no biases. Defaults to
            `None`.
        kernel_constraint: Constraint on the kernels. Defaults to `None`.
        bias_constraint: Not used, since the layer has no biases. Defaults to
            `None`.
        data_format: String, `"channels_last"` or `"channels_first"`, or `None`
            for `keras.config.image_data_format()`. Defaults to `None`.
        **kwargs: Keyword arguments of `keras.layers.Layer`, such as `name` and
            `dtype`.

    Call arguments:
        inputs: Floating-point tensor `(B, H, W, C)` or `(B, C, H, W)`.
        training: Boolean or `None`. It has no effect, since this layer has no
            batch normalization.
        mask: Boolean tensor `(B, H, W)`, `False` at positions to ignore:
            outputs where it is `True` do not depend on inputs where it is
            `False`. For sequences `(B, T, C)` it is `(B, T)`. Its last axes may
            be left out. `None` means no mask; Keras passes on the mask of
            `Masking` and `Embedding`.
        return_attention_maps: Boolean, whether to return `(outputs, map)`, with
            the map that `attention_map` returns. Defaults to `False`.

    Input shape:
        `(B, H, W, C)` or `(B, C, H, W)`, with one to three spatial axes of any
        or unknown size, or vectors `(B, C)`. `C` must be known.

    Output shape:
        The input shape. `attention_map(inputs)` gives `(B, 1, 1, C)`.

    Raises:
        ValueError: If an argument is out of range, if the input is not of rank
            2 to 5, or if `C` is unknown.
        TypeError: If a flag is not a boolean.

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

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}

    def _map(self, x, training, mask):
        means = self._mean(x, mask)
        row = ops.reshape(means, (-1, x.shape[-1], 1))
        logits = self._convolve(row, self.kernel)
        return self._gate(ops.reshape(logits, (-1, *means.shape[1:])))
