"""Loading PyTorch checkpoints into our networks and layers."""

import collections
import dataclasses
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.convert.matching import (
    ATTENTION_LAYERS,
    Plan,
    gates_of,
    make_plan,
    match_by_shape,
    source_for,
)
from cbam_keras.convert.names import SQUEEZE_EXCITE
from cbam_keras.convert.torch_files import (
    describe_source,
    get_shape,
    read,
    to_numpy,
)
from cbam_keras.layers import ChannelAttention

# What all known implementations of CBAM compute; weights do not show it.
COMPUTED = {
    "order": "channel_first",
    "activation": "relu",
    "gate_activation": "sigmoid",
    "dilation_rate": 1,
    "identity_init": False,
    "combine": "logits",
}
# What is known to hold the weights of CBAM, in messages.
KNOWN_NAMES = (
    '"ChannelGate.mlp.1", "SpatialGate.spatial.conv", "channel.fc1", '
    '"spatial.conv.conv", "ca.fc1", "ca.fc.0", "sa.conv1"'
)
# The classifier, ignored where the model has none.
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
        return f"{_list_with_count('Loaded', self.loaded)} {self._problems()}"

    __repr__ = __str__

    def _problems(self):
        return (
            f"{_list_with_count('Missing', self.missing)} "
            f"{_list_with_count('Unused', self.unused)} "
            f"{_list_with_count('Of another shape', self.mismatched)}"
        )


