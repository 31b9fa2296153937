"""The feature map of a network that is explained."""

import dataclasses
from typing import Any, NamedTuple

import keras

from cbam_keras import _checks, _inspection
from cbam_keras._inspection import Graph


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


def find_target(graph: Graph, output: Any, layer: Any) -> Target:
    """Returns the feature map of a layer, or the last one.

    Args:
        graph: The graph of a model, traced with images of known size.
        output: The output tensor, which is computed from the feature map.
        layer: Name or layer, or `None` for the last feature map with several
            channels and positions.

    Raises:
        ValueError: If there is no such layer, if it has no feature map with
            positions or does not lead to the output.
        TypeError: If `layer` is of a wrong type.
    """
    axes = _axes_of_maps(graph)
    maps = [step for step in graph.steps if step in axes]
    leading = graph.ancestors(output)
    count = 2 if graph.positions is None else len(graph.positions)
    letters = {1: "l", 3: "d, h, w"}.get(count, "h, w")
    needed = f"(B, {letters}, C) of {' x '.join(['2'] * count)} or more"
    if layer is None:
        steps = [
            step
            for step in maps
            if step in leading and step.outputs[0] is not output
        ]
        if not steps:
            raise ValueError(
                f"The model must have a feature map with positions, {needed}, "
                "on the way to its output. Received: a model whose layers "
                f"return {_shapes(graph.steps)}. Grad-CAM explains "
                "convolutional networks; to permute axes, use layers.Permute "
                "rather than Lambda or a layer of your own"
            )
        # A single channel is the map of a spatial gate rather than a feature
        # map, except in toy networks.
        several = [
            step
            for step in steps
            if step.outputs[0].shape[axes[step].channel] > 1
        ]
        step = (several or steps)[-1]
    else:
        name = layer.name if isinstance(layer, keras.layers.Layer) else layer
        last = f'"{maps[-1].path}"' if maps else "none: there is none"
        named = _named(graph.steps, layer, last)
        steps = [step for step in named if step in axes]
        if not steps:
            raise ValueError(
                f"`layer` must return a feature map with positions, {needed}. "
                f"Received: layer={name!r}, which returns {_shapes(named)}. "
                f"The last feature map is {last}"
            )
        steps = [step for step in steps if step in leading]
        if not steps:
            raise ValueError(
                "`layer` must lead to the output that is explained. Received: "
                f"layer={name!r}, from which no path leads there"
            )
        step = steps[-1]
    (tensor,) = step.outputs
    same = [
        other
        for other in graph.steps
        if other.operation is step.operation
        and other.outputs[0].shape == tensor.shape
    ]
    return Target(
        step.operation,
        same.index(step) + 1,
        tuple(tensor.shape),
        tensor.dtype,
        axes[step].channel,
        axes[step].of_input,
    )


class _Axes(NamedTuple):
    """The axis of the channels, and the axes of the input of the others."""

    channel: int
    of_input: tuple[int, ...]


def _axes_of_maps(graph):
    """Returns the axes of each feature map that has positions, by its step."""
    positions = graph.positions
    axes_of_maps = {}
    for step in graph.steps:
        if len(step.outputs) != 1 or "float" not in step.outputs[0].dtype:
            continue
        (tensor,) = step.outputs
        first = graph.data_format(step.operation) == "channels_first"
        channel = 1 if first else len(tensor.shape) - 1
        axes = graph.axes(tensor)
        if axes is None:
            # In the order of the input, as after Reshape layers.
            axes = positions
        else:
            if positions is not None:
                others = [i for i, x in enumerate(axes) if x not in positions]
                # The batch and the channels.
                channel = others[-1] if len(others) == 2 else 0
            axes = tuple(x for i, x in enumerate(axes) if i not in (0, channel))
        sides = tensor.shape[1:channel] + tensor.shape[channel + 1 :]
        if (
            axes
            and None not in axes
            and len(axes) + 2 == len(tensor.shape)
            and all(side is not None and side > 1 for side in sides)
        ):
            axes_of_maps[step] = _Axes(channel, axes)
    return axes_of_maps


def _named(steps, layer, last):
    """Returns the steps of a layer, found by its name or itself."""
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
    if not named:
        names = [
            name
            for step in steps
            for name in (step.path, step.path.rpartition("/")[2])
        ]
        raise ValueError(
            "`layer` must be the name of a layer of the model. Received: "
            f"layer={layer!r}. The last feature map is {last}"
            f"{_checks.did_you_mean(layer, dict.fromkeys(names), 5)}"
        )
    return named


def _shapes(steps):
    shapes = dict.fromkeys(
        str(tuple(x.shape)) for step in steps for x in step.outputs
    )
    return _checks.first_few(list(shapes), 4)
