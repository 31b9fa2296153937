"""`to_core`: attention as layers and operations of Keras alone.

Keras records what a layer's formula does to symbolic tensors, as operations of
the new graph. Only where the formula applies weights, a layer of Keras with
these weights is called instead.
"""

import collections
import functools
import re
from collections.abc import Callable

import keras
from keras import activations, layers, ops

from cbam_keras import _checks, _graph
from cbam_keras.insertion.copying import copy_with
from cbam_keras.layers import SHARED_ARGUMENTS, AttentionGate, AttentionLayer


@_checks.named
def to_core(model: keras.Model) -> keras.Model:
    """Rewrites attention as layers and operations of Keras alone.

    Its file loads where `cbam_keras` is not installed, without
    `custom_objects`. The given model is not modified.

    Each attention layer becomes the parts of its formula: pools, `Dense`
    or convolution, activation, and a product that has the name of the layer.
    The new model has the same weights, trains in the same way and has the same
    predictions up to rounding. The other `cbam_keras` layers, in `models.UNet`
    and in pretrained networks, are rewritten, too. `remove_attention` and
    `explain.attention_maps` find no attention in the new model.

    Args:
        model: Functional or Sequential `keras.Model`, or a subclassed model
            that was called and whose `call` takes symbolic inputs.

    Returns:
        A functional `keras.Model`, not compiled.

    Raises:
        ValueError: If the graph of the model is not known, or if an attention
            layer is inside a layer that is neither a model nor
            `TimeDistributed`, is of your own subclass, or is called with a
            mask, with `training` or for its attention maps.
        TypeError: If `model` is not a model, or if a layer needs the size of
            the images, which is unknown.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, attention="cbam"
        ... )
        >>> to_core(model).save("anywhere.keras")
    """
    model = _graph.with_graph("model", model)
    replaced: dict[int, list[Callable]] = {}
    rewriters = []
    for step in _graph.Graph(model, model.inputs).steps:
        layer = step.operation
        is_per_frame = isinstance(layer, layers.TimeDistributed)
        layer = layer.layer if is_per_frame else layer
        if _is_ours(layer) and id(step.operation) not in replaced:
            rewriter = _Rewriter(layer, step)
            rewriters.append(rewriter)
            call = rewriter.call_per_frame if is_per_frame else rewriter
            replaced[id(step.operation)] = [call]
    _check(model, rewriters)
    core = copy_with(model, {}, None, replaced)
    # A dictionary keeps the order, and holds each name once.
    third_party = {
        type(x).__name__: None
        for x in _graph.layers_within(core)
        if _checks.package_of(x) != "keras"
    }
    if third_party:
        _checks.warn(
            "The file still needs these classes, which do not belong to "
            "cbam_keras (`adopt` converts equivalent ones): "
            f"{', '.join(third_party)}"
        )
    return core


def _is_ours(operation):
    """Returns whether an operation is a layer of this package."""
    is_layer = isinstance(operation, layers.Layer)
    return is_layer and _checks.package_of(operation) == "cbam_keras"


def _check(model, rewriters):
    """Raises if a layer of ours cannot be rewritten."""
    problems = {}
    for rewriter in rewriters:
        path = rewriter.step.path
        _, options = rewriter.step.arguments
        if options.get("mask") is not None:
            problems[path] = "takes a mask, which layers of Keras do not"
        elif options.get("return_attention_maps") or options.get("training"):
            problems[path] = (
                "is called with `training` or `return_attention_maps`"
            )
    reached = {x for y in rewriters for x in _graph.layers_within(y.layer)}
    for layer in _graph.layers_within(model):
        if isinstance(layer, AttentionLayer) and not _is_ours(layer):
            problems[layer.path] = f"is of your class {type(layer).__name__}"
        elif _is_ours(layer) and layer not in reached:
            problems[layer.path] = "is inside another layer"
    for path, problem in problems.items():
        raise ValueError(
            "`model` must have layers of cbam_keras that can be rewritten as "
            f'layers of Keras. Received: model "{model.name}", whose layer '
            f'"{path}" {problem}'
        )


class _Rewriter:
    """Computes what a layer does, by layers and operations of Keras."""

    def __init__(self, layer, step):
        self.layer = layer
        self.step = step
        # Layers of Keras by their names, shared by all calls of the layer.
        self.layers: dict[str, layers.Layer] = {}
        self._count: collections.Counter[str] = collections.Counter()

    def __call__(self, inputs):
        tensors = keras.tree.flatten(inputs)
        try:
            outputs = self._rewrite(inputs)
        except TypeError as error:
            # The error is that of an operation of Keras, which names no layer.
            if any(None in x.shape[1:] for x in tensors):
                error.add_note(
                    f'Layer "{self.step.path}" needs images of one size: give '
                    "the model an input of known height and width"
                )
            raise
        for node in _graph.nodes_between(tensors, [outputs]):
            if not isinstance(node.operation, layers.Layer):
                kind = re.sub(r"_\d+$", "", node.operation.name)
                self._count[kind] += 1
                name = f"{self.layer.name}_{kind}_{self._count[kind]}"
                node.operation.name = name
        return outputs

    def call_per_frame(self, inputs):
        """Does the same as `__call__` for a layer in `TimeDistributed`."""
        if "frames" not in self.layers:
            frame = keras.Input(inputs.shape[2:], dtype=inputs.dtype)
            model = keras.Model(frame, self(frame), name=self.layer.name)
            name = self.step.operation.name
            self.layers["frames"] = layers.TimeDistributed(model, name=name)
        return self.layers["frames"](inputs)

    def _rewrite(self, inputs):
        """Calls the layer, with layers of Keras where it applies weights."""
        layer = self.layer
        if not isinstance(layer, AttentionLayer):
            return layer.call(inputs)
        inputs = keras.tree.map_structure(
            lambda x: ops.cast(x, layer.compute_dtype), inputs
        )
        outputs = inputs
        for part in layer._gates():
            # The second gate sees the input only if the gates are parallel.
            is_parallel = getattr(layer, "order", "") == "parallel"
            with _graph.attributes(part, _Part(self, part).methods()):
                value = part._gate_value(inputs if is_parallel else outputs)
                outputs = part._apply_gate(outputs, value)
        return outputs


