"""CBAM on Keras 3 alone, in one file to copy into your project (Apache-2.0)."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="one_file")
class CBAM(layers.Layer):
    """Convolutional block attention module: scales channels, then positions.

    1. `x = x * sigmoid(MLP(mean of x over H, W) + MLP(max of x over H, W))`
    2. `x = x * sigmoid(conv([mean of x over C, max of x over C]))`

    One MLP of two layers serves both pools. In a residual block, put the layer
    at the end of the branch, before the addition.

    Args:
        reduction_ratio: Positive integer, `r`. The hidden layer of the MLP has
            `C / r` units, rounded half up, and at least one. Defaults to `16`.
        kernel_size: Odd positive integer, the side of the convolution.
            Defaults to `7`.

    Input shape: `(B, H, W, C)`, channels last. `C` must be known.
    Output shape: The input shape.

    Reference:
        Woo, Park, Lee and Kweon, 2018 (https://arxiv.org/abs/1807.06521)
    """

    def __init__(self, reduction_ratio=16, kernel_size=7, **kwargs):
        super().__init__(**kwargs)
        self.reduction_ratio = reduction_ratio
        self.kernel_size = kernel_size

    def build(self, input_shape):
        batch, height, width, channels = input_shape
        hidden_units = max(1, int(channels / self.reduction_ratio + 0.5))
        # Under mixed precision, only the products are in half precision.
        dtype = self.variable_dtype
        self.squeeze = layers.Dense(hidden_units, "relu", dtype=dtype)
        self.squeeze.build((batch, 1, 1, channels))
        self.excite = layers.Dense(channels, dtype=dtype)
        self.excite.build((batch, 1, 1, hidden_units))
        options = {"data_format": "channels_last", "dtype": dtype}
        self.convolution = layers.Conv2D(
            1, self.kernel_size, padding="same", use_bias=False, **options
        )
        self.convolution.build((batch, height, width, 2))

    def call(self, inputs):
        mean, maximum = self._pool(inputs, axis=(1, 2))  # (B, 1, 1, C)
        mean, maximum = self.squeeze(mean), self.squeeze(maximum)
        x = inputs * self._gate(self.excite(mean) + self.excite(maximum))
        maps = ops.concatenate(self._pool(x, axis=-1), axis=-1)  # (B, H, W, 2)
        return x * self._gate(self.convolution(maps))

    def get_config(self):
        config = super().get_config()
        config["reduction_ratio"] = self.reduction_ratio
        config["kernel_size"] = self.kernel_size
        return config

    def _pool(self, x, axis):
        x = ops.cast(x, self.variable_dtype)
        return [pool(x, axis, keepdims=True) for pool in (ops.mean, ops.max)]

    def _gate(self, logits):
        return ops.cast(ops.sigmoid(logits), self.compute_dtype)
