"""The default places for attention in any network.

Works on the traced graph of a model, with nested models expanded.
"""

import math
from collections.abc import Collection, Iterator

import keras
from keras import layers

from cbam_keras._inspection import (
    Fold,
    Graph,
    Step,
    Unfold,
    is_feature_map,
    layers_within,
)

# Layers at the end of a residual branch that only help to train deep networks:
# attention goes before them.
SCALES = (
    "AlphaDropout DropBlock2D DropPath Dropout GaussianDropout Identity "
    "LayerScale Rescaling SpatialDropout1D SpatialDropout2D SpatialDropout3D "
    "StochasticDepth"
).split()
# Sums: Keras' layer, the operation `x + y`, and the layer of InceptionResNetV2,
# which also scales the branch.
ADDITIONS = ("Add", "CustomScaleLayer")
JOINS = (*ADDITIONS, "Concatenate")
# Sizes with a smaller ratio count as one resolution: they differ by a border.
STRIDE = 1.5


def default_places(graph: Graph, repeated: Collection[int]) -> list[Step]:
    """Returns the steps after which attention goes by default.

    In a residual network these are the ends of its branches, otherwise the
    last layer at each resolution. `repeated` are ids of operations that are
    called at several places, before which attention goes.
    """
    network = _Network(graph, repeated)
    places = list(network.branch_ends()) or list(network.last_at_each_size())
    return sorted(set(places), key=graph.order.__getitem__)


def last_at_each_size(graph: Graph) -> list[Step]:
    """Returns the last step at each resolution, finest first."""
    return list(_Network(graph, ()).last_at_each_size())


def _kind(step: Step) -> str:
    """Returns the name of the class of an operation.

    By name, because most of these classes are private to Keras or to a
    network.
    """
    return type(step.operation).__name__


def convolves(step: Step) -> bool:
    """Returns whether a step is a convolution or contains one."""
    inner = [step.operation]
    if isinstance(step.operation, layers.Layer):
        inner = layers_within(step.operation)
    return any("Conv" in type(x).__name__ for x in inner)


def _is_head(step):
    """Returns whether a step gives outputs instead of features.

    Outputs are probabilities, pixels, and the values of a convolution without
    activation at the end of a model.
    """
    activation = getattr(step.operation, "activation", None)
    name = getattr(activation, "__name__", type(activation).__name__)
    return (
        _kind(step) in ("Sigmoid", "Softmax", "Subtract", "Tanh")
        or name in ("sigmoid", "softmax", "tanh")
        or (_kind(step).startswith("Conv") and name in ("linear", "NoneType"))
    )


def _ratio(coarse, fine):
    """Returns the largest ratio of two sizes over their axes."""
    return max(a / b for a, b in zip(coarse, fine, strict=True))


