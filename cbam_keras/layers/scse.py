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
        combine: String, `"max"` as in the authors' code, or `"add"` for the
            sum. `"max"` is the larger of both results. Defaults to `"max"`.
        activation, gate_activation: See `ChannelAttention`.
        identity_init: Boolean. If `True`, the layer returns exactly its input
            until it is trained. The last kernels start at zero, and the gates
            are `2 * sigmoid`, or with `"add"` 1/2 each. Defaults to `False`.
        **kwargs: See `ChannelAttention`.

    Call arguments:
        See `CBAM`.

    Input shape:
        See `SpatialAttention`.

    Output shape:
        The input shape. `attention_maps(inputs)` gives two, as that of `CBAM`.

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
        self._store(_checks.positive_integer, reduction_ratio=reduction_ratio)
        self.combine = _checks.one_of("combine", combine, ("max", "add"))
        self.activation = keras.activations.get(activation)
        if self.identity_init and self.combine == "add":
            # It is the sum of both gates that starts at 1.
            self._gate_scale /= 2

    def build(self, input_shape):
        channels = self._check_input_shape(input_shape)
        hidden = max(1, channels // self.reduction_ratio)
        self._check_hidden_units(channels, hidden)
        self.squeeze = self._add_dense("squeeze", (channels, hidden))
        self.excite = self._add_dense("excite", (hidden, channels), last=True)
        self.spatial = self._add_dense("spatial", (channels, 1), last=True)

    def attention_maps(self, inputs, training=None, mask=None):
        """Returns the maps of both gates; see `CBAM.attention_maps`."""
        x, mask = self._channels_last(self._prepare(inputs), mask)
        hidden = self._dense(self._mean(x, mask), *self.squeeze)
        channel = self._dense(self.activation(hidden), *self.excite)
        spatial = self._dense(x, *self.spatial)
        maps = self._gate(channel), self._gate(spatial)
        return tuple(map(self._as_input, maps))

    def call(
        self, inputs, training=None, mask=None, return_attention_maps=False
    ):
        inputs = self._prepare(inputs)
        options = self._mask_argument(mask)
        maps = self.attention_maps(inputs, training, **options)
        outputs = inputs * self._joined(inputs, *maps)
        return (outputs, maps) if return_attention_maps else outputs

    def _gate_value(self, inputs, mask=None):
        return self._joined(inputs, *self.attention_maps(inputs, False, mask))

    def _joined(self, inputs, channel, spatial):
        """Returns the map of all values by which the inputs are multiplied."""
        if self.combine == "add":
            return channel + spatial
        # On PyTorch, `ops.maximum` of float64 computes in float32.
        return ops.where(inputs * channel > inputs * spatial, channel, spatial)
