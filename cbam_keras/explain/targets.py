"""The feature map of a network that is explained."""

import dataclasses
import math

import keras

from cbam_keras import _checks, _graph
from cbam_keras._graph import Graph, Step

# Heat maps of fewer positions along an axis say little of where.
MIN_SIDE = 5
PERMUTED = (
    "Permuted axes are followed through layers.Permute, not through Lambda or "
    "another layer of your own"
)


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """The output of a step that has positions and channels.

    `channel` is the axis of the channels, and `input_axes` are the axes of
    the image that the others are.
    """

    step: Step
    channel: int
    input_axes: tuple[int, ...]

    @property
    def tensor(self) -> keras.KerasTensor:
        return self.step.outputs[0]

    @property
    def sides(self) -> tuple[int, ...]:
        shape = self.tensor.shape
        return shape[1 : self.channel] + shape[self.channel + 1 :]


def find_target(
    graph: Graph,
    output: keras.KerasTensor,
    layer: str | keras.Layer | None,
    coarsest: bool = False,
) -> FeatureMap:
    """Returns the last feature map of a layer that leads to an output.

    Without a layer it is the last one with several channels, or of the
    coarsest ones if asked for.
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
        several = [x for x in maps if x.tensor.shape[x.channel] > 1]
        candidates = several or maps
        if coarsest:
            # The largest map comes first; maps of one size keep their order.
            candidates.sort(key=lambda x: -math.prod(x.sides))
    if not candidates:
        shapes = [str(tuple(x.shape)) for step in steps for x in step.outputs]
        last = f'. The last one is "{maps[-1].step.path}"' if maps else ""
        hint = graph.unreached() or (not maps and _find_loss(graph)) or PERMUTED
        raise ValueError(
            "`layer` must return a feature map with several positions along "
            "each axis of the images, on the way to the output that is "
            f"explained. Received: layer={getattr(layer, 'name', layer)!r}, "
            f"and {_checks.first_few([*dict.fromkeys(shapes)], 4)}{last}. "
            f"{hint}"
        )
    if layer is None:
        _warn_of_grain(graph, candidates)
    return candidates[-1]


def _find_loss(graph):
    """Returns where positions of the images are lost, and a way around it."""
    for step in graph.steps:
        y = step.outputs[0]
        if len(y.shape) > 2 and graph.axes(y) is None:
            break
    else:
        return ""
    if isinstance(step.operation, _graph.Fold):
        return (
            "Wrap the network without its pooling in TimeDistributed, and the "
            "pooling in another one"
        )
    return (
        f'Layer "{step.path}" changes axes; only layers.Permute is followed. '
        f'Explain keras.Model(model.get_layer("{step.path}").output, '
        "model.output), of its outputs"
    )


def _warn_of_grain(graph, candidates):
    """Warns if heat has few positions, and names a layer that has more."""
    target, lasts = candidates[-1], _graph.last_at_each_resolution(graph)
    named = [x for x in candidates if x.step in lasts]
    finer = [x for x in named if min(x.sides) >= MIN_SIDE]
    if min(target.sides) >= MIN_SIDE or not finer:
        return
    positions, more = (
        " x ".join(map(str, x.sides)) for x in (target, finer[-1])
    )
    _checks.warn(
        f"Heat maps have a resolution of {positions} positions, that of the "
        f'last feature map, "{target.step.path}". For {more} explain the layer '
        f'"{finer[-1].step.path}"'
    )


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
        # Unknown ones are in the order of the input, as after Reshape layers.
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
    """Returns the steps of a layer, found by its name or itself."""
    steps = graph.steps
    if isinstance(layer, keras.layers.Layer):
        inside = {id(x) for x in _graph.layers_within(layer)}
        named = [step for step in steps if id(step.operation) in inside]
    elif isinstance(layer, str):
        named = [step for step in steps if step.path == layer]
        named = named or [x for x in steps if x.path.endswith(f"/{layer}")]
        paths = [*dict.fromkeys(f'"{step.path}"' for step in named)]
        if len(paths) > 1:
            raise ValueError(
                "`layer` must be the name of one layer of the model. Received: "
                f"layer={layer!r}, which may be {_checks.first_few(paths, 5)}"
            )
        # The name of a nested model stands for its output.
        named = named or [x for x in steps if f"/{layer}/" in f"/{x.path}"]
    else:
        raise TypeError(
            "`layer` must be the name of a layer, or the layer. Received: "
            f"layer={layer!r}"
        )
    if not named:
        name = getattr(layer, "name", layer)
        names = [step.path.split("/")[-1] for step in steps]
        hint = graph.unreached()
        hint = f". {hint}" if hint else _checks.did_you_mean(name, names, 5)
        if name in names:
            hint = ", which is in another model. Give its name"
        raise ValueError(
            "`layer` must be a layer of the model, or its name. Received: "
            f"layer={name!r}{hint}"
        )
    return named
