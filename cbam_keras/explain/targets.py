"""The feature map of a network that is explained."""

import dataclasses
import math

import keras

from cbam_keras import _checks, _graph
from cbam_keras._graph import Graph, Step

FOLLOWED = (
    "If a Lambda or custom layer reorders axes (layers.Permute is followed), "
    "explain a model that begins with the output of that layer: "
    "keras.Model(model.get_layer(name).output, model.output)"
)


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """The output of a step that has positions and channels."""

    step: Step
    # The axis of the channels.
    channel: int
    # For each other axis, in order, the axis of the image that it is.
    input_axes: tuple[int, ...]

    @property
    def tensor(self) -> keras.KerasTensor:
        """The output itself."""
        return self.step.outputs[0]

    @property
    def sides(self) -> tuple[int, ...]:
        """The number of positions along each axis."""
        shape = self.tensor.shape
        return shape[1 : self.channel] + shape[self.channel + 1 :]


def find_target(
    graph: Graph,
    output: keras.KerasTensor,
    layer: str | keras.Layer | None,
    coarsest: bool = False,
) -> FeatureMap:
    """Returns the last feature map of a layer that leads to an output.

    Without a layer it is the last feature map with several channels, or with
    `coarsest` the last of the coarsest such maps.
    """
    leading = graph.ancestors(output) & graph.descendants(graph.image)
    maps = [x for x in _feature_maps(graph) if x.step in leading]
    if layer is not None:
        steps = _named(graph, layer)
        candidates = [x for x in maps if x.step in steps]
    else:
        steps = graph.steps
        maps = [x for x in maps if x.tensor is not output]
        # A single channel is the map of a spatial gate rather than a feature
        # map, except in toy networks.
        with_channels = [x for x in maps if x.tensor.shape[x.channel] > 1]
        candidates = with_channels or maps
        if coarsest:
            # The largest map comes first; maps of one size keep their order.
            candidates.sort(key=lambda x: -math.prod(x.sides))
    if not candidates:
        shapes = [str(tuple(x.shape)) for step in steps for x in step.outputs]
        last = ""
        if maps:
            last = f'. The last suitable layer is "{maps[-1].step.path}"'
        hint = graph.unreached() or FOLLOWED
        raise ValueError(
            "`layer` must return a feature map with several positions along "
            "each axis of the images, on the way to the output that is "
            f"explained. Received: layer={getattr(layer, 'name', layer)!r}, "
            f"with outputs {_checks.first_few([*dict.fromkeys(shapes)], 4)}"
            f"{last}. "
            f"{hint}"
        )
    return candidates[-1]


def _feature_maps(graph):
    """Yields the feature maps of several positions along each axis."""
    positions = graph.positions or ()
    for step in graph.steps:
        if len(step.outputs) != 1 or "float" not in step.outputs[0].dtype:
            continue
        shape = step.outputs[0].shape
        channel = graph.channel_axis(step.outputs[0])
        if channel is None:
            continue
        channel %= len(shape)
        axes = graph.axes(step.outputs[0])
        # Unknown axes are taken to be in the order of the input, as they are
        # after Reshape layers.
        places = tuple(positions)
        if axes is not None:
            places = tuple(
                x for i, x in enumerate(axes) if i not in (0, channel)
            )
        if not places or None in places or len(places) + 2 != len(shape):
            continue
        feature_map = FeatureMap(step, channel, places)
        if all(side is not None and side > 1 for side in feature_map.sides):
            yield feature_map


def _named(graph, layer):
    """Returns the steps of a layer, given the layer or its name."""
    steps = graph.steps
    if isinstance(layer, keras.layers.Layer):
        inside = {id(x) for x in _graph.layers_within(layer)}
        steps_of_layer = [x for x in steps if id(x.operation) in inside]
    else:
        steps_of_layer = [x for x in steps if x.path == layer]
        if not steps_of_layer:
            end = f"/{layer}"
            steps_of_layer = [x for x in steps if x.path.endswith(end)]
        paths = [*dict.fromkeys(f'"{step.path}"' for step in steps_of_layer)]
        if len(paths) > 1:
            raise ValueError(
                "`layer` must be the name of one layer of the model. Received: "
                f"layer={layer!r}, which may be {_checks.first_few(paths, 5)}"
            )
        if not steps_of_layer:
            # The name of a nested model stands for its output.
            part = f"/{layer}/"
            steps_of_layer = [x for x in steps if part in f"/{x.path}"]
    if not steps_of_layer:
        paths = [f'"{step.path}"' for step in steps]
        listed = _checks.first_few(paths, 20)
        hint = graph.unreached() or f"The model has {listed}"
        raise ValueError(
            "`layer` must be a layer of the model, or its name. Received: "
            f"layer={getattr(layer, 'name', layer)!r}. {hint}"
        )
    return steps_of_layer
