"""`TripletAttention`, a spatial gate over each pair of axes."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import TrainableAttention
from cbam_keras.layers.pools import pool

# For each plane, in the letters of the PyTorch code, the order of the axes
# `(B, H, W, C)` that puts the axis to pool last. Each order is its own inverse.
PLANES = {"cw": (0, 3, 2, 1), "hc": (0, 1, 3, 2), "hw": (0, 1, 2, 3)}


@keras.saving.register_keras_serializable(package="cbam_keras")
class TripletAttention(TrainableAttention):
    """Scales each value by the mean of three gates, one per pair of axes.

    Each gate is like that of `SpatialAttention`, over a plane of two axes.

    It pools over the third axis by maximum and mean, and applies a convolution
    without bias, batch normalization (epsilon 1e-5) and a sigmoid. The planes
    are channels and columns, rows and channels, rows and columns:

    `output = x * (gate_cw(x) + gate_hc(x) + gate_hw(x)) / 3`.

    Args:
        kernel_size: Odd positive integer, the side of the convolutions. It may
            exceed the sizes of a plane. Defaults to `7`.
        batch_norm_momentum: Number in [0, 1), the momentum of the moving
            averages. Defaults to `0.99`, as in the authors' code.
        gate_activation: Activation of each gate. Defaults to `"sigmoid"`.
        identity_init: Boolean. If `True`, the layer returns exactly its input
            until it is trained. The gamma of each batch normalization starts at
            zero, and each gate is `2 * sigmoid`. Use it in pretrained networks.
            Defaults to `False`.
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
        inputs: Floating-point tensor of rank 4, `(B, H, W, C)` or `(B, C, H,
            W)`.
        training: Boolean or `None`. If `True`, batch normalization uses the
            statistics of the batch and updates its moving averages. `None`
            means the mode of the model, as in Keras.
        mask: Boolean tensor `(B, H, W)`, `False` at positions to ignore:
            outputs where it is `True` do not depend on inputs where it is
            `False`. Its last axes may be left out. `None` means no mask; Keras
            passes on the mask of `Masking` and `Embedding`.
        return_attention_maps: Boolean, whether to return `(outputs, map)`, with
            the map that `attention_map` returns. Defaults to `False`.

    Input shape:
        `(B, H, W, C)` or `(B, C, H, W)`; two spatial axes of any or unknown
        size. `C` must be known.

    Output shape:
        The input shape. `attention_map(inputs)`, the mean of the gates, has it,
        too.

    Raises:
        ValueError: If an argument is out of range, if the input is not of rank
            4, or if `C` is unknown.
        TypeError: If a flag is not a boolean.

    Example:
        >>> tuple(TripletAttention()(np.ones((2, 7, 5, 32))).shape)
        (2, 7, 5, 32)

    Reference:
        Misra, Nalamada, Arasanipalai and Hou, 2021
        (https://arxiv.org/abs/2010.03045).
    """

    _ranks = (4,)

    def __init__(
        self,
        kernel_size=7,
        *,
        batch_norm_momentum=0.99,
        gate_activation="sigmoid",
        identity_init=False,
        **kwargs,
    ):
        super().__init__(gate_activation, identity_init, **kwargs)
        self.kernel_size = _checks.odd_integer("kernel_size", kernel_size)
        self.batch_norm_momentum = _checks.momentum(
            "batch_norm_momentum", batch_norm_momentum
        )

    def build(self, input_shape):
        self._check_input_shape(input_shape, any_channels=True)
        shape = (self.kernel_size, self.kernel_size, 2, 1)
        self.kernels = {}
        self.batch_norms = {}
        for plane in PLANES:
            self.kernels[plane] = self._add_parameter(f"{plane}_kernel", shape)
            self.batch_norms[plane] = self._add_batch_norm(plane, 1, last=True)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "batch_norm_momentum": self.batch_norm_momentum,
        }

    def _map(self, x, training, mask):
        if mask is not None:
            mask = ops.broadcast_to(mask, ops.shape(x))
        gates = []
        for plane, order in PLANES.items():
            plane_last = ops.transpose(x, order)
            value_mask = None
            position_mask = None
            if mask is not None:
                value_mask = ops.transpose(mask, order)
                position_mask = ops.any(value_mask, axis=3)
            pooled = [
                pool(
                    plane_last,
                    pool_type,
                    3,
                    x.dtype,
                    keepdims=True,
                    mask=value_mask,
                )
                for pool_type in ("max", "avg")
            ]
            # Where all values are masked, the pools are 0, which the
            # convolution takes as padding.
            logits = self._convolve(
                ops.concatenate(pooled, axis=3), self.kernels[plane]
            )
            logits = self._normalize(
                logits, self.batch_norms[plane], training, position_mask
            )
            gates.append(ops.transpose(self._gate(logits), order))
        return sum(gates[1:], start=gates[0]) / 3.0
