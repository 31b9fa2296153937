"""`SqueezeExcite`, the baseline that CBAM is compared with."""

import keras

from cbam_keras.layers.channel_attention import ChannelAttention


@keras.saving.register_keras_serializable(package="cbam_keras")
class SqueezeExcite(ChannelAttention):
    """Squeeze-and-excitation: scales channels by a factor from their average.

    The "+ SE" rows of the paper: `output = x * sigmoid(MLP(avg(x)))` with the
    MLP of `ChannelAttention`.

    Args:
        reduction_ratio: Positive integer, `r`. The hidden layer of the MLP
            has `max(1, floor(C / r + 0.5))` units. Defaults to `16`.
        hidden_units: Positive integer, the width of the hidden layer, which
            overrides `reduction_ratio`. Defaults to `None`, which means the
            width that `reduction_ratio` gives.
        use_bias: Boolean, whether both layers of the MLP have biases. The
            parameter counts in the paper include them. Defaults to `True`.
        activation: Activation of the hidden layer, `None` for linear. Defaults
            to `"relu"`.
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
        >>> SqueezeExcite(reduction_ratio=8)(x).shape == x.shape
        True

    Reference:
        Hu, Shen and Sun, 2018 (https://arxiv.org/abs/1709.01507). Both layers
        have biases, as the parameter counts in the CBAM paper require.
    """

    def __init__(
        self,
        reduction_ratio=16,
        *,
        hidden_units=None,
        use_bias=True,
        activation="relu",
        gate_activation="sigmoid",
        identity_init=False,
        **kwargs,
    ):
        super().__init__(
            reduction_ratio,
            pool_types="avg",
            hidden_units=hidden_units,
            use_bias=use_bias,
            activation=activation,
            gate_activation=gate_activation,
            identity_init=identity_init,
            **kwargs,
        )

    def get_config(self):
        config = super().get_config()
        # These are not arguments of this layer, which always has one pool.
        del config["pool_types"]
        del config["combine"]
        return config
