"""The last layer at each resolution of a network.

Insertion puts attention there by default, a U-Net takes its skips from there,
and a pyramid its levels.
"""

import math
from collections.abc import Collection, Iterator, Sequence

import keras

from cbam_keras._graph.steps import Fold, Graph, Step, Unfold, is_feature_map

# Keras' layers that only help to train deep networks.
SCALES = (
    "AlphaDropout Dropout GaussianDropout Identity LayerScale Rescaling "
    "SpatialDropout1D SpatialDropout2D SpatialDropout3D StochasticDepth"
).split()
# Others that are known by their names alone, since each network defines them.
# They decide no more than the place of a gate.
OWN_SCALES = "DropBlock2D DropPath LayerScale StochasticDepth".split()
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

    def _is_passed(self, step):
        return id(step.operation) in self.repeated or only_adjusts(step)

    def last(self) -> Iterator[Step]:
        """Yields the last step at each resolution."""
        levels = self._levels()
        # The last step on all paths to each step.
        above: dict[Step, Step | None] = {}
        for step in self.graph.steps:
            above[step] = self._common(step.inputs, above)
        # All paths to the next resolution, or to the outputs, go through the
        # last layer here. An output may also be an input of the model.
        beyond = [[x for s in level for x in s.outputs] for level in levels[1:]]
        beyond.append([x for x in self.graph.outputs if self.graph.maker(x)])
        for level, tensors in zip(levels, beyond, strict=False):
            last = self._common(tensors, above)
            results = last.outputs if last is not None else ()
            result = any(id(x) in self.outputs for x in results)
            while last is not None:
                ends = last in level and not self._is_passed(last)
                # The head that computes the result comes after the features,
                # and before what only reshapes it.
                if ends and not (result and _is_head(last)):
                    break
                if not ends and getattr(last.operation, "weights", False):
                    result = False
                result = result and is_feature_map(last.outputs[0])
                last = above[last]
            last = last or self._widest(level)
            if last is not None:
                yield last

    def _common(self, tensors, above):
        """Returns the last step on all paths to the tensors."""
        steps = {self.graph.maker(x) for x in tensors}
        while len(steps) > 1:
            if None in steps:
                return None
            last = max(steps, key=self._at)
            steps.remove(last)
            steps.add(above[last])
        return steps.pop() if steps else None

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
        steps = self.graph.steps
        ranks = [len(s.outputs[0].shape) for s in steps if s.convolves]
        if not ranks:
            return []
        rank = max(set(ranks), key=ranks.count)
        sizes: dict[tuple, set] = {}
        for step in steps:
            x = step.outputs[0]
            # Layers that change only the border of a map do not count.
            if len(step.outputs) != 1 or len(x.shape) != rank:
                continue
            if step.kind.startswith(("Cropping", "ZeroPadding")):
                continue
            size = self.graph.sizes(x)
            if is_feature_map(x) and size and max(size) > 1:
                sizes.setdefault(size, set()).add(step)
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
