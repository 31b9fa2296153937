"""`SpatialAttention`, the spatial gate of CBAM."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers._fused import fused
from cbam_keras.layers.attention_layer import TrainableAttention
from cbam_keras.layers.pools import POOLS, pool

# How the spatial gate can pool the channels at a position.
MAP_TYPES = (*POOLS, "conv")


@keras.saving.register_keras_serializable(package="cbam_keras")
class SpatialAttention(TrainableAttention):
    """Scales each position by a factor computed from its neighborhood.

    The spatial gate of CBAM: `output = x * sigmoid(conv(stack(pool(x) for each
    pool)))`.

    The channels are pooled at each position, the pooled maps are stacked in the
    order of `pool_types`, and one convolution reduces them to a single map.

    Pools and convolution are computed in at least float32, even in half
    precision.

    Args:
        kernel_size: Odd positive integer, the side of the convolution. Defaults
            to `7`.
        pool_types: One or several of `"avg"`, `"max"`, `"lp"`, `"lse"` and
            `"conv"`, over all channels. `"lp"` is the square root of the sum of
            squares, `"lse"` the logarithm of the sum of exponentials, and
            `"conv"` the paper's other variant, a learned 1x1 convolution to one
            channel without bias. Defaults to `("avg", "max")`.
        use_bias: Boolean, whether the convolution has a bias. Defaults to
            `False`.
        batch_norm: Boolean, whether to normalize before the sigmoid, like the
            authors' code, with an epsilon of 1e-5. In a built layer, the
            attribute `batch_norm` is the `BatchNormalization` layer or `None`.
            Defaults to `False`.
        batch_norm_momentum: Number in [0, 1), the momentum of the moving
            averages. Defaults to `0.99`, as in the authors' code; 0.9 is
            better for up to a few thousand training steps.
        dilation_rate: Positive integer, the dilation of the convolution.
            Defaults to `1`.
        gate_activation: Activation of each gate. Defaults to `"sigmoid"`.
        identity_init: Boolean. If `True`, the layer returns exactly its input
            until it is trained. The convolution, or the gamma of batch
            normalization after it, starts at zero, and the gate is
            `2 * sigmoid`. Use it in pretrained networks, and from scratch with
            `batch_norm`. Defaults to `False`.
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
        The input shape. `attention_map(inputs)` gives `(B, H, W, 1)` or
        `(B, 1, H, W)`.

    Raises:
        ValueError: If an argument is out of range, if the input is not of rank
            3 to 5, or if `C` is unknown.
        TypeError: If a flag is not a boolean.

    Example:
        >>> x = np.random.rand(2, 7, 5, 32).astype("float32")
        >>> layer = SpatialAttention(kernel_size=3)
        >>> layer(x).shape == x.shape
        True
        >>> tuple(layer.attention_map(x).shape)
        (2, 7, 5, 1)

    Reference:
        Woo, Park, Lee and Kweon, 2018, section 3
        (https://arxiv.org/abs/1807.06521). The paper stacks [avg; max] without
        normalization; the authors' code stacks [max; avg] and normalizes.
    """

    # Whether the gate pools over positions, and not over channels.
    _pools_positions = False
    _gated = ("spatial",)

    def __init__(
        self,
        kernel_size=7,
        *,
        pool_types=("avg", "max"),
        use_bias=False,
        batch_norm=False,
        batch_norm_momentum=0.99,
        dilation_rate=1,
        gate_activation="sigmoid",
        identity_init=False,
        **kwargs,
    ):
        super().__init__(gate_activation, identity_init, **kwargs)
        self.kernel_size = _checks.odd_integer("kernel_size", kernel_size)
        self.pool_types = _checks.subset("pool_types", pool_types, MAP_TYPES)
        self.use_bias = _checks.boolean("use_bias", use_bias)
        # `batch_norm` itself is the layer, which `build` creates.
        self.use_batch_norm = _checks.boolean("batch_norm", batch_norm)
        self.batch_norm = None
        self.batch_norm_momentum = _checks.momentum(
            "batch_norm_momentum", batch_norm_momentum
        )
        self.dilation_rate = _checks.positive_integer(
            "dilation_rate", dilation_rate
        )

    def build(self, input_shape):
        channels = self._check_input_shape(
            input_shape, any_channels="conv" not in self.pool_types
        )
        spatial_rank = len(input_shape) - 2
        self.pool_kernel = None
        if "conv" in self.pool_types:
            self.pool_kernel = self._add_parameter("pool_kernel", (channels, 1))
        # Batch normalization would amplify a map that starts at exactly
        # zero, so its gamma starts at zero instead.
        self.kernel = self._add_parameter(
            "kernel",
            (self.kernel_size,) * spatial_rank + (len(self.pool_types), 1),
            last=not self.use_batch_norm,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self._add_parameter("bias", (1,), last=True)
        if self.use_batch_norm:
            self.batch_norm = self._add_batch_norm("batch_norm", 1, last=True)

    def attention_map(self, inputs, training=None, mask=None):
        """Returns the attention map, one factor per position.

        Returns:
            Tensor `(B, H, W, 1)`, or `(B, 1, H, W)` if
            `data_format="channels_first"`; in (0, 1), or in (0, 2) with
            `identity_init`.
        """
        inputs = self._prepare(inputs)
        axis = self._channel_axis(len(inputs.shape))
        pooled = [
            self._pool(inputs, pool_type, axis) for pool_type in self.pool_types
        ]
        mask = self._position_mask(mask, inputs)
        return self._map_from_pools(pooled, training, mask)

    call = fused(TrainableAttention.call)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "pool_types": self.pool_types,
            "use_bias": self.use_bias,
            "batch_norm": self.use_batch_norm,
            "batch_norm_momentum": self.batch_norm_momentum,
            "dilation_rate": self.dilation_rate,
        }

    def _map_from_pools(self, pooled, training, mask=None):
        """Returns the map, given a pooled map per entry of `pool_types`."""
        last = self.input_spec.ndim - 1
        axis = self._channel_axis(last + 1)
        maps = ops.concatenate(pooled, axis=axis)
        if mask is not None:
            maps = ops.where(mask, maps, ops.zeros_like(maps))
            mask = ops.squeeze(mask, axis)
        # The convolution is channels-last whatever the data format: TensorFlow
        # has no channels_first convolution on a CPU.
        maps = ops.moveaxis(maps, axis, last)
        logits = self._convolve(
            maps, self.kernel, self.bias, self.dilation_rate
        )
        if self.batch_norm is not None:
            logits = self._normalize(logits, self.batch_norm, training, mask)
        return self._as_input(self._gate(logits))

    def _pool(self, inputs, pool_type, axis):
        """Returns one number per position, in the shape of the map."""
        if pool_type != "conv":
            return pool(
                inputs, pool_type, axis, self._gate_dtype, keepdims=True
            )
        inputs = ops.cast(inputs, self._gate_dtype)
        # A 1x1 convolution to one channel is a dot product over channels.
        last = len(inputs.shape) - 1
        pooled = self._dense(ops.moveaxis(inputs, axis, last), self.pool_kernel)
        return ops.moveaxis(pooled, last, axis)