class _Part:
    """Replaces the methods of a gate that apply weights by layers of Keras."""

    def __init__(self, rewriter, part):
        self.layers = rewriter.layers
        self.part = part
        self.prefix = part.name
        if part is not rewriter.layer:
            half = part.name.removesuffix("_attention")
            self.prefix = f"{rewriter.layer.name}_{half}"
        # The last product has the name of the layer, so that what selects the
        # output of the layer by its name selects the same here.
        is_last = part is rewriter.layer._gates()[-1]
        self.product = rewriter.layer.name if is_last else self.prefix

    def methods(self):
        """Returns what replaces the methods and functions of the gate."""
        methods = {
            "_prepare": lambda inputs: inputs,
            "_dense": self.dense,
            "_dense_of_sum": self.dense_of_sum,
            "_convolve": self.convolve,
            "_normalize": self.normalize,
            "_normalize_units": self.normalize_units,
        }
        if not isinstance(self.part, AttentionGate):
            methods["_apply_gate"] = self.apply_gate
        for name in ("activation", "gate_activation"):
            function = getattr(self.part, name, None)
            is_layer = isinstance(function, layers.Layer)
            if not is_layer and function not in (None, activations.linear):
                methods[name] = functools.partial(self.activate, name, function)
        return methods

    def call(self, kind, name, x, weights=(), **options):
        """Calls a layer of Keras, which is made at the first call.

        `options` are the arguments of the layer's class, `kind`.
        """
        if name not in self.layers:
            options = {"dtype": self.part._gate_dtype, **options}
            layer = kind(name=name, **options)
            self.layers[name] = layer
            if weights:
                layer.build(x.shape)
                layer.trainable = weights[0].trainable
            for new, old in zip(layer.weights, weights, strict=True):
                new.assign(ops.convert_to_numpy(old))
        return self.layers[name](x)

    def dense(self, x, kernel, bias=None):
        return self.call_with_kernel(
            layers.Dense, "kernel", x, kernel, bias, units=kernel.shape[-1]
        )

    def dense_of_sum(self, tensors, kernel, bias=None):
        first, *further = [self.dense(x, kernel, bias) for x in tensors]
        # Without a start, `sum` adds to the integer 0.
        return sum(further, start=first)

    def convolve(self, x, kernel, bias=None, dilation_rate=1, strides=1):
        *size, _, filters = kernel.shape
        return self.call_with_kernel(
            getattr(layers, f"Conv{len(size)}D"),
            "conv",
            x,
            kernel,
            bias,
            filters=filters,
            kernel_size=size,
            strides=strides,
            padding="same" if strides == 1 else "valid",
            data_format="channels_last",
            dilation_rate=dilation_rate,
        )

    def call_with_kernel(self, kind, word, x, kernel, bias, **options):
        name = kernel.name.removesuffix("kernel")
        name = f"{self.prefix}_{name}{word}".removesuffix("_kernel")
        options |= {
            argument: getattr(self.part, argument)
            for argument in SHARED_ARGUMENTS
            if argument.endswith(("regularizer", "constraint"))
        }
        weights = [kernel] if bias is None else [kernel, bias]
        options["use_bias"] = bias is not None
        return self.call(kind, name, x, weights, **options)

    def normalize(self, x, batch_norm, training, mask=None):
        return self.call(
            layers.BatchNormalization,
            f"{self.prefix}_{batch_norm.name}",
            x,
            batch_norm.weights,
            momentum=batch_norm.momentum,
            epsilon=batch_norm.epsilon,
        )

    def normalize_units(self, x):
        # At a single position, this is layer normalization, which Keras cannot
        # export to ONNX under PyTorch.
        return self.call(
            layers.GroupNormalization,
            f"{self.prefix}_norm",
            x,
            [self.part.gamma, self.part.beta],
            groups=1,
            epsilon=1e-5,
        )

    def activate(self, name, function, x):
        name = f"{self.prefix}_{name}"
        return self.call(layers.Activation, name, x, activation=function)

    def apply_gate(self, inputs, value):
        kind = layers.Multiply if self.part._neutral else layers.Add
        dtype = self.part.dtype_policy
        return self.call(kind, self.product, [inputs, value], dtype=dtype)
