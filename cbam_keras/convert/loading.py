"""Loading PyTorch checkpoints into our networks and layers."""

import dataclasses
import os
from collections.abc import Mapping

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.convert.matching import CLASSIFIERS, gates_in, make_plan
from cbam_keras.convert.names import GATES
from cbam_keras.convert.torch_files import describe_source, read, to_numpy

# Options that weights do not show.
COMPUTED = (
    "order",
    "activation",
    "gate_activation",
    "dilation_rate",
    "identity_init",
    "combine",
)
NAMING_ADVICE = (
    " Weights are found by their names. If the checkpoint uses other names, "
    "rename them, and pass the mapping: "
    '{key.replace("old", "new"): x for key, x in state_dict.items()}'
)
# The classifier, ignored where the model has none.
CLASSIFIER = {
    f"{module}.{kind}" for module in CLASSIFIERS for kind in ("weight", "bias")
}


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of `load_torch_weights` for each weight, by PyTorch's names.

    Attributes:
        loaded: Tuple of strings, the weights that were loaded.
        unused: Tuple of strings, those of a classifier that the model does not
            have.

    Example:
        >>> print(Report(loaded=("bn1.bias",), unused=("fc.bias",)))
        Loaded (1): "bn1.bias". Unused (1): "fc.bias".
    """

    loaded: tuple[str, ...]
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        loaded = _list_with_count("Loaded", self.loaded)
        return f"{loaded} {_list_with_count('Unused', self.unused)}"

    __repr__ = __str__


@_checks.named
def load_torch_weights(
    model_or_layer: keras.layers.Layer,
    source: str | os.PathLike | Mapping[str, object],
) -> Report:
    """Loads the weights of a PyTorch checkpoint by their names.

    The networks of `cbam_keras.models` take checkpoints of the authors' code,
    torchvision, timm and luuuyi/CBAM.PyTorch. After an error, the model is
    unchanged.

    From torchvision they take ResNet, Wide ResNet, ResNeXt and MobileNetV2,
    from timm the residual networks with squeeze-and-excitation or CBAM;
    `EfficientNetLite0` takes the checkpoint of its package. A single attention
    layer takes the state dict of one attention module of these sources; `BAM`
    needs `combine="multiply"` to compute the same.

    Prefixes added by `DataParallel` or `torch.compile` are removed. Weights
    with other names are refused, and the error lists the missing and the unused
    names: pass a mapping with the missing ones. The names say which
    implementation the weights are from, and so in which order it stacks the
    pooled maps of a spatial gate. If no implementation fits, the error lists
    the names of one that stacks them like the layer.

    Args:
        model_or_layer: Model of `cbam_keras.models`, or one attention layer,
            which is built for inputs of rank 4 where necessary.
        source: Path of a checkpoint (`.pth`, `.pth.tar`, `.pt` or
            `.safetensors`), or a mapping of names to tensors or arrays. Both of
            PyTorch's formats are read, with `weights_only=True`: no code in
            them is executed. All names and shapes must match, but the weights
            of the classifier may be unused by a network built without one.
            Options that weights do not show, such as the order of the gates,
            must match, too.

    Returns:
        A `Report` of the weights that were loaded and unused.

    Raises:
        ValueError: If weights do not match; if they match but the model would
            compute something else; if the file is damaged or contains anything
            but tensors and plain values; or if layers have no known counterpart
            in PyTorch.
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
    target = model_or_layer
    is_network = isinstance(target, keras.Model)
    if not is_network and not gates_in(target):
        raise TypeError(
            "`model_or_layer` must be a network of cbam_keras.models, or one "
            f"of {', '.join(x.__name__ for x in GATES)}. Received: "
            f"{_checks.shown(target)}"
        )
    tensors = read(source)
    shapes = {name: tuple(np.shape(value)) for name, value in tensors.items()}
    input_shape = None
    if not is_network and not target.built:
        # A copy, so that the layer stays unbuilt if the weights do not fit.
        input_shape = _input_shape(target, shapes)
        target = type(target).from_config(target.get_config())
        target.build(input_shape)
    plan = make_plan(target, shapes)
    if not plan.slots:
        raise ValueError(
            f"{_describe(target)} must have weights. Build it, or call it on "
            "images, before you load weights."
        )
    if plan.unknown:
        raise ValueError(
            f"All layers with weights in {_describe(target)} must have known "
            "counterparts in PyTorch: those of the networks of "
            "cbam_keras.models do. "
            f"{_list_with_count('Unknown', plan.unknown)} "
            "Load the weights before adding your own layers (attention by "
            "`insert_attention`), or into one layer or model: "
            "load_torch_weights(model.get_layer(name), ...)."
        )
    ours = {slot.name: slot for slot in plan.slots}
    loaded = tuple(x for x in ours if x in shapes and ours[x].fits(shapes[x]))
    missing = {x: ours[x].shape for x in ours if x not in shapes}
    unused = {x: shapes[x] for x in shapes if x not in ours}
    mismatched = {
        x: f"(expected {ours[x].shape}, received {shapes[x]})"
        for x in ours
        if x not in missing and x not in loaded
    }
    has_unknown_names = bool(set(unused) - CLASSIFIER)
    if missing or mismatched or has_unknown_names or not loaded:
        # Names are both missing and unused: the checkpoint may have the same
        # weights by other names.
        advice = NAMING_ADVICE if missing and has_unknown_names else ""
        raise ValueError(
            f"The checkpoint does not fit {_describe(target)}. "
            f"{_list_with_count('Missing', missing, missing)} "
            f"{_list_with_count('Unused', unused, unused)} "
            f"{_list_with_count('Of another shape', mismatched, mismatched)} "
            f"Received: {describe_source(source)}.{advice}"
        )
    arrays = {name: to_numpy(tensors[name]) for name in loaded}
    difference = _find_difference(target, plan, shapes)
    if difference:
        raise ValueError(f"{difference} Received: {describe_source(source)}.")
    if input_shape is not None:
        model_or_layer.build(input_shape)
        plan = make_plan(model_or_layer, shapes)
    for slot in plan.slots:
        if slot.name in arrays:
            slot.assign(arrays[slot.name])
    return Report(loaded, tuple(unused))


