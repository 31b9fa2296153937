"""`GlobalContext`, the block of GCNet."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import TrainableAttention
from cbam_keras.layers.pools import pool, scale_for_squares


@keras.saving.register_keras_serializable(package="cbam_keras")
class GlobalContext(TrainableAttention):
    """Adds global context to every position.

    The block of GCNet: an MLP on a mean over positions that a softmax weights.

    The hidden layer of the MLP has layer normalization (epsilon 1e-5):

    `output = x + MLP(sum over positions of softmax(x @ kernel + bias) * x)`.

    Args:
        reduction_ratio: Positive integer, `r`. The hidden layer has `max(2, C
            // r)` units. A single one would always be 0 after normalization.
            Defaults to `16`.
        fusion: String, `"add"` to add the output of the MLP, or `"multiply"` to
            multiply by its sigmoid. With `"add"` the layer returns its input
            until it is trained. Defaults to `"add"`.
        activation: Activation of the hidden layer, `None` for linear. Defaults
            to `"relu"`.
        identity_init: Boolean. If `True`, the layer returns its input until it
            is trained. With `"add"` it does so in any case. Defaults to
            `False`.
        gate_activation: Activation of the gate of `"multiply"`. Defaults to
            `"sigmoid"`.
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
        `(B, H, W, C)` or `(B, C, H, W)`; one to three spatial axes of any or
        unknown size. `C` must be known.

    Output shape:
        The input shape. `attention_map(inputs)` gives the gate of
        `"multiply"`, `(B, 1, 1, C)`; with `"add"`, which has no gate, the
        weights of the positions relative to their mean, `(B, H, W, 1)`.

    Raises:
        ValueError: If an argument is out of range, if the input is not of rank
            3 to 5, or if `C` is unknown.
        TypeError: If a flag is not a boolean.

    Example:
        >>> tuple(GlobalContext()(np.ones((2, 7, 5, 32))).shape)
        (2, 7, 5, 32)

    Reference:
        Cao, Xu, Lin, Wei and Hu, 2019 (https://arxiv.org/abs/1904.11492).
    """

    def __init__(
        self,
        reduction_ratio=16,
        *,
        fusion="add",
        activation="relu",
        identity_init=False,
        **kwargs,
    ):
        super().__init__(identity_init=identity_init, **kwargs)
        self.reduction_ratio = _checks.positive_integer(
            "reduction_ratio", reduction_ratio
        )
        self.fusion = _checks.one_of("fusion", fusion, ("add", "multiply"))
        self.activation = keras.activations.get(activation)
        self._zero_last = self.identity_init or fusion == "add"
        self._gated = ("spatial",) if fusion == "add" else ("channel",)
        self._neutral = 0.0 if fusion == "add" else 1.0

    def build(self, input_shape):
        channels = self._check_input_shape(input_shape)
        hidden = max(2, channels // self.reduction_ratio)
        self._check_hidden_units(channels, hidden)
        self.weighting = self._add_dense("weighting", (channels, 1))
        self.squeeze = self._add_dense("squeeze", (channels, hidden))
        self.gamma = self.add_weight(
            name="gamma", shape=(hidden,), initializer="ones", autocast=False
        )
        self.beta = self.add_weight(
            name="beta", shape=(hidden,), initializer="zeros", autocast=False
        )
        self.excite = self._add_dense("excite", (hidden, channels), last=True)

    def call(
        self, inputs, training=None, mask=None, return_attention_maps=False
    ):
        if self.fusion == "multiply":
            return super().call(inputs, training, mask, return_attention_maps)
        inputs = self._prepare(inputs)
        outputs = inputs + self._gate_value(inputs, mask)
        if not return_attention_maps:
            return outputs
        options = self._mask_argument(mask)
        return outputs, self.attention_map(inputs, training, **options)

    def get_config(self):
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "fusion": self.fusion,
            "activation": keras.activations.serialize(self.activation),
        }

    def _gate_value(self, inputs, mask=None):
        if self.fusion == "multiply":
            return super()._gate_value(inputs, mask)
        x, mask = self._channels_last(inputs, mask)
        return self._as_input(self._mlp(x, self._weights(x, mask)))

    def _apply_gate(self, inputs, value):
        return inputs * value if self.fusion == "multiply" else inputs + value

    def _map(self, x, training, mask):
        weights = self._weights(x, mask)
        if self.fusion == "multiply":
            return self._gate(self._mlp(x, weights))
        mean = self._mean(weights, mask)
        # The mean is 0 where all is masked.
        return weights / ops.where(mean > 0, mean, ops.ones_like(mean))

    def _weights(self, x, mask):
        """Returns the weights of the positions, whose sum is 1."""
        logits = self._dense(x, *self.weighting)
        if mask is not None:
            # A difference of infinities has no finite gradient.
            logits = ops.where(mask, logits, ops.full_like(logits, -1e30))
        # On TensorFlow, `ops.softmax` refuses several axes of unknown sizes.
        axes = self._positions(x)
        largest = pool(logits, "max", axes, x.dtype, keepdims=True)
        weights = ops.exp(logits - ops.stop_gradient(largest))
        return weights / ops.sum(weights, axis=axes, keepdims=True)

    def _mlp(self, x, weights):
        """Returns what the MLP makes of the weighted mean over positions."""
        context = ops.sum(weights * x, axis=self._positions(x), keepdims=True)
        hidden = self._dense(context, *self.squeeze)
        hidden = self.activation(self._normalize_units(hidden))
        return self._dense(hidden, *self.excite)

    def _normalize_units(self, hidden):
        """Returns layer normalization of the hidden units of the MLP."""
        # A number as the axis would be a scalar, which OpenVINO refuses.
        options = {"axis": (-1,), "dtype": hidden.dtype, "keepdims": True}
        hidden = hidden - pool(hidden, "avg", **options)
        scale = scale_for_squares(hidden, -1)
        hidden = hidden * scale
        variance = pool(ops.square(hidden), "avg", **options)
        hidden = hidden / ops.sqrt(variance + 1e-5 * ops.square(scale))
        hidden = hidden * ops.cast(self.gamma, hidden.dtype)
        return hidden + ops.cast(self.beta, hidden.dtype)
