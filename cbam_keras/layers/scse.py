"""`SCSE`, spatial and channel squeeze-and-excitation."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import TrainableAttention


@keras.saving.register_keras_serializable(package="cbam_keras")
class SCSE(TrainableAttention):
    """Takes the larger of channel attention and spatial attention.

    For decoders of segmentation: `output = maximum(x * channel(x), x *
    spatial(x))`.

    Concurrent spatial and channel squeeze-and-excitation. The channel gate is
    an MLP on the mean over positions, the spatial gate a 1x1 convolution.

    Args:
        reduction_ratio: Positive integer, `r`. The hidden layer of the MLP
            has `max(1, C // r)` units. Defaults to `2`.
        combine: String, `"max"`, the larger of both results, as in the
            authors' code, or `"add"`, their sum. Defaults to `"max"`.
        activation: Activation of the hidden layer, `None` for linear. Defaults
            to `"relu"`.
        gate_activation: Activation of each gate. Defaults to `"sigmoid"`.
        identity_init: Boolean. If `True`, the layer returns exactly its input
            until it is trained. The last kernels start at zero, and each gate
            is `2 * sigmoid`, which starts at 1. With `"add"` each gate is
            `sigmoid`: both start at 1/2. Defaults to `False`.
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
        return_attention_maps: Boolean, whether to return `(outputs, (channel,
            spatial))`, with the maps that `attention_maps` returns. Defaults to
            `False`.

    Input shape:
        `(B, H, W, C)` or `(B, C, H, W)`; one to three spatial axes of any or
        unknown size. `C` must be known.

    Output shape:
        The input shape. `attention_maps(inputs)` gives two maps, `(B, 1, 1, C)`
        and `(B, H, W, 1)`.

    Raises:
        ValueError: If an argument is out of range, if the input is not of rank
            3 to 5, or if `C` is unknown.
        TypeError: If a flag is not a boolean.

    Example:
        >>> tuple(SCSE()(np.ones((2, 7, 5, 32))).shape)
        (2, 7, 5, 32)

    Reference:
        Roy, Navab and Wachinger, 2018 (https://arxiv.org/abs/1803.02579).
    """

    def __init__(
        self,
        reduction_ratio=2,
        *,
        combine="max",
        activation="relu",
        gate_activation="sigmoid",
        identity_init=False,
        **kwargs,
    ):
        super().__init__(gate_activation, identity_init, **kwargs)
        self.reduction_ratio = _checks.positive_integer(
            "reduction_ratio", reduction_ratio
        )
        self.combine = _checks.one_of("combine", combine, ("max", "add"))
        self.activation = keras.activations.get(activation)
        if self.identity_init and self.combine == "add":
            # The sum of both gates has to start at 1, not each gate.
            self._gate_scale /= 2

    def build(self, input_shape):
        channels = self._check_input_shape(input_shape)
        hidden = max(1, channels // self.reduction_ratio)
        self._check_hidden_units(channels, hidden)
        self.squeeze = self._add_dense("squeeze", (channels, hidden))
        self.excite = self._add_dense("excite", (hidden, channels), last=True)
        self.spatial = self._add_dense("spatial", (channels, 1), last=True)

    def attention_maps(self, inputs, training=None, mask=None):
        """Returns the maps of both gates, each computed from the input.

        Returns:
            Tuple of two tensors: the channel map `(B, 1, 1, C)` and the
            spatial map `(B, H, W, 1)`, or `(B, C, 1, 1)` and `(B, 1, H, W)`.
        """
        x, mask = self._channels_last(self._prepare(inputs), mask)
        hidden = self._dense(self._mean(x, mask), *self.squeeze)
        channel = self._dense(self.activation(hidden), *self.excite)
        spatial = self._dense(x, *self.spatial)
        return tuple(
            self._as_input(self._gate(logits)) for logits in (channel, spatial)
        )

    def call(
        self, inputs, training=None, mask=None, return_attention_maps=False
    ):
        inputs = self._prepare(inputs)
        options = self._mask_argument(mask)
        maps = self.attention_maps(inputs, training, **options)
        outputs = inputs * self._joined(inputs, *maps)
        return (outputs, maps) if return_attention_maps else outputs

    def get_config(self):
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "combine": self.combine,
            "activation": keras.activations.serialize(self.activation),
        }

    def _gate_value(self, inputs, mask=None):
        return self._joined(inputs, *self.attention_maps(inputs, False, mask))

    def _joined(self, inputs, channel, spatial):
        """Returns the joint map, by which the inputs are multiplied."""
        if self.combine == "add":
            return channel + spatial
        # On PyTorch, `ops.maximum` of float64 computes in float32.
        return ops.where(inputs * channel > inputs * spatial, channel, spatial)
