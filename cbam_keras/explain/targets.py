"""The feature map of a network that is explained."""

import dataclasses
from typing import Any

import keras

from cbam_keras import _checks, _inspection
from cbam_keras._inspection import Graph, Step


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """The output of a step that has positions and channels.

    `channel` is the axis of the channels, and `input_axes` are the axes of
    the input that the others but the batch are.
    """

    step: Step
    channel: int
    input_axes: tuple[int, ...]

    @property
    def tensor(self) -> Any:
        return self.step.outputs[0]


def find_target(graph: Graph, output: Any, layer: Any) -> FeatureMap:
    """Returns the feature map of a layer that leads to an output.

    Without a layer it is the last one with several channels.
    """
    maps = _feature_maps(graph)
    count = 2 if graph.positions is None else len(graph.positions)
    letters = {1: "l", 3: "d, h, w"}.get(count, "h, w")
    needed = f"(B, {letters}, C) of {' x '.join(['2'] * count)} or more"
    last = f'"{maps[-1].step.path}"' if maps else "none: there is none"
    leading = graph.ancestors(output)
    if layer is None:
        found = [
            x for x in maps if x.step in leading and x.tensor is not output
        ]
        if not found:
            raise ValueError(
                f"The model must have a feature map with positions, {needed}, "
                "on the way to its output. Received: a model whose layers "
                f"return {_shapes(graph.steps)}. Grad-CAM explains "
                "convolutional networks; to permute axes, use layers.Permute "
                "rather than Lambda or a layer of your own"
            )
        # A single channel is the map of a spatial gate rather than a feature
        # map, except in toy networks.
        several = [x for x in found if x.tensor.shape[x.channel] > 1]
        return (several or found)[-1]
    steps = _named(graph.steps, layer, last)
    found = [x for x in maps if x.step in steps and x.step in leading]
    if not found:
        name = layer.name if isinstance(layer, keras.layers.Layer) else layer
        raise ValueError(
            f"`layer` must return a feature map with positions, {needed}, on "
            "the way to the output that is explained. Received: "
            f"layer={name!r}, which returns {_shapes(steps)}. The last feature "
            f"map is {last}"
        )
    return found[-1]


def _feature_maps(graph):
    """Returns the feature maps of several positions along each axis."""
    found = []
    for step in graph.steps:
        if len(step.outputs) != 1 or "float" not in step.outputs[0].dtype:
            continue
        shape = step.outputs[0].shape
        first = graph.data_format(step.operation) == "channels_first"
        channel = 1 if first else len(shape) - 1
        axes = graph.axes(step.outputs[0])
        if axes is None:
            # In the order of the input, as after Reshape layers.
            axes = graph.positions
        else:
            if graph.positions is not None:
                others = [x for x in axes if x not in graph.positions]
                # The batch and the channels.
                channel = axes.index(others[-1]) if len(others) == 2 else 0
            axes = tuple(x for i, x in enumerate(axes) if i not in (0, channel))
        sides = shape[1:channel] + shape[channel + 1 :]
        if (
            axes
            and None not in axes
            and len(axes) + 2 == len(shape)
            and all(side is not None and side > 1 for side in sides)
        ):
            found.append(FeatureMap(step, channel, axes))
    return found


def _named(steps, layer, last):
    """Returns the steps of a layer, found by its name or itself."""
    if isinstance(layer, keras.layers.Layer):
        inside = {id(x) for x in _inspection.layers_within(layer)}
        named = [step for step in steps if id(step.operation) in inside]
        layer = layer.name
    elif not isinstance(layer, str):
        raise TypeError(
            "`layer` must be the name of a layer, or the layer. Received: "
            f"layer={layer!r}"
        )
    else:
        named = [step for step in steps if step.path == layer]
        named = named or [x for x in steps if x.path.endswith(f"/{layer}")]
        if len({id(step.operation) for step in named}) > 1:
            paths = [f'"{step.path}"' for step in named]
            raise ValueError(
                "`layer` must be the name of one layer of the model. Received: "
                f"layer={layer!r}, of which there are {len(paths)}. Give one "
                f"of {_checks.first_few(paths, 5)}"
            )
        # The name of a nested model stands for its output.
        named = named or [x for x in steps if f"/{layer}/" in f"/{x.path}"]
    if not named:
        paths = [step.path for step in steps]
        names = dict.fromkeys([*paths, *(x.split("/")[-1] for x in paths)])
        raise ValueError(
            "`layer` must be a layer of the model, or its name. Received: "
            f"layer={layer!r}. The last feature map is {last}"
            f"{_checks.did_you_mean(layer, names, 5)}"
        )
    return named


def _shapes(steps):
    shapes = dict.fromkeys(
        str(tuple(x.shape)) for step in steps for x in step.outputs
    )
    return _checks.first_few(list(shapes), 4)
