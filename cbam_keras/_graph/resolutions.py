"""The last layer at each resolution of a network, and that before its head."""

import math
from collections.abc import Collection, Iterator, Sequence

import keras

from cbam_keras._graph.graph import last_common
from cbam_keras._graph.steps import Fold, Graph, Step, Unfold, is_feature_map

# Keras' layers that only help to train deep networks.
DROPOUTS = ("AlphaDropout", "Dropout", "GaussianDropout", "StochasticDepth")
SPATIAL_DROPOUTS = ("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
SCALES = (*DROPOUTS, *SPATIAL_DROPOUTS, "Identity", "LayerScale", "Rescaling")
# Others that are known by their names alone, since each network defines them.
OWN_SCALES = ("DropBlock2D", "DropPath", "LayerScale", "StochasticDepth")
# Sums: Keras' layer, the operation `x + y`, and the one of InceptionResNetV2.
ADDITIONS = ("Add", "CustomScaleLayer")
JOINS = (*ADDITIONS, "Concatenate")
# Sizes with a smaller ratio count as one resolution: they differ by a border.
STRIDE = 1.5


def last_at_each_resolution(
    graph: Graph, repeated: Collection[int] = ()
) -> list[Step]:
    """Returns the last step at each resolution, before `repeated` ones."""
    return list(_Resolutions(graph, repeated).last())


def last_feature_maps(graph: Graph, repeated: Collection[int]) -> list[Step]:
    """Returns the step of the last feature map, or of each, before pooling.

    There is none if outputs have positions, as masks and boxes do.
    """
    return _Resolutions(graph, repeated).last_maps()


def is_coarser(size: Sequence[int], than: Sequence[int]) -> bool:
    """Returns whether a size is a lower resolution than another."""
    return max(a / b for a, b in zip(than, size, strict=True)) >= STRIDE


def only_adjusts(step: Step) -> bool:
    """Returns whether a step only drops, scales or repeats features."""
    if isinstance(step.operation, (Fold, Unfold)):
        return True
    if step.kind == "Activation":
        return step.operation.activation is keras.activations.linear
    # A product with a constant: the gate of an SE block is a second input.
    return len(step.inputs) == 1 and (
        step.kind in (*SCALES, "Multiply")
        or type(step.operation).__name__ in OWN_SCALES
    )


def _is_head(step):
    """Returns whether a step gives probabilities, pixels or other values."""
    activation = getattr(step.operation, "activation", None)
    name = getattr(activation, "__name__", type(activation).__name__)
    return (
        step.kind in ("Sigmoid", "Softmax", "Subtract", "Tanh")
        or name in ("sigmoid", "softmax", "tanh")
        or (step.kind.startswith("Conv") and name in ("linear", "NoneType"))
    )


class _Resolutions:
    """A graph, asked where its resolutions end."""

    def __init__(self, graph, repeated):
        self.graph = graph
        self.repeated = repeated
        self.outputs = {id(x) for x in graph.outputs}
        self._at = graph.order.__getitem__
        ranks = [len(x.outputs[0].shape) for x in graph.steps if x.convolves]
        # How many axes feature maps have.
        self._rank = max(set(ranks), key=ranks.count, default=None)
        # The last step on all paths to each step.
        self._above: dict[Step, Step | None] = {}
        for step in graph.steps:
            self._above[step] = self._common(step.inputs)

    def _is_passed(self, step):
        return id(step.operation) in self.repeated or only_adjusts(step)

    def last(self) -> Iterator[Step]:
        """Yields the last step at each resolution."""
        levels = self._levels()
        # All paths to the next resolution or the outputs go through the last.
        beyond = [[x for s in level for x in s.outputs] for level in levels[1:]]
        beyond.append([x for x in self.graph.outputs if self.graph.maker(x)])
        for level, tensors in zip(levels, beyond, strict=False):
            last = self._common(tensors)
            results = last.outputs if last is not None else ()
            result = any(id(x) in self.outputs for x in results)
            while last is not None:
                ends = last in level and not self._is_passed(last)
                # The head comes after the features, and before reshaping.
                if ends and not (result and _is_head(last)):
                    break
                if not ends and getattr(last.operation, "weights", False):
                    result = False
                result = result and is_feature_map(last.outputs[0])
                last = self._above[last]
            # Where a cell takes outputs of several, no layer is on all paths.
            last = last or self._widest(level)
            if last is not None:
                yield last

    def last_maps(self) -> list[Step]:
        """Returns the steps of the last feature maps, as said above."""
        maps = [x for x in self.graph.outputs if self._is_spatial(x)]
        is_headless = len(maps) == len(self.graph.outputs) == 1
        if maps and not is_headless:
            return []
        # What has no positions, and leads to nothing that has them.
        head: set[Step] = set()
        for step in reversed(self.graph.steps):
            users = {y for x in step.outputs for y in self.graph.users(x)}
            if users <= head and not any(map(self._is_spatial, step.outputs)):
                head.add(step)
                maps += filter(self._is_spatial, step.inputs)
        common = self._common(maps)
        makers = [common] if common else map(self.graph.maker, maps)
        lasts = dict.fromkeys(map(self._map_before, makers))
        if None in lasts:
            return []
        for last in lasts if is_headless else ():
            steps = (last, *filter(self._is_map, self.graph.steps))
            sizes = [self.graph.sizes(step.outputs[0]) for step in steps]
            is_finer = any(is_coarser(size, sizes[0]) for size in sizes)
            if is_finer or _is_head(last) or last.kind == "Reshape":
                return []
        return [*lasts]

    def _map_before(self, last):
        """Returns the step whose map this one only gives another form."""
        while last is not None and not self._is_map(last):
            # Tokens and frames may only be another form of the map.
            has_weights = bool(getattr(last.operation, "weights", ()))
            if has_weights and not self._is_passed(last):
                return None
            last = self._above[last]
        return last

    def _is_spatial(self, tensor):
        """Returns whether a tensor has several positions."""
        sizes = self.graph.sizes(tensor) if is_feature_map(tensor) else ()
        return max(sizes, default=1) > 1

    def _is_map(self, step):
        """Returns whether a step computes the features of a map."""
        x = step.outputs[0]
        is_map = len(x.shape) == self._rank and self._is_spatial(x)
        return is_map and not self._is_passed(step)

    def _common(self, tensors):
        """Returns the last step on all paths to the tensors."""
        makers = map(self.graph.maker, tensors)
        return last_common(makers, self._above, self._at)

    def _widest(self, level):
        """Returns the last of the widest steps of a level, at best a join."""

        def width(step):
            x = step.outputs[0]
            return x.shape[self.graph.channel_axis(x)], self._at(step)

        steps = [step for step in level if not self._is_passed(step)]
        joins = [step for step in steps if step.kind in JOINS]
        return max(joins or steps, key=width, default=None)

    def _levels(self):
        """Returns the steps with feature maps by resolution, finest first."""
        sizes: dict[tuple, set] = {}
        for step in self.graph.steps:
            x = step.outputs[0]
            # Layers that change only the border of a map do not count.
            is_border = step.kind.startswith(("Cropping", "ZeroPadding"))
            is_one = len(step.outputs) == 1 and len(x.shape) == self._rank
            if is_one and not is_border and self._is_spatial(x):
                sizes.setdefault(self.graph.sizes(x), set()).add(step)
        levels: list[set] = []
        before = None
        for size in sorted(sizes, key=math.prod, reverse=True):
            if before is None or is_coarser(size, before):
                levels.append(set())
            levels[-1] |= sizes[size]
            before = size
        return [x for x in levels if any(step.convolves for step in x)]