def load_torch_weights(
    model_or_layer: keras.layers.Layer,
    source: str | os.PathLike | Mapping[str, Any],
    *,
    strict: bool = True,
) -> Report:
    """Loads the weights of a PyTorch checkpoint by their names.

    The networks of `cbam_keras.models` take checkpoints of the authors' code,
    torchvision, timm and luuuyi/CBAM.PyTorch. After an error, the model is
    unchanged.

    From torchvision they take ResNet, Wide ResNet and ResNeXt, from timm the
    same with squeeze-and-excitation or CBAM, also where `insert_attention`
    added the attention at the end of the residual branches; `EfficientNetLite0`
    takes those of its package. A single attention layer, or a model of one
    block, takes the state dict of one of their modules; `BAM` needs
    `combine="multiply"` to compute the same.

    Prefixes added by `DataParallel` or `torch.compile` are removed. The order
    of the pooled maps follows from the names. Attention of other names is found
    by the shapes of its kernels where each has that of a single weight in its
    block; its maps are in the order of the layer.

    Args:
        model_or_layer: Model of `cbam_keras.models`, or one attention layer,
            which is built for inputs of rank 4 where necessary.
        source: Path of a checkpoint (`.pth`, `.pth.tar`, `.pt` or
            `.safetensors`), or a mapping of names to tensors or arrays. Both of
            PyTorch's formats are read, with `weights_only=True`: no code in
            them is executed. A mapping may hold PyTorch tensors or NumPy
            arrays.
        strict: Boolean, whether all names and shapes must match. The
            classifier (`fc`) may be unused by a network built without one.
            Options that weights do not show, such as the order of the gates,
            must match, too. If `False`, the weights that match are loaded, the
            others are reported, and a warning names such options. Defaults to
            `True`.

    Returns:
        A `Report` of the weights that were loaded, missing, unused, and of
        another shape.

    Raises:
        ValueError: If weights do not match, or none does; if they match but
            the model would compute something else; if they are not finite, or
            variances negative; if the file does not exist, is damaged, or
            contains anything but tensors and plain values; or if layers have
            no known counterpart in PyTorch.
        TypeError: If `model_or_layer` is another layer, or `source` neither
            a path nor a mapping.
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
    target = model_or_layer
    is_network = isinstance(target, keras.Model)
    if not is_network and not isinstance(target, ATTENTION_LAYERS):
        raise TypeError(
            "`model_or_layer` must be a network of cbam_keras.models, or one "
            f"of {', '.join(x.__name__ for x in ATTENTION_LAYERS)}. Received: "
            f"{target!r}"
        )
    tensors = read(source)
    shapes = {name: get_shape(value) for name, value in tensors.items()}
    input_shape = None
    if not is_network and not target.built:
        # A copy, so that the layer stays unbuilt if the weights do not fit.
        input_shape = _input_shape(target, shapes)
        target = type(target).from_config(target.get_config())
        target.build(input_shape)
    plan = match_by_shape(make_plan(target, shapes), shapes)
    if plan.unknown and strict:
        raise ValueError(
            f"All layers with weights in {_describe(target)} must have known "
            "counterparts in PyTorch: those of the networks of "
            "cbam_keras.models and of their blocks do. "
            f"{_list_with_count('Unknown', plan.unknown)} "
            "Load the weights before adding your own layers, or into one "
            "layer or model: load_torch_weights(model.get_layer(name), ...)."
        )
    report = _compare(plan, shapes)
    unused = set(report.unused) - CLASSIFIER
    misfits = report.missing or report.mismatched or unused
    if not report.loaded or (strict and misfits):
        raise ValueError(
            f"The checkpoint does not fit {_describe(target)}. "
            f"{report._problems()} Received: {describe_source(source)}."
            + "".join(f" {hint}" for hint in _hints(plan, shapes, report))
        )
    arrays = {name: to_numpy(name, tensors[name]) for name in report.loaded}
    for name, array in arrays.items():
        wrong = ~np.isfinite(array)
        if name.endswith("running_var"):
            wrong |= array < 0
        if wrong.any():
            raise ValueError(
                "Weights must be finite numbers, and variances not negative. "
                f'Received: {describe_source(source)}, where "{name}" holds '
                f"{array[wrong].flat[0]}. Its training diverged, or the file "
                "is damaged: take an earlier checkpoint"
            )
    for difference in _differences(target, plan):
        if strict:
            raise ValueError(
                f"{difference} Received: {describe_source(source)}, "
                "strict=True. To load the weights nevertheless, pass "
                "strict=False."
            )
        _checks.warn(difference)
    if input_shape is not None:
        model_or_layer.build(input_shape)
        plan = match_by_shape(make_plan(model_or_layer, shapes), shapes)
    for slot in plan.slots:
        if slot.name in arrays:
            slot.assign(arrays[slot.name])
    return report


def _input_shape(
    layer: keras.layers.Layer, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int | None, ...]:
    """Returns the input shape to build a layer for, from its weights."""
    source, channels = source_for(layer, shapes), None
    if gates := gates_of(layer):
        for gate in gates:
            # The dense layer that sees all channels.
            part = gate.weights.get("weighting", gate.weights.get("squeeze"))
            for inner in ("", *gate.modules):
                weight = shapes.get(f"{inner}{part}.weight", ())
                channels = weight[1:2] or channels
    elif source is not None:
        kernel = source.mlp["squeeze_kernel"]
        for name in (kernel, source.channel + kernel):
            channels = shapes.get(name, ())[1:2] or channels
    if channels is None:
        channels = _channels_by_shape(layer, shapes)
    if channels is None:
        raise ValueError(
            f"{_describe(layer)} is not built, and the weights do not show "
            'the number of channels by a name such as "mlp.1.weight" or '
            '"channel.fc1.weight". Build it first, layer.build(shape). To '
            "load one module of a network, pass its entries without their "
            'prefix, such as "layer1.0.cbam.". Received: the names '
            f"{_checks.first_few([_checks.quoted(name) for name in shapes])}"
        )
    if layer.data_format == "channels_first":
        return (None, *channels, None, None)
    return (None, None, None, *channels)


def _channels_by_shape(
    layer: keras.layers.Layer, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int] | None:
    """Returns the channels that two dense layers, one after another, have.

    If the weights of the layer are the same for all counts, it is 1.
    """
    dense = {x[:2] for x in shapes.values() if len(x) > 1 == math.prod(x[2:])}
    counts = {max(x) for x in dense if x[::-1] in dense}
    if len(counts) == 1:
        return (counts.pop(),)
    probe = type(layer).from_config(layer.get_config())
    probe.build((None, 1, 1, 1))
    return None if probe.input_spec.axes else (1,)


def _compare(plan: Plan, shapes: Mapping[str, tuple[int, ...]]) -> Report:
    ours = {slot.name: slot for slot in plan.slots}
    shared = [name for name in ours if name in shapes]
    return Report(
        tuple(x for x in shared if ours[x].fits(shapes[x])),
        tuple(x for x in ours if x not in shapes),
        tuple(x for x in shapes if x not in ours),
        tuple(
            (x, ours[x].shape, shapes[x])
            for x in shared
            if not ours[x].fits(shapes[x])
        ),
    )


def _differences(target: keras.layers.Layer, plan: Plan) -> Iterator[str]:
    """Yields differences in what is computed that weights do not show."""
    differ = "the weights fit, but the predictions differ"
    subsampled = [
        layer.name.removesuffix("_subsample")
        for layer in getattr(target, "layers", [])
        if layer.name.endswith("_conv1_subsample")
    ]
    if subsampled:
        yield (
            f"{_describe(target)} has strides in 1x1 convolutions "
            f'("{subsampled[0]}"), and all known PyTorch checkpoints of such '
            f"networks in the 3x3 ones: {differ}. Build it with "
            'downsample_in="3x3".'
        )
    for layer in plan.attention:
        source, gates, config = plan.source, gates_of(layer), layer.get_config()
        theirs = COMPUTED
        if gates:
            # The defaults of these layers are what their authors compute.
            theirs = {**type(layer)().get_config(), **gates[0].options}
        elif source is None and not plan.by_shape:
            continue
        names = [x for x in COMPUTED if x in config]
        settings = {x: config[x] for x in names if config[x] != theirs[x]}
        options = _list_options({x: theirs[x] for x in settings})
        advice = f"attention={type(layer).__name__}({options})"
        if source is not None and not gates:
            advice = (
                f"attention={source.attention} (in `insert_attention`: "
                "identity=False)"
            )
            gate = getattr(layer, "channel_attention", layer)
            # The names of a gate alone do not imply the pools.
            pools = source.pools if layer is not target else None
            if isinstance(gate, ChannelAttention) and pools:
                if set(gate.pool_types) != set(pools):
                    settings["pool_types"] = gate.pool_types
        if settings:
            yield (
                f"{_describe(layer)} has {_list_options(settings)}, unlike "
                f"that of the checkpoint: {differ}. Build it with {advice}."
            )
            return


def _list_options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _hints(
    plan: Plan, theirs: Mapping[str, tuple[int, ...]], report: Report
) -> Iterator[str]:
    """Yields sentences on how to build what the weights are for."""
    ours = {slot.name: slot.shape for slot in plan.slots}
    if not ours:
        yield "The model has no weights yet: build it, or call it on images."
        return
    is_alone = "" in plan.attention.values()
    if is_alone and _depths(theirs):
        yield (
            "To load one module of a network, pass its entries without their "
            'prefix, such as "layer1.0.cbam.".'
        )
        return
    if (depths := _depths(theirs)) != (expected := _depths(ours)):
        yield f"The source has stages of {depths} blocks, the model {expected}."
        return
    ids = {id(v) for layer in plan.attention for v in layer.weights}
    gate_slots = [slot for slot in plan.slots if id(slot.variable) in ids]
    has_kernel = any(len(x) > 2 and x[:2] == (1, 2) for x in theirs.values())
    if plan.source in (None, SQUEEZE_EXCITE) and has_kernel and gate_slots:
        if report.missing and report.unused:
            kernels = [
                _checks.first_few(list(dict.fromkeys(x for x in y if x[1:])), 6)
                for y in (
                    [slot.shape for slot in gate_slots],
                    [theirs[name] for name in report.unused],
                )
            ]
            yield (
                f"Attention is found by the names {KNOWN_NAMES}, or where each "
                f"of the shapes {kernels[0]} is that of one weight in a block; "
                f"unused are {kernels[1]}. Build the layer with the widths and "
                "the kernel size of the source, or rename its weights."
            )
    elif plan.source is None:
        names = {slot.name for slot in gate_slots}
        if names and not is_alone and names.isdisjoint(theirs):
            yield (
                "The source has no attention weights: build the model with "
                "attention=None and call `insert_attention` afterwards."
            )
    elif (report.unused or not is_alone) and any(
        re.search(r"(^|\.)(se|cbam|ca|sa)\.|attention|Gate", name)
        for name in ours.keys() ^ theirs.keys()
    ):
        text = "another attention than the model: build it with attention="
        text += plan.source.attention
        others = set(report.unused) - CLASSIFIER
        if _depths(theirs) and others and not _depths(others):
            modules = sorted({name.split(".")[0] for name in others})
            text = (
                f"attention outside of the blocks alone: {', '.join(modules)}"
            )
        yield f"The source has {text}."
    if report.missing and all(x.endswith("bias") for x in report.missing):
        yield "The source has no such biases: build it with use_bias=False."
    classes, expected_classes = (
        shapes.get("fc.weight", ())[:1] for shapes in (theirs, ours)
    )
    if classes and expected_classes and classes != expected_classes:
        yield (
            f"The source has {classes[0]} classes: build the model with "
            f"classes={classes[0]}, or leave the classifier out with "
            "include_top=False or as it is with strict=False."
        )


def _depths(names: Iterable[str]) -> list[int]:
    """Returns the number of blocks in each stage of a residual network."""
    matches = (re.match(r"layer(\d+)\.\d+\.", name) for name in names)
    blocks = sorted({match[0]: match[1] for match in matches if match}.items())
    return list(collections.Counter(stage for _, stage in blocks).values())


def _describe(target: keras.layers.Layer) -> str:
    if isinstance(target, keras.Model):
        return f'model "{target.name}"'
    return f'{type(target).__name__} layer "{target.name}"'


def _list_with_count(label: str, items: Sequence) -> str:
    """Returns names, or what is mismatched, as text."""
    if not items:
        return f"{label} (0)."
    texts = [
        f'"{item}"'
        if isinstance(item, str)
        else f'"{item[0]}" (expected {item[1]}, received {item[2]})'
        for item in items
    ]
    first = _checks.first_few(texts)
    return f"{label} ({len(items)}): {first}{'' if '...' in first else '.'}"
