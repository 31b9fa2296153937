"""`AttentionGate`, the gate of Attention U-Net."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import TrainableAttention


@keras.saving.register_keras_serializable(package="cbam_keras")
class AttentionGate(TrainableAttention):
    """Scales each position of a skip connection with help of coarser features.

    The gate of Attention U-Net, which `UNet(skip_attention="gate")` puts on its
    skip connections.

    The gating signal is the coarser features that the decoder has computed so
    far. `theta` is a convolution of the skip whose kernel size and stride are
    `subsampling`, without bias; `phi`, `psi` and `project` are 1x1
    convolutions, and batch normalization (epsilon 1e-5) follows `project`:

    `map = resize(sigmoid(psi(relu(theta(skip) + resize(phi(gating))))))`,

    `output = project(skip * map)`.

    Resizing is linear, as in PyTorch with `align_corners=False`; PyTorch 0.3,
    which the authors used, aligned the corners. All but the product `skip *
    map` is computed in at least float32, even in half precision. Masks are not
    used.

    Args:
        hidden_channels: Positive integer, the channels of `theta` and `phi`.
            Defaults to `None`, which means half of the channels of the skip,
            at least 1.
        subsampling: Positive integer, the kernel size and stride of `theta`.
            Defaults to `2`.
        batch_norm_momentum: Number in [0, 1), the momentum of the moving
            averages. Defaults to `0.9`, as in the authors' code.
        gate_activation: Activation of the gate. Defaults to `"sigmoid"`.
        identity_init: Boolean. If `True`, the map is 1 until it is trained:
            `psi` starts at zero, and the gate is `2 * sigmoid`. The layer is
            not the identity, because of `project`. Defaults to `False`.
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
        gating: Floating-point tensor of rank 3 to 5, the coarser features.
        skip: Floating-point tensor of the same rank, the features to scale.
            Both may also be given as one list, `[gating, skip]`.
        training: Boolean or `None`. If `True`, batch normalization uses the
            statistics of the batch and updates its moving averages. `None`
            means the mode of the model, as in Keras.
        return_attention_maps: Boolean, whether to return `(outputs, map)`, with
            the map that `attention_map` returns. Defaults to `False`.

    Input shape:
        Both `(B, H, W, C)` or `(B, C, H, W)`; one to three spatial axes of any
        or unknown size, those of the skip at least `subsampling`. `C` must be
        known, and may differ between the two.

    Output shape:
        The shape of the skip. `attention_map(gating, skip)` gives
        `(B, H, W, 1)`.

    Raises:
        ValueError: If an argument is out of range, if the layer is called on
            one tensor, on two of different ranks, on a gating signal that is
            finer than the skip, or on a skip smaller than `subsampling`, or if
            `C` is unknown.
        TypeError: If a flag is not a boolean.

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
            hidden_channels = _checks.positive_integer(
                "hidden_channels", hidden_channels
            )
        self.hidden_channels = hidden_channels
        self.subsampling = _checks.positive_integer("subsampling", subsampling)
        self.batch_norm_momentum = _checks.momentum(
            "batch_norm_momentum", batch_norm_momentum
        )
        # Keras would pass on the mask of the gating signal.
        self.supports_masking = False

    def __call__(self, gating, skip=None, **kwargs):
        # Code that walks a model expects attention layers to have one argument,
        # so both inputs are passed as one list.
        return super().__call__(self._pair(gating, skip), **kwargs)

    def build(self, input_shape):
        gating_shape, skip_shape = self._check_shapes(input_shape)
        # Each check sets the specification of one input.
        gating_channels = self._check_input_shape(gating_shape)
        gating_spec = self.input_spec
        channels = self._check_input_shape(skip_shape)
        self.input_spec = [gating_spec, self.input_spec]
        hidden = self.hidden_channels or max(1, channels // 2)
        window = (self.subsampling,) * (len(skip_shape) - 2)
        self.theta_kernel = self._add_parameter(
            "theta_kernel", (*window, channels, hidden)
        )
        self.phi = self._add_dense("phi", (gating_channels, hidden))
        self.psi = self._add_dense("psi", (hidden, 1), last=True)
        self.project = self._add_dense("project", (channels, channels))
        self.batch_norm = self._add_batch_norm("batch_norm", channels)

    def attention_map(self, gating, skip=None, training=None):
        """Returns the attention map, one factor per position of the skip.

        Returns:
            Tensor `(B, H, W, 1)`, or `(B, 1, H, W)` if
            `data_format="channels_first"`; in (0, 1), or in (0, 2) with
            `identity_init`.
        """
        gating, skip = self._prepare(self._pair(gating, skip))
        gating, _ = self._channels_last(gating, None)
        skip, _ = self._channels_last(skip, None)
        theta = self._convolve(
            skip, self.theta_kernel, strides=self.subsampling
        )
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

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_channels": self.hidden_channels,
            "subsampling": self.subsampling,
            "batch_norm_momentum": self.batch_norm_momentum,
        }

    def _gate_value(self, inputs, mask=None):
        return self.attention_map(inputs)

    def _apply_gate(self, inputs, value, training=False):
        _, skip = inputs
        x, _ = self._channels_last(skip * value, None)
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
        """Returns both shapes, or raises if they do not fit each other."""
        if len(shapes) != 2 or not all(
            isinstance(shape, (list, tuple)) for shape in shapes
        ):
            raise self._wrong(f"input_shape={shapes}")
        gating_shape, skip_shape = (tuple(shape) for shape in shapes)
        gating_sizes = self._spatial_sizes(gating_shape)
        skip_sizes = self._spatial_sizes(skip_shape)
        if len(gating_sizes) != len(skip_sizes) or any(
            None not in pair and pair[0] > pair[1]
            for pair in zip(gating_sizes, skip_sizes, strict=True)
        ):
            raise self._wrong(
                f"a gating signal of shape {gating_shape}, and a skip of shape "
                f"{skip_shape}. Are they swapped?"
            )
        # `theta` would have no position.
        if any(
            size is not None and size < self.subsampling for size in skip_sizes
        ):
            raise ValueError(
                "`subsampling` must be at most the size of the skip. Received: "
                f"subsampling={self.subsampling}, a skip of shape {skip_shape}"
            )
        return gating_shape, skip_shape

    def _spatial_sizes(self, shape):
        """Returns the sizes of the spatial axes, `None` where unknown."""
        sizes = list(shape[1:])
        del sizes[self._channel_axis(len(shape)) - 1]
        return [size if isinstance(size, int) else None for size in sizes]

    def _wrong(self, received):
        return ValueError(
            f"{self._label} takes two tensors of the same rank, first the "
            "gating signal, which is coarser, then the skip: "
            f"{type(self).__name__}()(gating, skip). To put it on the skips of "
            'a U-Net, use UNet(..., skip_attention="gate"). '
            f"Received: {received}"
        )


def _resize(x, like):
    """Resizes channels-last features to the sizes of others, linearly."""
    for axis in range(1, len(x.shape) - 1):
        count = ops.shape(x)[axis]
        size = ops.shape(like)[axis]
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
        below = ops.take(x, low, axis=axis)
        above = ops.take(x, high, axis=axis)
        x = below * (1 - weights) + above * weights
    return x
