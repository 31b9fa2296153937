"""`CBAM`, both gates in one layer, and `VARIANTS` of it."""

from typing import Any

import keras

from cbam_keras import _checks
from cbam_keras.layers._fused import fused
from cbam_keras.layers.attention_layer import (
    SHARED_ARGUMENTS,
    TrainableAttention,
)
from cbam_keras.layers.channel_attention import ChannelAttention
from cbam_keras.layers.pools import POOLS
from cbam_keras.layers.spatial_attention import MAP_TYPES, SpatialAttention

# The orders in which the gates are applied.
ORDERS = ("channel_first", "spatial_first", "parallel")


@keras.saving.register_keras_serializable(package="cbam_keras")
class CBAM(TrainableAttention):
    """Convolutional block attention module: scales channels, then positions.

    `ChannelAttention` followed by `SpatialAttention`. In a residual block, put
    the layer at the end of the branch, before the addition.

    The defaults are the formulas of the paper. `VARIANTS` has the arguments
    with which the layer computes what the authors' code or another
    implementation computes, e.g. `CBAM(**VARIANTS["official"])`.

    Args:
        reduction_ratio: Positive integer, `r`. The hidden layer of the channel
            gate's MLP has `max(1, floor(C / r + 0.5))` units. Defaults to `16`.
        kernel_size: Odd positive integer, the side of the convolution of the
            spatial gate. Defaults to `7`.
        order: String, `"channel_first"`, `"spatial_first"`, or `"parallel"`,
            which computes both maps from the input. Defaults to
            `"channel_first"`.
        channel_pool_types: One or several of `"avg"`, `"max"`, `"lp"` and
            `"lse"`, how the channel gate pools over positions. `"lp"` is the
            square root of the sum of squares, `"lse"` the logarithm of the sum
            of exponentials. Defaults to `("avg", "max")`.
        spatial_pool_types: One or several of `"avg"`, `"max"`, `"lp"`, `"lse"`
            and `"conv"` (a learned 1x1 convolution), how the spatial gate pools
            over channels. Defaults to `("avg", "max")`.
        hidden_units: Positive integer, the width of the hidden layer, which
            overrides `reduction_ratio`. Defaults to `None`, which means the
            width that `reduction_ratio` gives.
        use_bias: Boolean, whether both layers of the MLP have biases. The
            parameter counts in the paper include them. Defaults to `True`.
        spatial_use_bias: Boolean, whether the convolution of the spatial gate
            has a bias. Defaults to `False`.
        spatial_batch_norm: Boolean, whether to normalize before the sigmoid of
            the spatial gate, like the authors' code, with an epsilon of 1e-5.
            Defaults to `False`.
        spatial_batch_norm_momentum: Number in [0, 1), the momentum of the
            moving averages. Defaults to `0.99`, as in the authors' code; 0.9
            is better for up to a few thousand training steps.
        activation: Activation of the hidden layer, `None` for linear. Defaults
            to `"relu"`.
        combine: String, what the channel gate adds over its pools: `"logits"`,
            before the gate activation, or `"gates"`, after it. Defaults to
            `"logits"`.
        gate_activation: Activation of each gate. Defaults to `"sigmoid"`.
        identity_init: Boolean. If `True`, the layer returns exactly its input
            until it is trained. The last layer of each gate, or the gamma of
            batch normalization after it, starts at zero, and each gate is
            `2 * sigmoid`. Use it in pretrained networks, and from scratch with
            `VARIANTS["recommended"]`. Defaults to `False`.
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
        return_attention_maps: Boolean, whether to return `(outputs, (channel,
            spatial))`, with the maps that `attention_maps` returns. Defaults to
            `False`.

    Input shape:
        `(B, H, W, C)` or `(B, C, H, W)`; one to three spatial axes of any or
        unknown size. `C` must be known.

    Output shape:
        The input shape. The gates are `layer.channel_attention` and
        `layer.spatial_attention`.

    Raises:
        ValueError: If an argument is out of range, if the input is not of rank
            3 to 5, or if `C` is unknown.
        TypeError: If a flag is not a boolean.

    Example:
        >>> inputs = keras.Input((32, 32, 3))
        >>> x = keras.layers.Conv2D(64, 3, padding="same")(inputs)
        >>> x = CBAM(reduction_ratio=16, kernel_size=7)(x)
        >>> model = keras.Model(inputs, x)
        >>> model.output_shape
        (None, 32, 32, 64)

    Reference:
        Woo, Park, Lee and Kweon, 2018 (https://arxiv.org/abs/1807.06521). The
        released code has no `"parallel"`: multiplying by both maps is our
        reading.
    """

    def __init__(
        self,
        reduction_ratio=16,
        kernel_size=7,
        *,
        order="channel_first",
        channel_pool_types=("avg", "max"),
        spatial_pool_types=("avg", "max"),
        hidden_units=None,
        use_bias=True,
        spatial_use_bias=False,
        spatial_batch_norm=False,
        spatial_batch_norm_momentum=0.99,
        activation="relu",
        combine="logits",
        gate_activation="sigmoid",
        identity_init=False,
        **kwargs,
    ):
        super().__init__(gate_activation, identity_init, **kwargs)
        self.order = _checks.one_of("order", order, ORDERS)
        self.channel_pool_types = _checks.subset(
            "channel_pool_types", channel_pool_types, POOLS
        )
        self.spatial_pool_types = _checks.subset(
            "spatial_pool_types", spatial_pool_types, MAP_TYPES
        )
        self.spatial_use_bias = _checks.boolean(
            "spatial_use_bias", spatial_use_bias
        )
        self.spatial_batch_norm = _checks.boolean(
            "spatial_batch_norm", spatial_batch_norm
        )
        self.spatial_batch_norm_momentum = _checks.momentum(
            "spatial_batch_norm_momentum", spatial_batch_norm_momentum
        )
        self.activation = keras.activations.get(activation)
        shared = {
            "gate_activation": self.gate_activation,
            "identity_init": self.identity_init,
            "dtype": self.dtype_policy,
            **{name: getattr(self, name) for name in SHARED_ARGUMENTS},
        }
        self.channel_attention = ChannelAttention(
            reduction_ratio,
            pool_types=self.channel_pool_types,
            hidden_units=hidden_units,
            use_bias=use_bias,
            activation=self.activation,
            combine=combine,
            name="channel_attention",
            **shared,
        )
        self.spatial_attention = SpatialAttention(
            kernel_size,
            pool_types=self.spatial_pool_types,
            use_bias=self.spatial_use_bias,
            batch_norm=self.spatial_batch_norm,
            batch_norm_momentum=self.spatial_batch_norm_momentum,
            name="spatial_attention",
            **shared,
        )
        # The gates have checked these arguments, which have the same names in
        # them.
        self.reduction_ratio = self.channel_attention.reduction_ratio
        self.hidden_units = self.channel_attention.hidden_units
        self.use_bias = self.channel_attention.use_bias
        self.combine = self.channel_attention.combine
        self.kernel_size = self.spatial_attention.kernel_size

    def build(self, input_shape):
        self._check_input_shape(input_shape)
        self.channel_attention.build(input_shape)
        self.spatial_attention.build(input_shape)

    def attention_maps(self, inputs, training=None, mask=None):
        """Returns the maps of both gates.

        They are the maps that `call` multiplies by: with a sequential
        `order`, the second is computed from the output of the first gate.

        Returns:
            Tuple of two tensors: the channel map `(B, 1, 1, C)` and the
            spatial map `(B, H, W, 1)`, or `(B, C, 1, 1)` and `(B, 1, H, W)`.
        """
        options = self._mask_argument(mask)
        x = self._prepare(inputs)
        maps = []
        for gate in self._gates():
            maps.append(gate.attention_map(x, training, **options))
            if self.order != "parallel":
                x = x * maps[-1]
        return self._in_order(maps)

    @fused
    def call(
        self, inputs, training=None, mask=None, return_attention_maps=False
    ):
        options = {"training": training, **self._mask_argument(mask)}
        if self.order == "parallel":
            maps = self.attention_maps(inputs, **options)
            outputs = inputs * maps[0] * maps[1]
            return (outputs, maps) if return_attention_maps else outputs
        if return_attention_maps:
            options["return_attention_maps"] = True
        outputs = inputs
        maps = []
        for gate in self._gates():
            outputs = gate(outputs, **options)
            if return_attention_maps:
                outputs, gate_map = outputs
                maps.append(gate_map)
        maps = self._in_order(maps)
        return (outputs, maps) if return_attention_maps else outputs

    def get_config(self):
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "kernel_size": self.kernel_size,
            "order": self.order,
            "channel_pool_types": self.channel_pool_types,
            "spatial_pool_types": self.spatial_pool_types,
            "hidden_units": self.hidden_units,
            "use_bias": self.use_bias,
            "spatial_use_bias": self.spatial_use_bias,
            "spatial_batch_norm": self.spatial_batch_norm,
            "spatial_batch_norm_momentum": self.spatial_batch_norm_momentum,
            "activation": keras.activations.serialize(self.activation),
            "combine": self.combine,
        }

    @property
    def dtype_policy(self):
        return super().dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value):
        # Keras does not pass the new policy of a layer on to its sublayers.
        keras.layers.Layer.dtype_policy.fset(self, value)
        for gate in self._gates():
            gate.dtype_policy = value

    def _gates(self):
        gates = [self.channel_attention, self.spatial_attention]
        return gates[::-1] if self.order == "spatial_first" else gates

    def _in_order(self, maps):
        """Returns the maps of `_gates()`, the channel map first."""
        return tuple(maps[::-1] if self.order == "spatial_first" else maps)


