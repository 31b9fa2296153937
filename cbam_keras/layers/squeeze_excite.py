"""`SqueezeExcite`, the baseline that CBAM is compared with."""

import keras

from cbam_keras.layers.channel_attention import ChannelAttention


@keras.saving.register_keras_serializable(package="cbam_keras")
class SqueezeExcite(ChannelAttention):
    """Squeeze-and-excitation: scales channels by a factor from their average.

    The "+ SE" rows of the paper: `output = x * sigmoid(MLP(avg(x)))` with the
    MLP of `ChannelAttention`.

    Args:
        reduction_ratio, hidden_units, use_bias, activation, gate_activation,
            identity_init, **kwargs: See `ChannelAttention`.

    Call arguments:
        See `ChannelAttention`.

    Input shape:
        See `ChannelAttention`.

    Output shape:
        The input shape.

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
        # One pool has nothing to add.
        del config["pool_types"], config["combine"]
        return config
