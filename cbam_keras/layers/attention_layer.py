"""Base classes: `AttentionLayer`, and `TrainableAttention` with weights."""

import inspect
import math

import keras
from keras import (
    activations,
    constraints,
    initializers,
    layers,
    ops,
    regularizers,
)

from _cbam_keras_command.options import nearest
from cbam_keras import _checks, _private
from cbam_keras.layers._fused import convolve
from cbam_keras.layers.normalization import GateNormalization
from cbam_keras.layers.pools import pool

# The maps of a layer with two gates.
MAPS = ("channel", "spatial")

# What all layers with weights take by `**kwargs`.
SHARED_ARGUMENTS = (
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "bias_constraint",
    "data_format",
)

# Papers use reduction ratios up to this one even with few channels, so these
# ratios get no warning.
USUAL_RATIO = 16
# The layer classes that have warned of a larger ratio: each class warns once.
_WARNED: set[type] = set()


class AttentionLayer(layers.Layer):
    """Base class of all attention layers: data format, input checks, masks.

    `call` multiplies the input by `attention_map(inputs)`. A subclass has:

    - `build(input_shape)`, which begins with `_check_input_shape` and creates
      all weights;
    - `_map(x, training, mask)`, the formula of its map. `x` are channels-last
      features in the dtype of gates, `mask` is `(B, H, W, 1)` or `None`, and
      the map broadcasts to `x`. A subclass may override `attention_map`
      instead;
    - `get_config()`, with the arguments that it adds to those of its base.

    It has a `call` only if it does more than multiply its input by the map.
    Then it also overrides `_gate_value` and `_apply_gate`, which do the same in
    two steps.

    Args:
        data_format: String, `"channels_last"` or `"channels_first"`, or `None`
            for `keras.config.image_data_format()`. Defaults to `None`.
        **kwargs: Keyword arguments of `keras.layers.Layer`, such as `name`.
    """

    # The ranks that the inputs may have.
    _ranks: tuple[int, ...] = (3, 4, 5)
    # Which of `MAPS` the attention map contains.
    _gated: tuple[str, ...] = MAPS
    # The gate value for which `_apply_gate` returns its input unchanged.
    _neutral = 1.0

    def __init__(self, *, data_format=None, **kwargs):
        for name, value in kwargs.items():
            step = _checks.next_step(name, value)
            if step:
                raise ValueError(f"There is no argument `{name}`{step}")
        try:
            super().__init__(**kwargs)
        except ValueError as error:
            # Keras names the arguments that it does not know.
            names = inspect.signature(type(self)).parameters
            for name in kwargs:
                step = nearest(name, names, 0)
                if name in str(error) and step:
                    error.add_note(step.removeprefix(". "))
            raise
        self.data_format = _checks.data_format(data_format)
        self.supports_masking = True

    def attention_map(self, inputs, training=None, mask=None):
        """Returns the attention map, by which the input is multiplied.

        Returns:
            Tensor that broadcasts to the input.
        """
        x, mask = self._channels_last(self._prepare(inputs), mask)
        return self._as_input(self._map(x, training, mask))

    def call(
        self, inputs, training=None, mask=None, return_attention_maps=False
    ):
        inputs = self._prepare(inputs)
        gate = self.attention_map(inputs, training, **self._mask_argument(mask))
        outputs = inputs * gate
        return (outputs, gate) if return_attention_maps else outputs

    def compute_output_shape(self, input_shape):
        return input_shape

    def compute_output_spec(self, *args, **kwargs):
        arguments = inspect.signature(self.call).bind(*args, **kwargs).arguments
        if arguments.get("return_attention_maps"):
            # Keras traces `call`, as if there were no `compute_output_shape`.
            return keras.Operation.compute_output_spec(self, *args, **kwargs)
        return super().compute_output_spec(*args, **kwargs)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}

    def load_own_variables(self, store):
        # Keras silently skips saved variables of sublayers that this layer
        # does not have. An HDF5 file stores sublayers next to the layer's own
        # variables, in a group that `store` keeps private. If `store` has no
        # such attribute, nothing is checked.
        group = _private.file_group_of(store)
        for name, part in getattr(group, "parent", {}).items():
            attribute = getattr(self, name, None)
            is_missing = attribute is None or inspect.isroutine(attribute)
            if name != "vars" and is_missing and len(part.get("vars", ())):
                raise ValueError(
                    f"{self._label} has no `{name}`. Received: a file with "
                    f"{len(part['vars'])} variables for it. Build the layer "
                    "with the arguments of the one that was saved"
                )
        super().load_own_variables(store)

    @property
    def _label(self):
        """What messages call the layer: its class and its name."""
        return f'{type(self).__name__} layer "{self.name}"'

    @property
    def _gate_dtype(self):
        # Pooled values and maps are small, so they are computed in float32
        # at least: a sum over float16 features can overflow. (On JAX and
        # PyTorch, `keras.backend.result_type` and some of `keras.ops` give
        # float32 for float64: hence the operators in the gates.)
        return "float64" if self.compute_dtype == "float64" else "float32"

    def _gates(self):
        """Returns the gates that `call` applies, in order."""
        return [self]

    def _gate_value(self, inputs, mask=None):
        """Returns what `_apply_gate` takes.

        In inference, these two steps compute what `call` computes.
        """
        return self.attention_map(inputs, False, **self._mask_argument(mask))

    def _apply_gate(self, inputs, value):
        """Returns the output of `call`, given what `_gate_value` returns."""
        return inputs * value

    def _map(self, x, training, mask):
        # Subclasses with one map override this.
        raise AttributeError(
            f"{self._label} has no single attention map. Call "
            "`attention_maps`, which returns the maps of both gates"
        )

    def _mask_argument(self, mask):
        """Returns a mask as a keyword argument, or nothing for `None`.

        A user's gate or `attention_map` need not take masks.
        """
        return {} if mask is None else {"mask": mask}

    def _channel_axis(self, rank):
        return 1 if self.data_format == "channels_first" else rank - 1

    def _positions(self, x):
        """Returns the spatial axes of channels-last features."""
        return tuple(range(1, len(x.shape) - 1))

    def _mean(self, x, mask):
        """Returns the mean of channels-last features over positions."""
        axes = self._positions(x)
        return pool(x, "avg", axes, x.dtype, keepdims=True, mask=mask)

    def _channels_last(self, inputs, mask):
        """Returns features and their mask, as `_map` takes them.

        The features are in the dtype of gates. The mask is `(B, H, W, 1)`, or
        `None`.
        """
        last = len(inputs.shape) - 1
        axis = self._channel_axis(last + 1)
        x = ops.cast(ops.moveaxis(inputs, axis, last), self._gate_dtype)
        mask = self._position_mask(mask, inputs)
        return x, None if mask is None else ops.moveaxis(mask, axis, last)

    def _as_input(self, x):
        """Returns channels-last `x` in the layer's data format and dtype."""
        # PyTorch would export the axis -1 as an invalid transposition.
        last = len(x.shape) - 1
        x = ops.moveaxis(x, last, self._channel_axis(last + 1))
        return ops.cast(x, self.compute_dtype)

    def _check_input_shape(self, input_shape, any_channels=False):
        """Returns the number of channels, or raises if the shape is unsuitable.

        Later calls must have the same number of channels, unless
        `any_channels` is true.
        """
        shape = tuple(input_shape)
        if len(shape) not in self._ranks:
            ranks = ", ".join(map(str, self._ranks))
            ranks = " or ".join(ranks.rsplit(", ", 1))
            raise ValueError(
                f"{self._label} takes inputs of rank {ranks}: batch, spatial "
                f"axes and channels. Received: input_shape={shape}. Attention "
                "belongs before global pooling or flattening."
            )
        axis = self._channel_axis(len(shape))
        if shape[axis] is None:
            raise ValueError(
                f"{self._label} needs a known channel axis with data_format="
                f'"{self.data_format}". Received: input_shape={shape}. Give '
                "the model a fixed number of channels, e.g. "
                "keras.Input((None, None, 3))."
            )
        self.input_spec = layers.InputSpec(
            ndim=len(shape), axes={} if any_channels else {axis: shape[axis]}
        )
        return shape[axis]

    def _prepare(self, inputs):
        """Returns `inputs` in the layer's `compute_dtype`, and builds it."""
        # Operations on symbolic tensors would hold the current weights as
        # constants. The class is compared by its name, since the symbolic
        # tensors of `tf_keras` are of another class with the same name.
        if type(inputs).__name__ == "KerasTensor":
            raise TypeError(
                f"{self._label} takes symbolic tensors only in a call of the "
                "layer itself, such as `outputs, maps = layer(inputs, "
                "return_attention_maps=True)`. Received: inputs="
                f"{_checks.shown(inputs)}"
            )
        inputs = ops.cast(inputs, self.compute_dtype)
        if not self.built:
            self.build(inputs.shape)
        return inputs

    def _position_mask(self, mask, inputs):
        """Returns a mask in the shape of the spatial map, or `None`."""
        if mask is None:
            return None
        rank = len(inputs.shape)
        channels = self._channel_axis(rank)
        mask = ops.cast(mask, "bool")
        last = tuple(range(len(mask.shape), rank - 1))
        mask = ops.expand_dims(ops.expand_dims(mask, last), channels)
        sizes = list(ops.shape(inputs))
        sizes[channels] = 1
        return ops.broadcast_to(mask, sizes)


