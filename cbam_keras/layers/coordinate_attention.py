"""`CoordinateAttention`, a gate along each spatial axis."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import TrainableAttention
from cbam_keras.layers.pools import pool


@keras.saving.register_keras_serializable(package="cbam_keras")
class CoordinateAttention(TrainableAttention):
    """Scales each value by a factor from its row and one from its column.

    For mobile networks: `output = x * rows(x) * columns(x)`.

    The means of the rows and the means of the columns (with three spatial axes,
    the means over the two other axes) go through one dense layer, batch
    normalization (epsilon 1e-5) and an activation. Then a dense layer per axis
    and a sigmoid give the factors `(B, H, 1, C)` and `(B, 1, W, C)`.

    Args:
        reduction_ratio: Positive integer, `r`. The hidden layer has
            `max(min_hidden_units, C // r)` units. Defaults to `32`.
        min_hidden_units: Positive integer, the least width of the hidden layer.
            Defaults to `8`.
        activation: Activation of the hidden layer, `None` for linear. Defaults
            to `"hard_swish"`.
        batch_norm_momentum: Number in [0, 1), the momentum of the moving
            averages. Defaults to `0.9`, as in the authors' code.
        gate_activation: Activation of each gate. Defaults to `"sigmoid"`.
        identity_init: Boolean. If `True`, the layer returns exactly its input
            until it is trained. The last layer of each gate starts at zero, and
            each gate is `2 * sigmoid`. Use it in pretrained networks. Defaults
            to `False`.
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
            `False`. Its last axes may be left out. `None` means no mask; Keras
            passes on the mask of `Masking` and `Embedding`.
        return_attention_maps: Boolean, whether to return `(outputs, map)`, with
            the map that `attention_map` returns. Defaults to `False`.

    Input shape:
        `(B, H, W, C)` or `(B, C, H, W)`; two or three spatial axes of any or
        unknown size. `C` must be known.

    Output shape:
        The input shape. `attention_map(inputs)`, the product of the gates, has
        it, too.

    Raises:
        ValueError: If an argument is out of range, if the input is not of rank
            4 or 5, or if `C` is unknown.
        TypeError: If a flag is not a boolean.

    Example:
        >>> tuple(CoordinateAttention()(np.ones((2, 7, 5, 32))).shape)
        (2, 7, 5, 32)

    Reference:
        Hou, Zhou and Feng, 2021 (https://arxiv.org/abs/2103.02907).
    """

    _ranks = (4, 5)

    def __init__(
        self,
        reduction_ratio=32,
        *,
        min_hidden_units=8,
        activation="hard_swish",
        batch_norm_momentum=0.9,
        gate_activation="sigmoid",
        identity_init=False,
        **kwargs,
    ):
        super().__init__(gate_activation, identity_init, **kwargs)
        self.reduction_ratio = _checks.positive_integer(
            "reduction_ratio", reduction_ratio
        )
        self.min_hidden_units = _checks.positive_integer(
            "min_hidden_units", min_hidden_units
        )
        self.activation = keras.activations.get(activation)
        self.batch_norm_momentum = _checks.momentum(
            "batch_norm_momentum", batch_norm_momentum
        )

    def build(self, input_shape):
        channels = self._check_input_shape(input_shape)
        hidden = max(self.min_hidden_units, channels // self.reduction_ratio)
        self.squeeze = self._add_dense("squeeze", (channels, hidden))
        self.batch_norm = self._add_batch_norm("batch_norm", hidden)
        # One dense layer per spatial axis.
        self.excite = [
            self._add_dense(f"excite{axis}", (hidden, channels), last=True)
            for axis in range(len(input_shape) - 2)
        ]

    def get_config(self):
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "min_hidden_units": self.min_hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "batch_norm_momentum": self.batch_norm_momentum,
        }

    def _map(self, x, training, mask):
        positions = self._positions(x)
        # For each axis, the axes over which its gate pools.
        pooled_axes = [tuple({*positions} - {axis}) for axis in positions]
        means = [
            pool(x, "avg", axes, x.dtype, mask=mask) for axes in pooled_axes
        ]
        unmasked = None
        if mask is not None:
            unmasked = ops.concatenate(
                [ops.any(mask[..., 0], axis=axes) for axes in pooled_axes],
                axis=1,
            )
        # The means of all axes, `(B, H + W, C)`, share the hidden layer.
        hidden = self._dense(ops.concatenate(means, axis=1), *self.squeeze)
        hidden = self._normalize(hidden, self.batch_norm, training, unmasked)
        hidden = self.activation(hidden)
        gate_map = 1.0
        start = 0
        for axis, axes, weights in zip(
            positions, pooled_axes, self.excite, strict=True
        ):
            end = start + ops.shape(x)[axis]
            gate = self._gate(self._dense(hidden[:, start:end], *weights))
            gate_map = gate_map * ops.expand_dims(gate, axes)
            start = end
        return gate_map
