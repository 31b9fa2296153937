"""`ChannelAttention`, the channel gate of CBAM."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers._fused import fused
from cbam_keras.layers.attention_layer import TrainableAttention
from cbam_keras.layers.pools import POOLS, pool


@keras.saving.register_keras_serializable(package="cbam_keras")
class ChannelAttention(TrainableAttention):
    """Scales each channel by a factor computed from all positions.

    The channel gate of CBAM: `output = x * sigmoid(sum over pools of
    MLP(pool(x)))`.

    Each pool gives one number per channel, and one MLP with two layers, shared
    by all pools, maps these to `C` logits:

    `MLP(v) = activation(v @ squeeze_kernel + squeeze_bias) @ excite_kernel +
    excite_bias`.

    Some implementations apply the sigmoid to the logits of each pool and add
    the results, so that a factor can reach the number of pools:
    `combine="gates"`.

    Pools and MLP are computed in at least float32, even in half precision.

    Args:
        reduction_ratio: Positive integer, `r`. The hidden layer of the MLP
            has `max(1, floor(C / r + 0.5))` units. Defaults to `16`.
        pool_types: One or several of `"avg"`, `"max"`, `"lp"` and `"lse"`, over
            all spatial positions. `"lp"` is the square root of the sum of
            squares, `"lse"` the logarithm of the sum of exponentials. Defaults
            to `("avg", "max")`.
        hidden_units: Positive integer, the width of the hidden layer, which
            overrides `reduction_ratio`. Defaults to `None`, which means the
            width that `reduction_ratio` gives.
        use_bias: Boolean, whether both layers of the MLP have biases. The
            parameter counts in the paper include them. Defaults to `True`.
        activation: Activation of the hidden layer, `None` for linear. Defaults
            to `"relu"`.
        combine: String, what is added over pools: `"logits"`, before the gate
            activation, or `"gates"`, after it. Defaults to `"logits"`.
        gate_activation: Activation of each gate. Defaults to `"sigmoid"`.
        identity_init: Boolean. If `True`, the layer returns exactly its input
            until it is trained. The last layer of the MLP starts at zero, and
            the gate is `2 * sigmoid`. Use it in pretrained networks. Defaults
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
        The input shape. `attention_map(inputs)` gives `(B, 1, 1, C)` or
        `(B, C, 1, 1)`.

    Raises:
        ValueError: If an argument is out of range, if the input is not of rank
            2 to 5, or if `C` is unknown.
        TypeError: If a flag is not a boolean.

    Example:
        >>> x = np.random.rand(2, 7, 5, 32).astype("float32")
        >>> layer = ChannelAttention(reduction_ratio=8)
        >>> layer(x).shape == x.shape
        True
        >>> tuple(layer.attention_map(x).shape)
        (2, 1, 1, 32)

    Reference:
        Woo, Park, Lee and Kweon, 2018, section 3
        (https://arxiv.org/abs/1807.06521). The hidden width is rounded half up,
        as the paper's parameter counts require; the authors' code truncates.
    """

    # Whether the gate pools over positions, and not over channels.
    _pools_positions = True
    _gated = ("channel",)
    _ranks = (2, 3, 4, 5)

    def __init__(
        self,
        reduction_ratio=16,
        *,
        pool_types=("avg", "max"),
        hidden_units=None,
        use_bias=True,
        activation="relu",
        combine="logits",
        gate_activation="sigmoid",
        identity_init=False,
        **kwargs,
    ):
        super().__init__(gate_activation, identity_init, **kwargs)
        self.reduction_ratio = _checks.positive_integer(
            "reduction_ratio", reduction_ratio
        )
        self.pool_types = _checks.subset("pool_types", pool_types, POOLS)
        if hidden_units is not None:
            hidden_units = _checks.positive_integer(
                "hidden_units", hidden_units
            )
        self.hidden_units = hidden_units
        self.use_bias = _checks.boolean("use_bias", use_bias)
        self.activation = keras.activations.get(activation)
        self.combine = _checks.one_of("combine", combine, ("logits", "gates"))

    def build(self, input_shape):
        channels = self._check_input_shape(input_shape)
        hidden = self.hidden_units
        if hidden is None:
            # This is floor(C / r + 1/2) in integers: no quotient is rounded.
            ratio = self.reduction_ratio
            rounded = (2 * channels + ratio) // (2 * ratio)
            hidden = max(1, rounded)
            self._check_hidden_units(channels, hidden)
        self.squeeze_kernel = self._add_parameter(
            "squeeze_kernel", (channels, hidden)
        )
        self.excite_kernel = self._add_parameter(
            "excite_kernel", (hidden, channels), last=True
        )
        self.squeeze_bias = None
        self.excite_bias = None
        if self.use_bias:
            self.squeeze_bias = self._add_parameter("squeeze_bias", (hidden,))
            self.excite_bias = self._add_parameter(
                "excite_bias", (channels,), last=True
            )

    def attention_map(self, inputs, training=None, mask=None):
        """Returns the attention map, one factor per channel.

        Returns:
            Tensor `(B, 1, 1, C)`, or `(B, C, 1, 1)` if
            `data_format="channels_first"`; in (0, 1), in (0, 2) with
            `identity_init`, or up to the number of pools with
            `combine="gates"` alone.
        """
        inputs = self._prepare(inputs)
        axes = self._position_axes(len(inputs.shape))
        mask = self._position_mask(mask, inputs)
        pooled = [
            pool(inputs, pool_type, axes, self._gate_dtype, mask=mask)
            for pool_type in self.pool_types
        ]
        return self._map_from_pools(pooled, training)

    call = fused(TrainableAttention.call)

    def get_config(self):
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "pool_types": self.pool_types,
            "hidden_units": self.hidden_units,
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
            "combine": self.combine,
        }

    def _map_from_pools(self, pooled, training):
        """Returns the map, given one `(B, C)` per entry of `pool_types`."""
        squeeze = (self.squeeze_kernel, self.squeeze_bias)
        excite = (self.excite_kernel, self.excite_bias)
        hidden = [self.activation(self._dense(x, *squeeze)) for x in pooled]
        if self.combine == "gates":
            gates = [self._gate(self._dense(x, *excite)) for x in hidden]
            gate_map = sum(gates[1:], start=gates[0])
            if self.identity_init:
                # The sum has to start at 1, not each gate.
                gate_map = gate_map / len(pooled)
        else:
            gate_map = self._gate(self._dense_of_sum(hidden, *excite))
        axes = self._position_axes(self.input_spec.ndim)
        return ops.expand_dims(ops.cast(gate_map, self.compute_dtype), axes)

    def _position_axes(self, rank):
        channel_axis = self._channel_axis(rank)
        return tuple(axis for axis in range(1, rank) if axis != channel_axis)
