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
    normalization (epsilon 1e-5) and an activation. From there, a dense layer
    for each axis and a sigmoid give factors `(B, H, 1, C)` and `(B, 1, W, C)`.

    Args:
        reduction_ratio: Positive integer, `r`. The hidden layer has
            `max(min_hidden_units, C // r)` units. Defaults to `32`.
        min_hidden_units: Positive integer, the least width of the hidden layer.
            Defaults to `8`.
        activation: Activation of the hidden layer, `None` for linear. Defaults
            to `"hard_swish"`.
        batch_norm_momentum: See `SpatialAttention`. Defaults to `0.9`.
        gate_activation, identity_init, **kwargs: See `ChannelAttention`.

    Call arguments:
        See `ChannelAttention`.

    Input shape:
        `(B, H, W, C)` or `(B, C, H, W)`; two or three spatial axes of any or
        unknown size. `C` must be known.

    Output shape:
        The input shape, also of `attention_map(inputs)`, the gates' product.

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
        self._store(_checks.positive_integer, reduction_ratio=reduction_ratio)
        self._store(_checks.positive_integer, min_hidden_units=min_hidden_units)
        self.activation = keras.activations.get(activation)
        self._store(_checks.momentum, batch_norm_momentum=batch_norm_momentum)

    def build(self, input_shape):
        channels = self._check_input_shape(input_shape)
        hidden = max(self.min_hidden_units, channels // self.reduction_ratio)
        self.squeeze = self._add_dense("squeeze", (channels, hidden))
        self.batch_norm = self._add_batch_norm("batch_norm", hidden)
        # Each spatial axis has one.
        names = [f"excite{axis}" for axis in range(len(input_shape) - 2)]
        shape = (hidden, channels)
        self.excite = [self._add_dense(x, shape, last=True) for x in names]

    def _map(self, x, training, mask):
        positions = self._positions(x)
        others = [tuple({*positions} - {axis}) for axis in positions]
        means = [pool(x, "avg", axes, x.dtype, mask=mask) for axes in others]
        unmasked = None
        if mask is not None:
            unmasked = [ops.any(mask[..., 0], axis=axes) for axes in others]
            unmasked = ops.concatenate(unmasked, axis=1)
        hidden = self._dense(ops.concatenate(means, axis=1), *self.squeeze)
        hidden = self._normalize(hidden, self.batch_norm, training, unmasked)
        hidden = self.activation(hidden)
        gate_map, start = 1.0, 0
        for axis, axes, weights in zip(
            positions, others, self.excite, strict=True
        ):
            end = start + ops.shape(x)[axis]
            gate = self._gate(self._dense(hidden[:, start:end], *weights))
            gate_map = gate_map * ops.expand_dims(gate, axes)
            start = end
        return gate_map
