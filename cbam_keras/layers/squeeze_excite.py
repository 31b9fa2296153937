"""`SqueezeExcite`, the baseline that CBAM is compared with."""

import keras

from cbam_keras.layers.channel_attention import ChannelAttention


@keras.saving.register_keras_serializable(package="cbam_keras")
class SqueezeExcite(ChannelAttention):
    """Squeeze-and-excitation: scales channels by a factor from their average.

    Channel attention on the average alone: `output = x * sigmoid(MLP(avg(x)))`
    with the MLP of `ChannelAttention`. The "+ SE" rows of the paper.

    Args:
        reduction_ratio: Positive integer, `r`. The hidden layer of the MLP
            has `max(1, floor(C / r + 0.5))` units. Defaults to `16`.
        hidden_units: Positive integer, the width of the hidden layer, or
            `None` to let `reduction_ratio` decide. Defaults to `None`.
        use_bias: Boolean, whether both layers of the MLP have biases. The
            parameter counts in the paper include them. Defaults to `True`.
        activation: Activation of the hidden layer, `None` for linear.
            Defaults to `"relu"`.
        gate_activation: Activation of the gate. Defaults to `"sigmoid"`.
        identity_init: Boolean. If `True`, the layer returns exactly its input
            until it is trained: the last kernel, or the gamma after it, starts
            at zero, and the gate is scaled to be 1 there (`2 * sigmoid`). For
            trained networks, and from scratch as in `VARIANTS["recommended"]`.
            Defaults to `False`.
        **kwargs: `kernel_initializer` (by default `"glorot_uniform"`),
            `bias_initializer` (`"zeros"`), `kernel_regularizer`,
            `bias_regularizer`, `kernel_constraint`, `bias_constraint`,
            `data_format` (`"channels_last"`, `"channels_first"`, or `None` for
            `keras.config.image_data_format()`), and arguments of
            `keras.layers.Layer`, as `name`.

    Call arguments:
        inputs: Floating-point tensor of rank 3, 4 or 5.
        training: Boolean or `None`. Whether batch normalization in the layer,
            if any, uses and tracks the statistics of the batch.
        mask: Boolean tensor `(B, H, W)`, or of its first axes, as `(B, T)` of
            padded sequences, or `None`. Outputs where it is `True` do not
            depend on inputs where it is `False`; Keras passes on the mask of
            `Masking` and `Embedding`.
        return_attention_maps: Boolean, whether to return `(outputs, map)`, with
            the map that `attention_map` gives. Defaults to `False`.

    Input shape:
        `(B, H, W, C)` or `(B, C, H, W)`; one to three spatial axes of any or
        unknown size. `C` must be known.

    Output shape:
        The input shape.

    Raises:
        ValueError: If an argument is out of range, if the input is not of
            rank 3 to 5, or if `C` is unknown.
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
        del config["pool_types"]
        return config