# Keyword arguments for `CBAM` that make it compute what an implementation
# computes, and those that our experiments recommend. Where C / r is not an
# integer, the hidden widths still differ: all implementations but timm truncate
# it. See docs/fidelity.md for the sources.
VARIANTS: dict[str, dict[str, Any]] = {
    # For training from scratch, see docs/when-it-helps.md. The momentum is
    # that of the networks of `cbam_keras.models`.
    "recommended": {
        "identity_init": True,
        "spatial_batch_norm": True,
        "spatial_batch_norm_momentum": 0.9,
    },
    # The formulas of the paper, with the biases that its parameter counts
    # require.
    "paper": {},
    # github.com/Jongchan/attention-module
    "official": {
        "spatial_pool_types": ("max", "avg"),
        "spatial_batch_norm": True,
    },
    # timm.layers.CbamModule
    "timm": {"use_bias": False, "spatial_batch_norm": True},
    # github.com/kobiso/CBAM-keras
    "kobiso_keras": {"reduction_ratio": 8},
    # github.com/kobiso/CBAM-tensorflow, as first released
    "kobiso_tensorflow": {"spatial_use_bias": True},
    # github.com/luuuyi/CBAM.PyTorch, the most copied PyTorch version
    "luuuyi": {"use_bias": False},
    # A widely read tutorial, whose MLP has no ReLU and no biases.
    "linear_perceptron": {
        "reduction_ratio": 4,
        "use_bias": False,
        "activation": None,
    },
    # What many implementations for Keras compute: each pool has its own
    # sigmoid, so that a channel is multiplied by up to 2.
    "two_sigmoids": {"combine": "gates"},
}
VARIANTS = _checks.Named(VARIANTS)
