"""`AttentionGate`, the gate of Attention U-Net."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import TrainableAttention


@keras.saving.register_keras_serializable(package="cbam_keras")
class AttentionGate(TrainableAttention):
    """Scales each position of a skip by a factor from coarser features.

    The gate of Attention U-Net: `UNet(skip_attention="gate")`.

    The gating signal is what the decoder has so far. `theta` is a convolution
    of the skip whose kernel size and stride are `subsampling`, without bias;
    `phi`, `psi` and `project` are 1x1 convolutions, the last one with batch
    normalization (epsilon 1e-5):

    `map = resize(sigmoid(psi(relu(theta(skip) + resize(phi(gating))))))`,

    `output = project(skip * map)`.

    Resizing is linear, as in PyTorch with `align_corners=False`; PyTorch 0.3,
    which the authors used, aligned the corners. All but the product is
    computed in float32 at least, also in half precision. Masks are not used.

    Args:
        hidden_channels: Positive integer, the channels of `theta` and `phi`.
            Defaults to `None`, which means half of the skip's, at least 1.
        subsampling: Positive integer, the kernel size and stride of `theta`.
            Defaults to `2`.
        batch_norm_momentum: See `SpatialAttention`. Defaults to `0.9`.
        **kwargs: See `ChannelAttention`. Also `gate_activation`, by default
            `"sigmoid"`, and `identity_init`, with which the map, but not
            `project`, is one until it is trained.

    Call arguments:
        gating: Tensor, the coarser features.
        skip: Tensor, the features to scale.
        training, return_attention_maps: See `ChannelAttention`.

    Input shape:
        Both `(B, H, W, C)` or `(B, C, H, W)`; one to three spatial axes of any
        or unknown size, those of the skip at least `subsampling`. `C` must be
        known, and may differ.

    Output shape:
        The shape of the skip. `attention_map(gating, skip)` gives
        `(B, H, W, 1)`.

    Raises:
        ValueError: If it is called on one tensor, on two of different ranks,
            or on a gating signal that is finer than the skip; see also
            `ChannelAttention`.

    Example:
        >>> gating, skip = np.ones((2, 4, 3, 16)), np.ones((2, 7, 5, 8))
        >>> tuple(AttentionGate()(gating, skip).shape)
        (2, 7, 5, 8)

    Reference:
        Oktay et al., 2018 (https://arxiv.org/abs/1804.03999), by the authors'
        code, `GridAttentionBlock2D` with `mode="concatenation"`.
    """

    _gated = ("spatial",)

    def __init__(
        self,
        hidden_channels=None,
        *,
        subsampling=2,
        batch_norm_momentum=0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if hidden_channels is not None:
            _checks.positive_integer("hidden_channels", hidden_channels)
        self.hidden_channels = hidden_channels
        self._store(_checks.positive_integer, subsampling=subsampling)
        self._store(_checks.momentum, batch_norm_momentum=batch_norm_momentum)
        # Keras would pass on the mask of the gating signal.
        self.supports_masking = False

    def __call__(self, gating, skip=None, **kwargs):
        # In a list, they are one argument, as other layers have.
        return super().__call__(self._pair(gating, skip), **kwargs)

    def build(self, input_shape):
        specs, counts = [], []
        for shape in self._check_shapes(input_shape):
            counts.append(self._check_input_shape(shape))
            specs.append(self.input_spec)
        self.input_spec = specs
        of_gating, channels = counts
        hidden = self.hidden_channels or max(1, channels // 2)
        window = (self.subsampling,) * (len(input_shape[1]) - 2)
        shape = *window, channels, hidden
        self.theta_kernel = self._add_parameter("theta_kernel", shape)
        self.phi = self._add_dense("phi", (of_gating, hidden))
        self.psi = self._add_dense("psi", (hidden, 1), last=True)
        self.project = self._add_dense("project", (channels, channels))
        self.batch_norm = self._add_batch_norm("batch_norm", channels)

    def attention_map(self, gating, skip=None, training=None):
        """Returns a factor per position; see `SpatialAttention`."""
        inputs = self._prepare(self._pair(gating, skip))
        gating, skip = (self._channels_last(x, None)[0] for x in inputs)
        kernel, strides = self.theta_kernel, self.subsampling
        theta = self._convolve(skip, kernel, strides=strides)
        phi = _resize(self._dense(gating, *self.phi), theta)
        gate = self._gate(self._dense(ops.relu(theta + phi), *self.psi))
        return self._as_input(_resize(gate, skip))

    def call(
        self, gating, skip=None, training=None, return_attention_maps=False
    ):
        inputs = self._prepare(self._pair(gating, skip))
        gate = self.attention_map(inputs)
        outputs = self._apply_gate(inputs, gate, training)
        return (outputs, gate) if return_attention_maps else outputs

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[1])

    def _gate_value(self, inputs, mask=None):
        return self.attention_map(inputs)

    def _apply_gate(self, inputs, value, training=False):
        x, _ = self._channels_last(inputs[1] * value, None)
        x = self._dense(x, *self.project)
        return self._as_input(self._normalize(x, self.batch_norm, training))

    def _prepare(self, inputs):
        shapes = self._check_shapes([tuple(x.shape) for x in inputs])
        if not self.built:
            self.build(shapes)
        return [super(AttentionGate, self)._prepare(x) for x in inputs]

    def _pair(self, gating, skip):
        """Returns both inputs as a list, which may also be given as one."""
        pair = gating if skip is None else [gating, skip]
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            return list(pair)
        raise self._wrong(f"inputs of shape {getattr(pair, 'shape', pair)}")

    def _check_shapes(self, shapes):
        """Returns the shapes, or raises if they are none of the two inputs."""
        if len(shapes) != 2 or not all(
            isinstance(shape, (list, tuple)) for shape in shapes
        ):
            raise self._wrong(f"input_shape={shapes}")
        gating, skip = sizes = [list(shape) for shape in shapes]
        for shape in sizes:
            shape[self._channel_axis(len(shape))] = shape[0] = None
        if len(gating) != len(skip) or any(
            None not in pair and pair[0] > pair[1]
            for pair in zip(gating, skip, strict=True)
        ):
            raise self._wrong(
                f"a gating signal of shape {tuple(shapes[0])}, and a skip of "
                f"shape {tuple(shapes[1])}. Are they swapped?"
            )
        known = [size for size in skip if isinstance(size, int)]
        if min(known, default=self.subsampling) < self.subsampling:
            raise ValueError(
                "`subsampling` must be at most the size of the skip. Received: "
                f"{self.subsampling}, a skip of shape {tuple(shapes[1])}"
            )
        return shapes

    def _wrong(self, received):
        return ValueError(
            f"{self._label} takes two tensors of the same rank, first the "
            "gating signal, which is coarser, then the skip: "
            f"{type(self).__name__}()(gating, skip). In a U-Net: "
            f'UNet(..., skip_attention="gate"). Received: {received}'
        )


def _resize(x, like):
    """Resizes channels-last features to the sizes of others, linearly."""
    for axis in range(1, len(x.shape) - 1):
        count, size = (ops.shape(each)[axis] for each in (x, like))
        if isinstance(count, int) and isinstance(size, int) and count == size:
            continue
        ratio = ops.cast(count, x.dtype) / ops.cast(size, x.dtype)
        # Where the centers of the new positions lie among the old ones.
        places = (ops.arange(size, dtype=x.dtype) + 0.5) * ratio - 0.5
        places = ops.relu(places)
        low = ops.cast(places, "int32")
        high = ops.minimum(low + 1, count - 1)
        weights = places - ops.cast(low, x.dtype)
        weights = ops.reshape(weights, (-1, *[1] * (len(x.shape) - 1 - axis)))
        below, above = (ops.take(x, i, axis=axis) for i in (low, high))
        x = below * (1 - weights) + above * weights
    return x
