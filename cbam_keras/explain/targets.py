"""The feature map of a network that is explained."""

import dataclasses
import itertools
import math

import keras

from cbam_keras import _checks, _graph
from cbam_keras._graph import Graph, Step

# Heat maps of fewer positions along an axis say little of where.
MIN_SIDE = 5
PERMUTED = (
    "Permuted axes are followed through layers.Permute, and tokens from a "
    'Reshape of all positions or a layer named "patch", not through Lambda or '
    "another layer of your own"
)


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """The output of a step that has positions and channels.

    `channel` is the axis of the channels, and `input_axes` are the axes of
    the image that the others are. In a `TimeDistributed` layer they begin
    with that of time, which is folded into the batch: `frames` are its sizes.
    Of a sequence of tokens, `tokens` are those of a grid with the sizes `grid`.
    """

    step: Step
    channel: int
    input_axes: tuple[int, ...]
    frames: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()
    tokens: range = range(0)

    @property
    def tensor(self) -> keras.KerasTensor:
        return self.step.outputs[0]

    @property
    def sides(self) -> tuple[int, ...]:
        if self.grid:
            return self.grid
        shape = self.tensor.shape
        return shape[1 : self.channel] + shape[self.channel + 1 :]


def find_targets(
    graph: Graph,
    output: keras.KerasTensor,
    layer: str | keras.Layer | None,
    coarsest: bool = False,
) -> list[FeatureMap]:
    """Returns the feature maps of a layer that lead to an output.

    Without a layer they are those with several channels, the coarsest last if
    asked for. The last one is to be explained.
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
    return candidates


def _find_loss(graph):
    """Returns where positions of the images are lost, and a way around it."""
    for step in graph.steps:
        y = step.outputs[0]
        if len(y.shape) > 2 and graph.axes(y)[0] is None:
            break
    else:
        return ""
    users = {x.operation for x in graph.users(y)}
    if sum(x.operation in users for x in graph.steps) > len(users):
        return "Wrap layers that run frame by frame in TimeDistributed"
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
    positions, image = graph.positions or (), graph.image
    followed: dict[int, FeatureMap] = {}
    if sizes := graph.sizes(image):
        places = list(range(len(image.shape)))
        del places[graph.channel_axis(image)]
        followed[id(image)] = FeatureMap(None, 0, (*places[1:],), grid=sizes)
    for step in graph.steps:
        if len(step.outputs) != 1 or "float" not in step.outputs[0].dtype:
            continue
        if isinstance(step.operation, (_graph.Fold, _graph.Unfold)):
            # What goes in, and the last feature map again.
            continue
        shape = step.outputs[0].shape
        channel = graph.channel_axis(step.outputs[0])
        if channel is None:
            continue
        channel %= len(shape)
        are_tokens = channel == 2 == len(shape) - 1
        feature_map = _find_tokens(step, followed) if are_tokens else None
        axes, folded = graph.axes(step.outputs[0])
        if axes is None:
            # They are in the order of the input, as after Reshape layers.
            axes = [x for x in positions if x not in folded]
        else:
            axes = [x for i, x in enumerate(axes) if i not in (0, channel)]
        places = (*folded, *axes)
        if axes and None not in places and len(axes) + 2 == len(shape):
            frames = tuple(graph.image.shape[x] for x in folded)
            feature_map = FeatureMap(step, channel, places, frames)
        sides = feature_map.sides if feature_map else (None,)
        if all(side is not None and side > 1 for side in sides):
            followed[id(step.outputs[0])] = feature_map
            # Tokens that are only reshaped are the last feature map again.
            if not (feature_map.grid and step.kind == "Reshape"):
                yield feature_map


def _find_tokens(step, followed):
    """Returns the feature map that tokens `(B, tokens, C)` are, or `None`.

    A token more than positions is that of the class, the first one unless the
    last is appended. A layer of patches, by its name, divides a grid evenly.
    """
    length = step.outputs[0].shape[1] or 0
    # The output of attention has the positions of the query.
    kind = type(step.operation).__name__
    inputs = step.inputs[: 1 if "Attention" in kind else None]
    for x, extra in itertools.product(inputs, (0, 1)):
        source, count = followed.get(id(x)), length - extra
        if source is None or count < 1:
            continue
        sides, side = source.sides, 1
        if "patch" in f"{kind} {step.path}".lower():
            side = round((math.prod(sides) / count) ** (1 / len(sides))) or 1
        grid = tuple(size // side for size in sides)
        if math.prod(grid) == count and not any(x % side for x in sides):
            is_last = step.kind == "Concatenate" and step.inputs[0] is x
            start = 0 if is_last else extra
            if source.tokens and x.shape[1] == length:
                start = source.tokens.start
            places, frames = source.input_axes, source.frames
            tokens = range(start, start + count)
            return FeatureMap(step, 2, places, frames, grid, tokens)
    return None


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
