"""Matching variables of Keras with names of weights in PyTorch."""

import dataclasses
import re
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from keras import layers

from cbam_keras.convert.names import (
    BATCH_NORM,
    BLOCK,
    CONVOLUTION,
    GATES,
    LITE_BLOCK,
    LITE_NETWORK,
    NETWORK,
    GateKeys,
)

_MOBILE_CLASSIFIER = "classifier.1"
# The modules of the classifiers of all networks.
CLASSIFIERS = (
    NETWORK["predictions"],
    LITE_NETWORK["predictions"],
    _MOBILE_CLASSIFIER,
)
_PART = re.compile(rf"stage(\d+)_block(\d+)_({'|'.join(BLOCK)}|attention)")


@dataclasses.dataclass(frozen=True)
class Slot:
    """A variable and the name of its value in PyTorch."""

    name: str
    variable: keras.Variable
    # For a spatial kernel, the index in PyTorch of each of our pooled maps.
    maps: list[int] | None = None
    # A depthwise kernel has its last two axes in PyTorch's order already.
    depthwise: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value in PyTorch."""
        shape = tuple(self.variable.shape)
        if len(shape) < 2:
            return shape
        last = shape[-2:] if self.depthwise else shape[:-3:-1]
        return (*last, *shape[:-2])

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Returns whether a value of `shape` can be assigned."""
        # In PyTorch, dense layers may be 1x1 convolutions, and vectors may have
        # the shape (C, 1, 1).
        ones = 0
        if len(self.shape) < 3:
            ones = len(shape) - len(self.shape)
        return shape == self.shape + (1,) * ones

    def assign(self, value: np.ndarray) -> None:
        """Assigns a value in PyTorch's layout."""
        value = value.reshape(self.shape)
        if value.ndim > 1:
            last = (0, 1) if self.depthwise else (1, 0)
            value = value.transpose(*range(2, value.ndim), *last)
        if self.maps is not None:
            value = value[..., self.maps, :]
        self.variable.assign(value)


@dataclasses.dataclass(frozen=True)
class Matching:
    """Which value belongs to which variable, by name."""

    slots: list[Slot]
    # The attention layers, and the implementations that their weights are from.
    attention: dict[keras.layers.Layer, GateKeys]
    # Layers with weights that have no known counterpart.
    unknown: list[str]


def make_plan(target: keras.layers.Layer, names: Collection[str]) -> Matching:
    """Returns which variables of a built target get the values of `names`."""
    plan = Matching([], {}, [])
    if not isinstance(target, keras.Model):
        plan.attention[target], of_gate = _best_gate(target, names)
        plan.slots.extend(of_gate)
        return plan
    weighted = [layer for layer in target.layers if layer.weights]
    ours = [layer.name for layer in weighted]
    if not any(isinstance(layer, layers.DepthwiseConv2D) for layer in weighted):
        modules = _modules(ours)
    elif "head_conv" not in ours:
        # A MobileNet has layers of the same names, but is not residual.
        modules = {}
    elif "features.0.0.weight" in names:
        modules = _mobile_modules(ours, names)
    else:
        modules = _lite_modules(ours)
    for layer in weighted:
        module = modules.get(layer.name)
        slots = None if module is None else _slots(layer, module)
        if module is not None and gates_in(layer):
            plan.attention[layer], slots = _best_gate(layer, names, module)
        if slots is None:
            plan.unknown.append(layer.name)
            slots = [Slot(x.path, x) for x in layer.weights]
        plan.slots.extend(slots)
    return plan


def _modules(ours: list[str]) -> dict[str, str]:
    """Returns PyTorch's modules by the names of our layers.

    The module of an attention layer is the block that contains it.
    """
    modules = {name: NETWORK[name] for name in ours if name in NETWORK}
    for name in ours:
        match = _PART.fullmatch(name)
        if match:
            stage, block, part = match.groups()
            module = f"layer{stage}.{int(block) - 1}."
            modules[name] = module + BLOCK.get(part, "")
    return modules


def _lite_modules(ours: list[str]) -> dict[str, str]:
    """Returns the modules of EfficientNet-Lite by the names of our layers."""
    names = {name: LITE_NETWORK[name] for name in ours if name in LITE_NETWORK}
    blocks: dict[str, int] = {}
    for name in ours:
        block, _, part = name.rpartition("_")
        if part in LITE_BLOCK and block.startswith("stage"):
            number = blocks.setdefault(block, len(blocks))
            names[name] = f"_blocks.{number}.{LITE_BLOCK[part]}"
    return names


