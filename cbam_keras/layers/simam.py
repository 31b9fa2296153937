"""`SimAM`, a gate without weights."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import AttentionLayer
from cbam_keras.layers.pools import scale_for_squares


@keras.saving.register_keras_serializable(package="cbam_keras")
class SimAM(AttentionLayer):
    """Scales each value by how much it stands out in its channel.

    The gate has no weights. The layer is never the identity: `insert_attention`
    needs `identity=False`.

    A value stands out by its squared distance from the mean of its channel,
    relative to the variance:

    `output = x * sigmoid((x - mean)**2 / (4 * (variance + regularization)) +
    0.5)`.

    Mean and variance are over positions. The variance divides by their number
    less one, or by 1 where there is only one.

    Args:
        regularization: Positive number, the lambda of the paper. It bounds the
            gate of channels that hardly vary. Defaults to `0.0001`.
        data_format: String, `"channels_last"` or `"channels_first"`, or
            `None` for `keras.config.image_data_format()`. Defaults to `None`.
        **kwargs: Keyword arguments of `keras.layers.Layer`, such as `name`.

    Call arguments:
        See `ChannelAttention`.

    Input shape:
        See `SpatialAttention`.

    Output shape:
        The input shape, which `attention_map(inputs)` has, too.

    Example:
        >>> tuple(SimAM()(np.ones((2, 7, 5, 32))).shape)
        (2, 7, 5, 32)

    Reference:
        Yang, Zhang, Li and Xie, 2021
        (https://proceedings.mlr.press/v139/yang21o.html).
    """

    def __init__(self, regularization=1e-4, *, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self._store(_checks.positive_number, regularization=regularization)

    def build(self, input_shape):
        self._check_input_shape(input_shape)

    def _map(self, x, training, mask):
        distance = x - self._mean(x, mask)
        counted = ops.ones_like(x[..., :1])
        if mask is not None:
            distance = ops.where(mask, distance, ops.zeros_like(x))
            counted = ops.cast(mask, x.dtype)
        scale = scale_for_squares(distance, self._positions(x))
        distance = ops.square(distance * scale)
        options = {"axis": self._positions(x), "keepdims": True}
        count = ops.sum(counted, **options)
        count = ops.where(count > 1, count - 1, ops.ones_like(count))
        variance = ops.sum(distance, **options) / count
        regularization = self.regularization * ops.square(scale)
        return ops.sigmoid(distance / (4 * (variance + regularization)) + 0.5)