class TrainableAttention(AttentionLayer):
    """Base class of attention layers with weights.

    A subclass passes on the arguments that it takes, creates its weights by
    `_add_parameter`, `_add_dense` and `_add_batch_norm` in `build`, and turns
    logits into a map by `_gate`. Its formula applies weights by `_dense`,
    `_dense_of_sum`, `_convolve` and `_normalize` only, which `to_core` replaces
    by layers of Keras. If it calls `_add_batch_norm`, it must have an attribute
    `batch_norm_momentum`.

    Args:
        gate_activation: Activation that turns logits into a map. Defaults to
            `"sigmoid"`.
        identity_init: Boolean. If `True`, the last parameters, which a subclass
            marks by `last=True`, start at zero, and the gate is scaled to be 1
            there. Defaults to `False`.
        kernel_initializer: Initializer of the kernels. Defaults to
            `"glorot_uniform"`.
        bias_initializer: Initializer of the biases. Defaults to `"zeros"`.
        kernel_regularizer: Regularizer of the kernels. Defaults to `None`.
        bias_regularizer: Regularizer of the biases. Defaults to `None`.
        kernel_constraint: Constraint on the kernels. Defaults to `None`.
        bias_constraint: Constraint on the biases. Defaults to `None`.
        **kwargs: Keyword arguments of `AttentionLayer`.
    """

    def __init__(
        self,
        gate_activation="sigmoid",
        identity_init=False,
        *,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.gate_activation = activations.get(gate_activation)
        self.identity_init = _checks.boolean("identity_init", identity_init)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        # What `_gate` multiplies by, so that it is 1 where logits are 0.
        self._gate_scale = None
        if identity_init:
            self._gate_scale = _scale_to_one(self.gate_activation)
        # Whether the last parameters start at zero.
        self._zero_last = self.identity_init
        # The initializers that have drawn the weights, see `_add_parameter`.
        self._clones = []

    def get_config(self):
        return {
            **super().get_config(),
            "gate_activation": activations.serialize(self.gate_activation),
            "identity_init": self.identity_init,
            "kernel_initializer": initializers.serialize(
                self.kernel_initializer
            ),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(
                self.kernel_regularizer
            ),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }

    def _gate(self, logits):
        """Returns an attention map, given its logits."""
        gate = self.gate_activation(logits)
        if self._gate_scale is not None:
            gate = gate * self._gate_scale
        return gate

    def _dense(self, x, kernel, bias=None):
        """Returns `x @ kernel`, plus the bias if there is one."""
        kernel = ops.cast(kernel, x.dtype)
        # `ops.matmul` would compute float64 in float32 on PyTorch.
        if len(x.shape) == 2:
            x = x @ kernel
        else:
            # TensorFlow's oneDNN writes out of bounds in `x @ kernel` if `x`
            # has a height of 1, so all positions are rows of one matrix.
            rows = ops.reshape(x, (-1, kernel.shape[0])) @ kernel
            x = ops.reshape(rows, (-1, *ops.shape(x)[1:-1], kernel.shape[1]))
        return x if bias is None else x + ops.cast(bias, x.dtype)

    def _dense_of_sum(self, tensors, kernel, bias=None):
        """Returns the sum of `_dense` of several tensors."""
        # It is linear, so its inputs are added first.
        total = sum(tensors[1:], start=tensors[0])
        bias = None if bias is None else len(tensors) * bias
        return self._dense(total, kernel, bias)

    def _convolve(self, x, kernel, bias=None, dilation_rate=1, strides=1):
        """Returns a convolution, with "same" padding unless it has strides."""
        kernel = ops.cast(kernel, x.dtype)
        if kernel.shape[-1] == 1 and strides == 1:
            x = convolve(x, kernel, dilation_rate)
        else:
            x = ops.conv(
                x,
                kernel,
                strides=strides,
                padding="same" if strides == 1 else "valid",
                data_format="channels_last",
                dilation_rate=dilation_rate,
            )
        return x if bias is None else x + ops.cast(bias, x.dtype)

    def _normalize(self, x, batch_norm, training, mask=None):
        """Returns channels-last `x`, normalized; `mask` lacks the last axis."""
        return batch_norm(x, training=training, mask=mask)

    def _check_hidden_units(self, channels, hidden):
        """Warns if the ratio may be meant as a number of channels."""
        layer_class = type(self)
        ratio = self.reduction_ratio
        is_plausible = ratio <= USUAL_RATIO or 2 * ratio < channels
        if is_plausible or channels == 1 or layer_class in _WARNED:
            return
        _WARNED.add(layer_class)
        _checks.warn(
            f"reduction_ratio={ratio} with {channels} channels leaves "
            f"{_checks.count(hidden, 'hidden unit')}. The first argument is "
            "the reduction ratio, not the number of channels"
        )

    def _add_parameter(self, name, shape, last=False):
        """Adds a bias if `name` ends in "bias", else a kernel.

        `last` marks the parameters right before the gate, which
        `identity_init` starts at zero.
        """
        if name.endswith("bias"):
            initializer = self.bias_initializer
            regularizer = self.bias_regularizer
            constraint = self.bias_constraint
        else:
            initializer = self.kernel_initializer
            regularizer = self.kernel_regularizer
            constraint = self.kernel_constraint
        if last and self._zero_last:
            initializer = "zeros"
        elif isinstance(initializer, initializers.Initializer):
            # An initializer that is used twice gives the same numbers twice.
            # A clone draws its own seed.
            initializer = initializer.clone()
            # A study looks here for the initializer of each weight, to draw
            # the weights of another seed.
            self._clones = [*self._clones, initializer]
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            regularizer=regularizer,
            constraint=constraint,
            # It stays in full precision under mixed precision, see _gate_dtype.
            autocast=False,
        )

    def _add_dense(self, name, shape, last=False):
        """Adds a kernel of this shape and a bias, and returns both."""
        kernel = self._add_parameter(f"{name}_kernel", shape, last)
        bias = self._add_parameter(f"{name}_bias", shape[-1:], last)
        return kernel, bias

    def _add_batch_norm(self, name, units, last=False):
        """Adds batch normalization, in the precision of the gates."""
        starts_at_zero = last and self._zero_last
        batch_norm = GateNormalization(
            momentum=self.batch_norm_momentum,
            epsilon=1e-5,
            gamma_initializer="zeros" if starts_at_zero else "ones",
            dtype=self._gate_dtype,
            name=name,
        )
        batch_norm.build((None, units))
        return batch_norm


def _scale_to_one(activation):
    """Returns 1 divided by the value of `activation` at 0."""
    if activation is activations.sigmoid:
        return 2.0
    # A softmax cannot be the identity. Along one of these two axes it gives 1/3
    # or 1/5, so it is refused below.
    zeros = ops.zeros((3, 5), dtype="float32")
    at_zero = float(ops.max(activation(zeros)))
    # Only a power of two gives exactly 1, in every precision.
    if at_zero > 0 and math.frexp(at_zero)[0] == 0.5:
        return 1.0 / at_zero
    raise ValueError(
        "`identity_init` needs a `gate_activation` whose value at 0 is a power "
        'of two, such as "sigmoid" (0.5), so that the scaled gate is exactly 1 '
        "there. Received: gate_activation="
        f"{getattr(activation, '__name__', activation)!r}, which is "
        f"{at_zero:g} at 0"
    )
