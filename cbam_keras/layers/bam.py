"""`BAM`, the bottleneck attention module."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import TrainableAttention


@keras.saving.register_keras_serializable(package="cbam_keras")
class BAM(TrainableAttention):
    """Scales each value by a factor from its channel and its position.

    By the authors of CBAM, between the stages of a network: `output = x * (1 +
    sigmoid(channel(x) + spatial(x)))`.

    An MLP on the mean over positions gives a logit per channel. A 1x1
    convolution, two dilated convolutions and another 1x1 convolution give a
    logit per position.
    Every hidden layer has `max(1, C // reduction_ratio)` units and batch
    normalization (epsilon 1e-5).

    Args:
        reduction_ratio: Positive integer, `r`. Hidden layers have `max(1, C //
            r)` units. Defaults to `16`.
        kernel_size: Odd positive integer, the side of the dilated
            convolutions. Defaults to `3`.
        dilation_rate: Positive integer, the dilation of these convolutions.
            Defaults to `4`.
        combine: String, how the logits are combined: `"add"`, as in the paper,
            or `"multiply"`, as in the authors' code. Defaults to `"add"`.
        activation: Activation of the hidden layers. Defaults to `"relu"`.
        batch_norm_momentum: Number in [0, 1), the momentum of the moving
            averages. Defaults to `0.9`, as in the authors' code.
        identity_init: Boolean. If `True`, the layer returns its input until it
            is trained. The last kernels start at zero, and the gate is divided
            by 1.5. With `"multiply"`, only the last spatial kernel starts at
            zero, since the product of two zeros has no gradient. Defaults to
            `False`.
        gate_activation: Activation of the sum or product of the logits.
            Defaults to `"sigmoid"`.
        kernel_initializer: Initializer of the kernels. Defaults to
            `"glorot_uniform"`.
        bias_initializer: Initializer of the biases. Defaults to `"zeros"`.
        kernel_regularizer: Regularizer of the kernels. Defaults to `None`.
        bias_regularizer: Regularizer of the biases. Defaults to `None`.
        kernel_constraint: Constraint on the kernels. Defaults to `None`.
        bias_constraint: Constraint on the biases. Defaults to `None`.
        data_format: String, `"channels_last"` or `"channels_first"`, or `None`
            for `keras.config.image_data_format()`. Defaults to `None`.
        **kwargs: Keyword arguments of `keras.layers.Layer`, such as `name` and
            `dtype`.

    Call arguments:
        inputs: Floating-point tensor `(B, H, W, C)` or `(B, C, H, W)`.
        training: Boolean or `None`. If `True`, batch normalization uses the
            statistics of the batch and updates its moving averages. `None`
            means the mode of the model, as in Keras.
        mask: Boolean tensor `(B, H, W)`, `False` at positions to ignore:
            outputs where it is `True` do not depend on inputs where it is
            `False`. For sequences `(B, T, C)` it is `(B, T)`. Its last axes may
            be left out. `None` means no mask; Keras passes on the mask of
            `Masking` and `Embedding`.
        return_attention_maps: Boolean, whether to return `(outputs, map)`, with
            the map that `attention_map` returns. Defaults to `False`.

    Input shape:
        `(B, H, W, C)` or `(B, C, H, W)`; one to three spatial axes of any or
        unknown size. `C` must be known.

    Output shape:
        The input shape, which `attention_map(inputs)` has, too; its values are
        in (1, 2), or in (2/3, 4/3) with `identity_init`.

    Raises:
        ValueError: If an argument is out of range, if the input is not of rank
            3 to 5, or if `C` is unknown.
        TypeError: If a flag is not a boolean.

    Example:
        >>> tuple(BAM()(np.ones((2, 7, 5, 32))).shape)
        (2, 7, 5, 32)

    Reference:
        Park, Woo, Lee and Kweon, 2018 (https://arxiv.org/abs/1807.06514).
    """

    def __init__(
        self,
        reduction_ratio=16,
        *,
        kernel_size=3,
        dilation_rate=4,
        combine="add",
        activation="relu",
        batch_norm_momentum=0.9,
        identity_init=False,
        **kwargs,
    ):
        super().__init__(identity_init=identity_init, **kwargs)
        self.reduction_ratio = _checks.positive_integer(
            "reduction_ratio", reduction_ratio
        )
        self.kernel_size = _checks.odd_integer("kernel_size", kernel_size)
        self.dilation_rate = _checks.positive_integer(
            "dilation_rate", dilation_rate
        )
        self.combine = _checks.one_of("combine", combine, ("add", "multiply"))
        self.activation = keras.activations.get(activation)
        self.batch_norm_momentum = _checks.momentum(
            "batch_norm_momentum", batch_norm_momentum
        )

    def build(self, input_shape):
        channels = self._check_input_shape(input_shape)
        hidden = max(1, channels // self.reduction_ratio)
        self._check_hidden_units(channels, hidden)
        window = (self.kernel_size,) * (len(input_shape) - 2)
        self.squeeze = self._add_dense("squeeze", (channels, hidden))
        self.channel_norm = self._add_batch_norm("channel_norm", hidden)
        # The product of two zeros has no gradient with respect to either.
        self.excite = self._add_dense(
            "excite", (hidden, channels), last=self.combine == "add"
        )
        self.reduce = self._add_dense("reduce", (channels, hidden))
        self.dilated = [
            self._add_dense(f"dilated{i}", (*window, hidden, hidden))
            for i in range(2)
        ]
        self.spatial_norms = [
            self._add_batch_norm(f"spatial_norm{i}", hidden) for i in range(3)
        ]
        self.spatial = self._add_dense("spatial", (hidden, 1), last=True)

    def get_config(self):
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "kernel_size": self.kernel_size,
            "dilation_rate": self.dilation_rate,
            "combine": self.combine,
            "activation": keras.activations.serialize(self.activation),
            "batch_norm_momentum": self.batch_norm_momentum,
        }

    def _map(self, x, training, mask):
        channel = self._channel_logits(x, training, mask)
        spatial = self._spatial_logits(x, training, mask)
        if self.combine == "add":
            return self._gate(channel + spatial)
        return self._gate(channel * spatial)

    def _gate(self, logits):
        gate = 1.0 + self.gate_activation(logits)
        if self._gate_scale is None:
            return gate
        # The divisor is the gate at 0, 1.5 with a sigmoid.
        return gate / (1.0 + 1.0 / self._gate_scale)

    def _channel_logits(self, x, training, mask):
        hidden = self._dense(self._mean(x, mask), *self.squeeze)
        if mask is not None:
            # A sample whose positions are all masked has no mean.
            mask = ops.any(mask, axis=self._positions(x), keepdims=True)
        hidden = self._activate(hidden, self.channel_norm, training, mask)
        return self._dense(hidden, *self.excite)

    def _spatial_logits(self, x, training, mask):
        first_norm, *norms = self.spatial_norms
        hidden = self._dense(x, *self.reduce)
        hidden = self._activate(hidden, first_norm, training, mask)
        for (kernel, bias), norm in zip(self.dilated, norms, strict=True):
            if mask is not None:
                # Masked positions count as padding of the convolution.
                hidden = ops.where(mask, hidden, ops.zeros_like(hidden))
            if hidden.shape[0] != 0:
                # TensorFlow turns an empty batch into one of another shape.
                hidden = self._convolve(
                    hidden, kernel, bias, self.dilation_rate
                )
            hidden = self._activate(hidden, norm, training, mask)
        return self._dense(hidden, *self.spatial)

    def _activate(self, x, norm, training, mask):
        mask = None if mask is None else mask[..., 0]
        return self.activation(self._normalize(x, norm, training, mask))
