"""The default places for attention in any network.

Works on the steps of a traced model (`_inspection.trace`), with nested models
expanded.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import layers

from cbam_keras._inspection import (
    Step,
    data_formats,
    is_feature_map,
    layers_within,
)

# Layers at the end of a residual branch that only help to train deep networks:
# attention goes before them.
SCALES = (
    "AlphaDropout",
    "DropBlock2D",
    "DropPath",
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

# Sums: Keras' layer, the operation `x + y`, and the layer of InceptionResNetV2,
# which also scales the branch.
ADDITIONS = ("Add", "CustomScaleLayer")

JOINS = (*ADDITIONS, "Concatenate")

# Activations of outputs such as probabilities and pixels. A layer of `PLAIN`
# without activation gives an output too at the end of a model.
RESULTS = (
    keras.activations.sigmoid,
    keras.activations.softmax,
    keras.activations.tanh,
)

LINEAR = (None, keras.activations.linear)

PLAIN = (
    layers.Conv1D,
    layers.Conv1DTranspose,
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.Conv3D,
    layers.Conv3DTranspose,
)

# Change only the border of a feature map.
BORDERS = (
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
)

# Sizes with a smaller ratio count as one resolution: they differ by a border.
STRIDE = 1.5


def default_places(
    steps: Sequence[Step],
    outputs: Sequence[Any],
    repeated: Sequence[Any] = (),
) -> list[Step]:
    """Returns the steps after which attention goes by default.

    In a residual network these are the ends of its branches, otherwise the
    last layer at each resolution.

    Args:
        steps: The steps of the model, traced with known sizes.
        outputs: Its output tensors.
        repeated: Operations that are called at several places, e.g. one
            activation for a whole network: attention goes before them.
    """
    network = _Network(steps, outputs, repeated)
    places = list(network.branch_ends()) or list(network.last_at_each_size())
    return sorted(set(places), key=network.order.__getitem__)


def _kind(step: Step) -> str:
    """Returns the name of the class of an operation.

    By name, because most of these classes are private to Keras or to a
    network.
    """
    return type(step.operation).__name__


def _convolves(step):
    """Returns whether a step is a convolution or contains one."""
    if not isinstance(step.operation, layers.Layer):
        return "Conv" in _kind(step)
    return any(
        "Conv" in type(x).__name__ for x in layers_within(step.operation)
    )


def _only_shapes(step):
    """Returns whether a step gives a feature map and has no weights."""
    return is_feature_map(step.outputs[0]) and not getattr(
        step.operation, "weights", ()
    )


def _is_head(step):
    """Returns whether a step gives outputs instead of features.

    Outputs are probabilities, pixels, and the values of a convolution without
    activation at the end of a model.
    """
    activation = getattr(step.operation, "activation", None)
    return (
        _kind(step) in ("Sigmoid", "Softmax", "Subtract", "Tanh")
        or activation in RESULTS
        or (isinstance(step.operation, PLAIN) and activation in LINEAR)
    )


def _ratio(coarse, fine):
    """Returns the largest ratio of two sizes over their axes."""
    return max(a / b for a, b in zip(coarse, fine, strict=True))


def _only_scales(step):
    """Returns whether a step only drops or scales its input."""
    if _kind(step) == "Activation":
        return step.operation.activation is keras.activations.linear
    # A product with a constant: the gate of an SE block is a second input.
    return len(step.inputs) == 1 and _kind(step) in (*SCALES, "Multiply")


class _Network:
    """The steps as a graph of tensors."""

    def __init__(self, steps, outputs, repeated):
        self.steps = steps
        self.repeated = {id(operation) for operation in repeated}
        self.order = {step: i for i, step in enumerate(steps)}
        self.outputs = {id(x) for x in outputs}
        self.maker = {id(x): step for step in steps for x in step.outputs}
        # An output may also be an input of the model.
        self.results = [x for x in outputs if id(x) in self.maker]
        self.users = {}
        for step in steps:
            for x in step.inputs:
                self.users.setdefault(id(x), []).append(step)
        self.formats = data_formats(steps)

    def _made_at(self, tensor):
        """Returns the position of the step that computes a tensor, or -1."""
        step = self.maker.get(id(tensor))
        return -1 if step is None else self.order[step]

    # Residual networks.

    def branch_ends(self) -> Iterator[Step]:
        """Yields the last step of each residual branch."""
        for step in self.steps:
            if _kind(step) not in ADDITIONS or len(step.inputs) < 2:
                continue
            followers = self.users.get(id(step.outputs[0]), [])
            if followers and all(_kind(s) == "Concatenate" for s in followers):
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
            last = max(front.values(), key=self._made_at)
            step = self.maker.get(id(last))
            if step is None:
                return None  # Down to the inputs of the model.
            region.add(step)
            for x in step.outputs:
                front.pop(id(x), None)
            front.update((id(x), x) for x in step.inputs)
        inside = region | {addition}
        for step in region:
            for x in step.outputs:
                if id(x) in self.outputs:
                    return None
                if not inside.issuperset(self.users.get(id(x), [])):
                    return None
        return region

    def _descends(self, addition, region):
        """Returns whether a region has convolutions at a lower resolution.

        Then it is not a block but the levels below a lateral connection, as
        in a feature pyramid or an hourglass network.
        """
        full = self._size(addition)
        sizes = {step: self._size(step) for step in region}
        return any(
            size
            and len(size) == len(full)
            and max(size) > 1
            and _ratio(full, size) >= STRIDE
            and _convolves(step)
            for step, size in sizes.items()
        )

    def _branches(self, addition, region):
        sides = [
            (x, sum(_convolves(step) for step in self._behind(x, region)))
            for x in addition.inputs
        ]
        fewest = min(count for _, count in sides)
        branches = [x for x, count in sides if count > fewest]
        # The shortcut is the input of the block or a projection of it.
        if fewest > 1 or len(branches) != len(sides) - 1:
            return
        for x in branches:
            step = self._without_scales(self.maker[id(x)])
            if is_feature_map(step.outputs[0]):
                yield step

    def _behind(self, tensor, region):
        """Returns the steps of a region that a tensor depends on."""
        found = set()
        todo = [tensor]
        while todo:
            step = self.maker.get(id(todo.pop()))
            if step in region and step not in found:
                found.add(step)
                todo.extend(step.inputs)
        return found

    def _without_scales(self, step):
        """Returns the step before any stochastic depth and layer scale."""
        while self._is_skipped(step) and len(step.inputs) == 1:
            before = self.maker.get(id(step.inputs[0]))
            if before is None:
                break
            step = before
        return step

    def _is_skipped(self, step):
        return _only_scales(step) or id(step.operation) in self.repeated

    # Other networks.

    def last_at_each_size(self) -> Iterator[Step]:
        """Yields the last step at each resolution."""
        levels = self._levels()
        above = self._dominators()
        for i, level in enumerate(levels):
            # All paths to the next resolution, or to the outputs, go through
            # the last layer here.
            if i + 1 < len(levels):
                beyond = [x for step in levels[i + 1] for x in step.outputs]
            else:
                beyond = self.results
            step = self._common(beyond, above)
            result = step is not None and self._gives_result(step)
            while step is not None and not self._ends(step, level):
                result = result and _only_shapes(step)
                step = above[step]
            if step is not None and result:
                step = self._before_head(step, level, above)
            if step is None:
                step = self._widest(level)
            if step is not None:
                yield step

    def _gives_result(self, step):
        return any(id(x) in self.outputs for x in step.outputs)

    def _before_head(self, step, level, above):
        """Returns the step before the head that computes the outputs."""
        features = step
        while features is not None and (
            _is_head(features) or not self._ends(features, level)
        ):
            features = above[features]
        # A network that is only a head.
        return step if features is None else features

    def _ends(self, step, level):
        return step in level and not self._is_skipped(step)

    def _widest(self, level):
        """Returns the last of the widest steps of a level, preferably a join.

        For networks whose cells take the outputs of several earlier cells, so
        that no layer is on all paths.
        """
        steps = [step for step in level if self._ends(step, level)]
        features = [
            step
            for step in steps
            if not (_is_head(step) and self._gives_result(step))
        ]
        steps = features or steps
        joins = [step for step in steps if _kind(step) in JOINS]
        steps = sorted(joins or steps, key=self.order.__getitem__)
        return max(
            reversed(steps),
            key=self._channels,
            default=None,
        )

    def _levels(self):
        """Returns the steps with feature maps by resolution, finest first.

        Sizes that differ only by a border, such as 149 and 147, are one.
        """
        ranks = [len(s.outputs[0].shape) for s in self.steps if _convolves(s)]
        if not ranks:
            return []
        rank = max(set(ranks), key=ranks.count)
        sizes = {}
        for step in self.steps:
            x = step.outputs[0]
            if len(step.outputs) != 1 or len(x.shape) != rank:
                continue
            if _kind(step) in BORDERS:
                continue
            size = self._size(step)
            if is_feature_map(x) and size and max(size) > 1:
                sizes.setdefault(size, set()).add(step)
        levels = []
        before = None
        for size in sorted(sizes, key=math.prod, reverse=True):
            if before is None or _ratio(before, size) >= STRIDE:
                levels.append(set())
            levels[-1] |= sizes[size]
            before = size
        return [level for level in levels if any(map(_convolves, level))]

    def _size(self, step):
        """Returns the sizes of a feature map, `()` if one is unknown."""
        shape = step.outputs[0].shape
        axes = shape[2:] if self._channels_first(step) else shape[1:-1]
        return () if None in axes else tuple(axes)

    def _channels(self, step):
        return step.outputs[0].shape[1 if self._channels_first(step) else -1]

    def _channels_first(self, step):
        return self.formats[id(step.operation)] == "channels_first"

    def _dominators(self):
        """Returns, for each step, the last step on all paths to it."""
        above = {}
        for step in self.steps:
            above[step] = self._common(step.inputs, above)
        return above

    def _common(self, tensors, above):
        """Returns the last step on all paths to the tensors."""
        steps = {self.maker.get(id(x)) for x in tensors}
        while len(steps) > 1:
            if None in steps:
                return None
            last = max(steps, key=self.order.__getitem__)
            steps.remove(last)
            steps.add(above[last])
        return steps.pop() if steps else None