def _mobile_modules(ours: list[str], names: Collection[str]) -> dict[str, str]:
    """Returns the modules of MobileNetV2 by the names of our layers.

    Torchvision has a module for each convolution with its normalization and
    activation. In the authors' code of coordinate attention, and what it is
    derived from, these are three modules of one sequence.
    """
    is_torchvision = "features.18.0.weight" in names
    head = "features.18" if is_torchvision else "conv"
    modules = {
        "stem_conv": "features.0.0",
        "stem_bn": "features.0.1",
        "head_conv": f"{head}.0",
        "head_bn": f"{head}.1",
        "predictions": _MOBILE_CLASSIFIER,
    }
    blocks = [name.removesuffix("_conv3") for name in ours if "_conv3" in name]
    for number, block in enumerate(blocks, 1):
        sequence = f"features.{number}.conv"
        # The index in the sequence.
        place = 0
        for part in ("conv1", "conv2", "attention", "conv3"):
            name = f"{block}_{part}"
            if name not in ours:
                continue
            module = f"{sequence}.{place}"
            bn = name.replace("conv", "bn")
            if part == "attention":
                modules[name] = f"{module}."
                place += 1
            elif is_torchvision and part != "conv3":
                modules[name] = f"{module}.0"
                modules[bn] = f"{module}.1"
                place += 1
            else:
                modules[name] = module
                modules[bn] = f"{sequence}.{place + 1}"
                place += 3
    return modules


def _slots(layer: keras.layers.Layer, module: str) -> list[Slot] | None:
    """Returns the slots of one layer of a network, `None` if unknown."""
    if isinstance(layer, layers.BatchNormalization):
        return list(_variables(layer, BATCH_NORM, f"{module}."))
    if isinstance(layer, layers.DepthwiseConv2D):
        return [Slot(f"{module}.weight", layer.kernel, depthwise=True)]
    if isinstance(layer, (layers.Conv2D, layers.Dense)):
        return list(_variables(layer, CONVOLUTION, f"{module}."))
    return None


def gates_in(layer: keras.layers.Layer) -> tuple[GateKeys, ...]:
    """Returns the sets of names in `GATES` for a layer; none for others."""
    kinds = [kind for kind in type(layer).__mro__ if kind in GATES]
    return GATES[kinds[0]] if kinds else ()


def _best_gate(layer, names, module=""):
    """Returns the implementation whose names fit best, and the slots.

    `module` is that of the block with the layer, `""` for a single layer. If no
    implementation fits, the result is one that stacks the pooled maps as the
    layer does: an error lists its names, and weights that are renamed to them
    are taken in that order.
    """
    spatial = getattr(layer, "spatial_attention", layer)
    maps = tuple(getattr(spatial, "pool_types", ()))
    # `max` takes the first of several that fit equally well.
    gates = sorted(gates_in(layer), key=lambda gate: gate.maps != maps)
    candidates = []
    for gate in gates:
        prefixes = [*gate.modules, ""]
        if not module:
            # The state dict of the attention module itself has no prefix.
            prefixes.reverse()
        for prefix in prefixes:
            slots = list(_gate_slots(layer, gate, module + prefix))
            candidates.append((gate, slots))

    def count_fitting(candidate):
        _, slots = candidate
        return sum(slot.name in names for slot in slots)

    return max(candidates, key=count_fitting)


def part_at(layer: keras.layers.Layer, path: str) -> tuple[object, object]:
    """Returns the object that holds a part of a layer, and the part itself.

    The path has attributes, keys of dictionaries and indices of lists, such as
    `"channel_attention.squeeze_kernel"` or `"kernels.hw"`.
    """
    holder: Any = layer
    part: Any = layer
    for key in path.split("."):
        holder = part
        if isinstance(part, dict):
            part = part[key]
        elif key.isdigit():
            part = part[int(key)]
        else:
            part = getattr(part, key)
    return holder, part


def _gate_slots(layer, gate, prefix):
    """Yields the slots of an attention layer, by the names of `gate`."""
    not_named = {id(variable): variable for variable in layer.weights}
    for path, name in gate.weights.items():
        holder, part = part_at(layer, path)
        if part is None:
            continue
        if isinstance(part, layers.BatchNormalization):
            slots = list(_variables(part, BATCH_NORM, f"{prefix}{name}."))
        elif isinstance(part, tuple):
            kernel, bias = part
            slots = [
                Slot(f"{prefix}{name}.weight", kernel),
                Slot(f"{prefix}{name}.bias", bias),
            ]
        elif gate.maps and path.split(".")[-1] == "kernel":
            # A spatial kernel, whose maps are stacked in their order.
            if {*holder.pool_types} != {*gate.maps}:
                # A kernel for other maps may have the same shape.
                continue
            maps = [gate.maps.index(kind) for kind in holder.pool_types]
            slots = [Slot(prefix + name, part, maps)]
        else:
            slots = [Slot(prefix + name, part)]
        for slot in slots:
            del not_named[id(slot.variable)]
        yield from slots
    # The module lacks these, for example the weights of a third spatial axis.
    yield from (Slot(x.path, x) for x in not_named.values())


def _variables(layer, table, prefix):
    """Yields the slots of a Keras layer; `table` names its variables."""
    for attribute, name in table.items():
        variable = getattr(layer, attribute)
        if variable is not None:
            yield Slot(prefix + name, variable)