class _Network:
    """A graph, asked where its blocks and resolutions end."""

    def __init__(self, graph, repeated):
        self.graph = graph
        self.repeated = repeated
        self.outputs = {id(x) for x in graph.outputs}
        self._at = graph.order.__getitem__

    def _size(self, step):
        """Returns the sizes of a feature map, `()` if one is unknown."""
        shape = step.outputs[0].shape
        channel = self.graph.channel_axis(step.outputs[0])
        if channel is None or len(shape) < 3:
            return ()
        sizes = list(shape)
        del sizes[channel]
        return () if None in sizes[1:] else tuple(sizes[1:])

    def _channels(self, step):
        channel = self.graph.channel_axis(step.outputs[0])
        return step.outputs[0].shape[channel]

    def _is_skipped(self, step):
        """Returns whether a step only drops, scales or repeats."""
        folds = isinstance(step.operation, (Fold, Unfold))
        if folds or id(step.operation) in self.repeated:
            return True
        if _kind(step) == "Activation":
            return step.operation.activation is keras.activations.linear
        # A product with a constant: the gate of an SE block is a second input.
        return len(step.inputs) == 1 and _kind(step) in (*SCALES, "Multiply")

    # Residual networks.

    def branch_ends(self) -> Iterator[Step]:
        """Yields the last step of each residual branch."""
        for step in self.graph.steps:
            if _kind(step) not in ADDITIONS or len(step.inputs) < 2:
                continue
            users = self.graph.users(step.outputs[0])
            if users and all(_kind(user) == "Concatenate" for user in users):
                # A sum within a cell, e.g. of NASNet, not the end of a block.
                continue
            region = self._region(step)
            if region is not None and not self._descends(step, region):
                yield from self._branches(step, region)

    def _region(self, addition):
        """Returns the steps from the last common input of an addition to it.

        `None` if these are not a block with one entry and one exit.
        """
        front = {id(x): x for x in addition.inputs}
        region = set()
        while len(front) > 1:
            step = max(map(self.graph.maker, front.values()), key=self._at)
            if step is None:
                return None  # Down to the inputs of the model.
            region.add(step)
            for x in step.outputs:
                front.pop(id(x), None)
            front.update((id(x), x) for x in step.inputs)
        for step in region:
            for x in step.outputs:
                outside = {*self.graph.users(x)} - region - {addition}
                if outside or id(x) in self.outputs:
                    return None
        return region

    def _descends(self, addition, region):
        """Returns whether a region has convolutions at a lower resolution.

        Then it is not a block but the levels below a lateral connection, as
        in a feature pyramid or an hourglass network.
        """
        full = self._size(addition)
        return any(
            len(size) == len(full)
            and max(size, default=1) > 1
            and _ratio(full, size) >= STRIDE
            for size in map(self._size, filter(convolves, region))
        )

    def _branches(self, addition, region):
        """Yields the ends of the branches, of more convolutions than one."""
        sides = [
            (x, sum(map(convolves, self.graph.ancestors(x) & region)))
            for x in addition.inputs
        ]
        fewest = min(count for _, count in sides)
        branches = [x for x, count in sides if count > fewest]
        # The shortcut is the input of the block or a projection of it.
        if fewest > 1 or len(branches) != len(sides) - 1:
            return
        for x in branches:
            step = self._without_scales(self.graph.maker(x))
            if is_feature_map(step.outputs[0]):
                yield step

    def _without_scales(self, step):
        """Returns the step before any stochastic depth and layer scale."""
        while self._is_skipped(step) and len(step.inputs) == 1:
            step = self.graph.maker(step.inputs[0])
        return step

    # Other networks.

    def last_at_each_size(self) -> Iterator[Step]:
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
                ends = last in level and not self._is_skipped(last)
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
        steps = [step for step in level if not self._is_skipped(step)]
        joins = [step for step in steps if _kind(step) in JOINS]
        return max(
            joins or steps,
            key=lambda step: (self._channels(step), self._at(step)),
            default=None,
        )

    def _levels(self):
        """Returns the steps with feature maps by resolution, finest first.

        Sizes that differ only by a border, such as 149 and 147, are one.
        """
        steps = self.graph.steps
        ranks = [len(s.outputs[0].shape) for s in steps if convolves(s)]
        if not ranks:
            return []
        rank = max(set(ranks), key=ranks.count)
        sizes: dict[tuple, set] = {}
        for step in steps:
            x = step.outputs[0]
            # Those that change only the border of a feature map do not count.
            if len(step.outputs) != 1 or len(x.shape) != rank:
                continue
            if _kind(step).startswith(("Cropping", "ZeroPadding")):
                continue
            size = self._size(step)
            if is_feature_map(x) and size and max(size) > 1:
                sizes.setdefault(size, set()).add(step)
        levels: list[set] = []
        before = None
        for size in sorted(sizes, key=math.prod, reverse=True):
            if before is None or _ratio(before, size) >= STRIDE:
                levels.append(set())
            levels[-1] |= sizes[size]
            before = size
        return [level for level in levels if any(map(convolves, level))]
