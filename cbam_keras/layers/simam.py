"""`SimAM`, a gate without weights."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import AttentionLayer
from cbam_keras.layers.pools import scale_for_squares


@keras.saving.register_keras_serializable(package="cbam_keras")
class SimAM(AttentionLayer):
    """Scales each value by how much it stands out in its channel.

    The gate has no weights. The layer is never the identity, so
    `insert_attention` takes it only with `identity=False`.

    A value stands out by its squared distance from the mean of its channel,
    relative to the variance:

    `output = x * sigmoid((x - mean)**2 / (4 * (variance + regularization)) +
    0.5)`.

    Mean and variance are over positions. The variance is the sum of squares
    divided by the number of positions less one, or by 1 for a single position.

    Args:
        regularization: Positive number, the lambda of the paper. It keeps the
            quotient small in channels that hardly vary. Defaults to `0.0001`.
        data_format: String, `"channels_last"` or `"channels_first"`, or
            `None` for `keras.config.image_data_format()`. Defaults to `None`.
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
        `(B, H, W, C)` or `(B, C, H, W)`; one to three spatial axes of any or
        unknown size. `C` must be known.

    Output shape:
        The input shape, which `attention_map(inputs)` has, too.

    Raises:
        ValueError: If an argument is out of range, if the input is not of rank
            3 to 5, or if `C` is unknown.

    Example:
        >>> tuple(SimAM()(np.ones((2, 7, 5, 32))).shape)
        (2, 7, 5, 32)

    Reference:
        Yang, Zhang, Li and Xie, 2021
        (https://proceedings.mlr.press/v139/yang21o.html).
    """

    def __init__(self, regularization=1e-4, *, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.regularization = _checks.positive_number(
            "regularization", regularization
        )

    def build(self, input_shape):
        self._check_input_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "regularization": self.regularization}

    def _map(self, x, training, mask):
        axes = self._positions(x)
        deviation = x - self._mean(x, mask)
        is_counted = ops.ones_like(x[..., :1])
        if mask is not None:
            deviation = ops.where(mask, deviation, ops.zeros_like(x))
            is_counted = ops.cast(mask, x.dtype)
        # All terms of the quotient are multiplied by the square of `scale`,
        # so that squares of large features are finite.
        scale = scale_for_squares(deviation, axes)
        distance = ops.square(deviation * scale)
        count = ops.sum(is_counted, axis=axes, keepdims=True)
        count = ops.where(count > 1, count - 1, ops.ones_like(count))
        variance = ops.sum(distance, axis=axes, keepdims=True) / count
        regularization = self.regularization * ops.square(scale)
        return ops.sigmoid(distance / (4 * (variance + regularization)) + 0.5)
