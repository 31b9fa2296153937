"""The feature map of a network that is explained."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from cbam_keras import _checks, _inspection
from cbam_keras._inspection import Step


@dataclasses.dataclass(frozen=True)
class Target:
    """A feature map, the output of an operation.

    A layer may be called several times: `call` counts, from 1, the calls that
    return a map of this shape. `channel_axis` is the axis of the channels;
    `input_axes` are the axes of the input that the others but the batch are.
    """

    operation: Any
    call: int
    shape: tuple
    dtype: str
    channel_axis: int
    input_axes: tuple[int, ...]


def find_target(
    steps: Sequence[Step], given: Any, output: Any, layer: Any
) -> Target:
    """Returns the feature map of a layer, or the last one.

    Args:
        steps: The steps of a model, traced with images of known size.
        given: The input tensor.
        output: The output tensor, which is computed from the feature map.
        layer: Name or layer, or `None` for the last feature map with several
            channels and positions.

    Raises:
        ValueError: If there is no such layer, if it has no feature map with
            positions or does not lead to the output.
        TypeError: If `layer` is of a wrong type.
    """
    axes = _axes_of_maps(steps, given)
    leading = _leading_to(steps, output)
    maps = [step for step in steps if step in axes]
    needed = _needed(_inspection.input_positions(steps, given))
    if layer is None:
        maps = [
            step
            for step in maps
            if id(step) in leading and step.outputs[0] is not output
        ]
        # A single channel is the map of a spatial gate rather than a feature
        # map, except in toy networks.
        several = [
            step
            for step in maps
            if step.outputs[0].shape[axes[step].channel] > 1
        ]
        if not maps:
            raise ValueError(
                f"The model must have a feature map with positions, {needed}, "
                "on the way to its output. Received: a model whose layers "
                f"return {_shapes(steps)}. Grad-CAM explains convolutional "
                "networks; to permute axes, use layers.Permute rather than "
                "Lambda or a layer of your own"
            )
        last = (several or maps)[-1]
        return _target(steps, last, axes[last])
    named = _named(steps, layer, maps)
    wanted = [step for step in named if step in maps]
    if not wanted:
        raise ValueError(
            f"`layer` must return a feature map with positions, {needed}. "
            f"Received: layer={_name(layer)!r}, which returns "
            f"{_shapes(named)}. The last feature map is {_last(maps)}"
        )
    leads = [step for step in wanted if id(step) in leading]
    if not leads:
        raise ValueError(
            "`layer` must lead to the output that is explained. Received: "
            f"layer={_name(layer)!r}, from which no path leads there"
        )
    return _target(steps, leads[-1], axes[leads[-1]])


def _name(layer):
    return layer if isinstance(layer, str) else layer.name


class _Axes(NamedTuple):
    """The axis of the channels, and the axes of the input of the others."""

    channel: int
    of_input: tuple[int, ...]


def _axes_of_maps(steps, given):
    """Returns the axes of each feature map that has positions, by its step."""
    formats = _inspection.data_formats(steps)
    followed = _inspection.followed_axes(steps, given)
    known = _inspection.input_positions(steps, given)
    found = {}
    for step in steps:
        if len(step.outputs) != 1 or "float" not in step.outputs[0].dtype:
            continue
        (tensor,) = step.outputs
        first = formats[id(step.operation)] == "channels_first"
        channel = 1 if first else len(tensor.shape) - 1
        axes = followed.get(id(tensor))
        if axes is not None:
            if known is not None:
                others = [i for i, x in enumerate(axes) if x not in known]
                # The batch and the channels.
                channel = others[-1] if len(others) == 2 else 0
            axes = tuple(x for i, x in enumerate(axes) if i not in (0, channel))
        elif known is not None:
            # In the order of the input, as after Reshape layers.
            axes = known
        sides = tensor.shape[1:channel] + tensor.shape[channel + 1 :]
        if (
            axes
            and None not in axes
            and len(axes) + 2 == len(tensor.shape)
            and all(side is not None and side > 1 for side in sides)
        ):
            found[step] = _Axes(channel, axes)
    return found


def _needed(positions):
    """Returns in words the feature map that Grad-CAM needs."""
    count = 2 if positions is None else len(positions)
    letters = {1: "l", 3: "d, h, w"}.get(count, "h, w")
    sides = " x ".join("2" * (letters.count(",") + 1))
    return f"(B, {letters}, C) of {sides} or more"


def _target(steps, step, axes):
    (tensor,) = step.outputs
    alike = [
        x
        for x in steps
        if x.operation is step.operation and x.outputs[0].shape == tensor.shape
    ]
    return Target(
        step.operation,
        alike.index(step) + 1,
        tuple(tensor.shape),
        tensor.dtype,
        axes.channel,
        axes.of_input,
    )


def _leading_to(steps, output):
    """Returns the ids of the steps that an output is computed from."""
    needed, leading = {id(output)}, set()
    for step in reversed(steps):
        if any(id(x) in needed for x in step.outputs):
            leading.add(id(step))
            needed.update(id(x) for x in step.inputs)
    return leading


def _named(steps, layer, maps):
    """Returns the steps of a layer, given by its name or itself."""
    if isinstance(layer, keras.layers.Layer):
        inside = {id(x) for x in _inspection.layers_within(layer)}
        named = [step for step in steps if id(step.operation) in inside]
        if not named:
            raise ValueError(
                "`layer` must be a layer of the model. Received: layer "
                f'"{layer.name}" of class {type(layer).__name__}, which is '
                "not in its graph"
            )
        return named
    if not isinstance(layer, str):
        raise TypeError(
            "`layer` must be the name of a layer, or the layer. Received: "
            f"layer={layer!r}"
        )
    exact = [step for step in steps if step.path == layer]
    if exact:
        return exact
    named = [step for step in steps if step.path.endswith(f"/{layer}")]
    if len({id(step.operation) for step in named}) > 1:
        paths = [f'"{step.path}"' for step in named]
        raise ValueError(
            "`layer` must be the name of one layer of the model. Received: "
            f"layer={layer!r}, of which there are {len(paths)}. Give one of "
            f"{_checks.first_few(paths, 5)}"
        )
    # The name of a nested model stands for its output.
    named = named or [x for x in steps if f"/{layer}/" in f"/{x.path}"]
    if named:
        return named
    paths = [step.path for step in steps]
    near = _checks.did_you_mean(
        layer, dict.fromkeys(x for path in paths for x in _endings(path)), 5
    )
    raise ValueError(
        "`layer` must be the name of a layer of the model. Received: "
        f"layer={layer!r}. The last feature map is {_last(maps)}{near}"
    )


def _endings(path):
    """Returns the path of a layer and its name, which both identify it."""
    return path, path.rpartition("/")[2]


def _last(maps):
    return f'"{maps[-1].path}"' if maps else "none: there is none"


def _shapes(steps):
    shapes = dict.fromkeys(
        str(tuple(x.shape)) for step in steps for x in step.outputs
    )
    return _checks.first_few(list(shapes), 4)
