"""The last layer at each resolution of a network, and that before its head.

Insertion puts attention there, a U-Net takes its skips from there, and a
pyramid its levels.
"""

import math
from collections.abc import Collection, Iterator, Sequence

import keras

from cbam_keras._graph.graph import last_common
from cbam_keras._graph.steps import Fold, Graph, Step, Unfold, is_feature_map

# Keras' layers that only help to train deep networks.
SCALES = (
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "Identity",
    "LayerScale",
    "Rescaling",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "StochasticDepth",
)
# Others that are known by their names alone, since each network defines them.
# They decide no more than the place of a gate.
OWN_SCALES = ("DropBlock2D", "DropPath", "LayerScale", "StochasticDepth")
# Sums: Keras' layer, the operation `x + y`, and the layer of InceptionResNetV2,
# which also scales the branch.
ADDITIONS = ("Add", "CustomScaleLayer")
JOINS = (*ADDITIONS, "Concatenate")
# Sizes with a smaller ratio count as one resolution: they differ by a border.
STRIDE = 1.5


def last_at_each_resolution(
    graph: Graph, repeated: Collection[int] = ()
) -> list[Step]:
    """Returns the last step at each resolution, finest first.

    `repeated` are ids of operations that are called at several places: the
    step before them is the last.
    """
    return list(_Resolutions(graph, repeated).last())


def last_feature_maps(graph: Graph, repeated: Collection[int]) -> list[Step]:
    """Returns the step of the last feature map, before what pools it.

    Where several maps are pooled, as for several outputs, it is the last that
    these have in common, or that of each if they share nothing. A network
    without head ends with it. None if outputs have positions, as masks and
    boxes do. `repeated` is as above.
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
    """Returns whether a step gives outputs instead of features.

    Outputs are probabilities, pixels, and the values of a convolution without
    activation at the end of a model.
    """
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
        """Returns whether no attention follows a step, but one before it."""
        return id(step.operation) in self.repeated or only_adjusts(step)

    def last(self) -> Iterator[Step]:
        """Yields the last step at each resolution."""
        levels = self._levels()
        # All paths to the next resolution, or to the outputs, go through the
        # last layer here.
        beyond = [
            [x for step in level for x in step.outputs] for level in levels[1:]
        ]
        # An output may also be an input of the model.
        beyond.append([x for x in self.graph.outputs if self.graph.maker(x)])
        for level, tensors in zip(levels, beyond, strict=False):
            last = self._common(tensors)
            # Whether what follows only reshapes an output of the model.
            is_result = last is not None and any(
                id(x) in self.outputs for x in last.outputs
            )
            while last is not None:
                is_end = last in level and not self._is_passed(last)
                # The head that computes the result comes after the features,
                # and before what only reshapes it.
                if is_end and not (is_result and _is_head(last)):
                    break
                if not is_end and getattr(last.operation, "weights", False):
                    is_result = False
                is_result = is_result and is_feature_map(last.outputs[0])
                last = self._above[last]
            if last is None:
                # Where a cell takes the outputs of several earlier cells, no
                # layer is on all paths.
                last = self._widest(level)
            if last is not None:
                yield last

    def last_maps(self) -> list[Step]:
        """Returns the steps of the last feature maps, see that function."""
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
        # A dictionary keeps the order, and each step once.
        lasts = dict.fromkeys(map(self._map_before, makers))
        if None in lasts:
            return []
        if is_headless and any(map(self._gives_positions, lasts)):
            return []
        return list(lasts)

    def _gives_positions(self, last):
        """Returns whether a last map is an output, as masks are.

        Features have the lowest resolution of a network; masks are finer.
        """
        size = self.graph.sizes(last.outputs[0])
        is_finer = any(
            is_coarser(self.graph.sizes(step.outputs[0]), size)
            for step in filter(self._is_map, self.graph.steps)
        )
        return is_finer or _is_head(last) or last.kind == "Reshape"

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
        """Returns the last of the widest steps of a level, preferably a join.

        For networks whose cells take the outputs of several earlier cells, so
        that no layer is on all paths.
        """

        def width(step):
            x = step.outputs[0]
            return x.shape[self.graph.channel_axis(x)], self._at(step)

        steps = [step for step in level if not self._is_passed(step)]
        joins = [step for step in steps if step.kind in JOINS]
        return max(joins or steps, key=width, default=None)

    def _levels(self):
        """Returns the steps with feature maps by resolution, finest first.

        Sizes that differ only by a border, such as 149 and 147, are one.
        """
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
        return [
            level for level in levels if any(step.convolves for step in level)
        ]