def _input_shape(layer, shapes):
    """Returns the input shape to build a layer for, from its weights."""
    channels = None
    for gate in gates_in(layer):
        for path, name in gate.weights.items():
            # The dense layer that sees all channels.
            if path.endswith(("weighting", "squeeze", "squeeze_kernel")):
                weight = f"{name.removesuffix('.weight')}.weight"
                for inner in ("", *gate.modules):
                    channels = shapes.get(inner + weight, ())[1:2] or channels
                break
    if channels is None:
        probe = type(layer).from_config(layer.get_config())
        probe.build((None, 1, 1, 1))
        # The weights of the layer may be the same for all numbers of channels.
        channels = None if probe.input_spec.axes else (1,)
    if channels is None:
        raise ValueError(
            f"{_describe(layer)} must be built, since no name of the weights "
            "shows the number of channels. Build it first, layer.build(shape). "
            "Received: the names "
            f"{_checks.first_few([_checks.quoted(name) for name in shapes])}"
        )
    if layer.data_format == "channels_first":
        return (None, *channels, None, None)
    return (None, None, None, *channels)


def _find_difference(target, plan, names):
    """Returns a difference in the computation that weights do not show.

    `plan` is a `Matching`, `names` are those of the checkpoint. The result is
    text for an error, `""` without a difference.
    """
    differ = "the weights fit, but the predictions differ"
    subsampled = [
        layer.name.removesuffix("_subsample")
        for layer in getattr(target, "layers", [])
        if layer.name.endswith("_conv1_subsample")
    ]
    if subsampled:
        return (
            f"{_describe(target)} has strides in 1x1 convolutions "
            f'("{subsampled[0]}"), and all known PyTorch checkpoints of such '
            f"networks have them in the 3x3 ones: {differ}. Build it with "
            'downsample_in="3x3".'
        )
    for layer, gate in plan.attention.items():
        variables = {id(x) for x in layer.weights}
        if not any(
            x.name in names and id(x.variable) in variables for x in plan.slots
        ):
            continue
        # The defaults of our layers are what their authors compute.
        theirs = {**type(layer)().get_config(), **gate.options}
        ours = dict(layer.get_config())
        different = [x for x in COMPUTED if x in ours and ours[x] != theirs[x]]
        # The names of a gate alone do not imply the pools.
        if gate.pools and layer is not target:
            channel = getattr(layer, "channel_attention", layer)
            ours["pool_types"] = channel.pool_types
            theirs["pool_types"] = gate.pools
            if {*channel.pool_types} != {*gate.pools}:
                different.append("pool_types")
        if different:
            return (
                f"{_describe(layer)} has {_list_options(ours, different)}, "
                f"unlike that of the checkpoint: {differ}. Build it with "
                f"{_list_options(theirs, different)}."
            )
    return ""


def _list_options(options, names):
    """Returns some of the options as they are written in a call."""
    return ", ".join(f"{name}={options[name]!r}" for name in names)


def _describe(target: keras.layers.Layer) -> str:
    """Returns what errors call a model or a layer."""
    if isinstance(target, keras.Model):
        return f'model "{target.name}"'
    return f'{type(target).__name__} layer "{target.name}"'


def _list_with_count(label, names, details=None):
    """Returns the first of some names as text, with a detail after each."""
    if not names:
        return f"{label} (0)."
    texts = [f'"{x}" {details[x]}' if details else f'"{x}"' for x in names]
    first = _checks.first_few(texts, 6 if details else 3)
    return f"{label} ({len(names)}): {first}{'' if '...' in first else '.'}"
