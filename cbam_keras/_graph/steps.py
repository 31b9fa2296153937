"""A model traced step by step: what connects its tensors, and their axes."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers, ops

from cbam_keras import _checks
from cbam_keras._graph import graph

_PERMUTATIONS = {"Moveaxis", "Permute", "Swapaxes", "Transpose"}
_CONVOLUTIONS = tuple(getattr(layers, x) for x in dir(layers) if "Conv" in x)
# Different sizes distinguish the axes of a permuted tensor.
_SIZES = (2, 3, 5, 7, 11, 13, 17, 19)


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A call of the flattened graph, in which nested models are expanded.

    Each tensor is the output of a single step. A model in `TimeDistributed`
    stands between a `Fold` and an `Unfold`.
    """

    # With the names of the models that it is nested in: "backbone/conv1".
    path: str
    operation: keras.Operation
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]
    # Positional ones, and by name.
    arguments: tuple[Any, Any]

    @property
    def kind(self) -> str:
        """See `type_of`."""
        return type_of(self.operation)

    @property
    def convolves(self) -> bool:
        """Whether the operation is a convolution or contains one."""
        if not isinstance(self.operation, layers.Layer):
            return "Conv" in self.kind
        inner = graph.layers_within(self.operation)
        return any(isinstance(x, _CONVOLUTIONS) for x in inner)


def type_of(operation: keras.Operation) -> str:
    """Returns the name of the class of an operation of Keras.

    Most of these classes are private to Keras. It is empty for all others,
    since a user's class of such a name may compute anything.
    """
    if _checks.package_of(operation) not in ("keras", "keras_hub"):
        return ""
    return type(operation).__name__


class Fold(keras.Operation):
    """Folds time into the batch: `(B, T, ...)` to `(B * T, ...)`."""

    def call(self, x):
        return ops.reshape(x, (-1, *ops.shape(x)[2:]))

    def compute_output_spec(self, x):
        batch, times, *sizes = x.shape
        frames = None if None in (batch, times) else batch * times
        return keras.KerasTensor((frames, *sizes), x.dtype)


class Unfold(keras.Operation):
    """Undoes `Fold`, where the output of a `TimeDistributed` layer is."""

    def __init__(self, wrapper: layers.TimeDistributed, times: int | None):
        super().__init__()
        self.wrapper = wrapper
        self.times = times

    def call(self, x):
        return ops.reshape(x, (-1, self.times, *ops.shape(x)[1:]))

    def compute_output_spec(self, x):
        frames, *sizes = x.shape
        batch = None if None in (frames, self.times) else frames // self.times
        return keras.KerasTensor((batch, self.times, *sizes), x.dtype)


class Graph:
    """The steps of a model in an order in which they can run.

    It is traced with `inputs`, flat symbolic tensors: only shapes are
    propagated, nothing runs. Axes and positions are those of the input at the
    index `image`.
    """

    def __init__(
        self,
        model: keras.Model,
        inputs: Sequence[keras.KerasTensor],
        image: int = 0,
    ):
        self.inputs = list(inputs)
        self.image = self.inputs[image]
        self.steps: list[Step] = []
        self._makers: dict[int, Step] = {}
        self._users: dict[int, list[Step]] = collections.defaultdict(list)
        self.outputs = walk(model, inputs, self._add)
        # The place of each step. Inputs, whose maker is `None`, come before all
        # steps.
        self.order = {step: i for i, step in enumerate([None, *self.steps])}

    def _add(self, path, operation, *args, **kwargs):
        """Adds the step of a call, and returns its outputs."""
        inputs = keras.tree.flatten((args, kwargs))
        outputs = operation.compute_output_spec(*args, **kwargs)
        step = Step(
            path,
            operation,
            inputs=tuple(filter(keras.utils.is_keras_tensor, inputs)),
            # New tensors, since an operation may return its input.
            outputs=tuple(
                keras.KerasTensor(x.shape, x.dtype)
                for x in keras.tree.flatten(outputs)
            ),
            arguments=(args, kwargs),
        )
        self.steps.append(step)
        for x in step.inputs:
            self._users[id(x)].append(step)
        for x in step.outputs:
            self._makers[id(x)] = step
        return step.outputs

    def maker(self, tensor: keras.KerasTensor) -> Step | None:
        """Returns the step that computes a tensor, `None` for an input."""
        return self._makers.get(id(tensor))

    def users(self, tensor: keras.KerasTensor) -> list[Step]:
        """Returns the steps that take a tensor."""
        return self._users[id(tensor)]

    def ancestors(self, tensor: keras.KerasTensor) -> set[Step]:
        """Returns the steps that a tensor is computed from."""
        steps = set()
        needed = {id(tensor)}
        for step in reversed(self.steps):
            if not needed.isdisjoint(map(id, step.outputs)):
                needed.update(map(id, step.inputs))
                steps.add(step)
        return steps

    def descendants(self, tensor: keras.KerasTensor) -> set[Step]:
        """Returns the steps that are computed from a tensor."""
        steps = set()
        reached = {id(tensor)}
        for step in self.steps:
            if not reached.isdisjoint(map(id, step.inputs)):
                reached.update(map(id, step.outputs))
                steps.add(step)
        return steps

    @property
    def wrappers(self) -> list[Step]:
        """The steps of layers around a model whose steps are not reached."""
        return [
            step
            for step in self.steps
            if isinstance(step.operation, layers.Wrapper)
            and isinstance(step.operation.layer, keras.Model)
        ]

    def unreached(self) -> str:
        """Returns a sentence on the first model whose layers are no steps.

        Empty if there is none.
        """
        for step in self.wrappers:
            return (
                f'Layer "{step.path}" wraps model "{step.operation.layer.name}"'
                ", whose layers cannot be traced: process the inner model "
                "separately first"
            )
        for step in self.steps:
            if isinstance(step.operation, keras.Model):
                return (
                    f'Model "{step.path}" of type '
                    f"{type(step.operation).__name__} is subclassed, and its "
                    "layers cannot be traced: write keras.Model(inputs, "
                    "model.call(inputs)) instead of model(inputs)"
                )
        return ""

    def channel_axis(self, tensor: keras.KerasTensor) -> int | None:
        """Returns which axis of a tensor has the channels, -1 for the last.

        `None` if a layer that cannot be followed has moved it.
        """
        return self._channels.get(id(tensor))

    def sizes(self, tensor: keras.KerasTensor) -> tuple[int, ...]:
        """Returns the sizes of a feature map, `()` if one is unknown."""
        channel = self.channel_axis(tensor)
        if channel is None or len(tensor.shape) < 3:
            return ()
        sizes = list(tensor.shape)
        del sizes[channel]
        return () if None in sizes[1:] else tuple(sizes[1:])

    @functools.cached_property
    def _channels(self):
        """The axes of the channels, by the ids of tensors."""
        data_format = keras.config.image_data_format()
        axis_of_inputs = 1 if data_format == "channels_first" else -1
        channels = {id(x): axis_of_inputs for x in self.inputs}
        channels |= self._expected
        for step in self.steps:
            for y in step.outputs:
                channels[id(y)] = self._channel_axis_after(step, y, channels)
        return channels

    def _channel_axis_after(self, step, y, channels):
        """Returns where an output `y` of a step has the channels.

        `channels` are the axes so far, by the ids of tensors.
        """
        declared_axis = _declared_channel_axis(step.operation, y)
        if declared_axis is not None or not step.inputs:
            return declared_axis
        for x in step.inputs:
            axis = channels[id(x)]
            order = _order(step, x, y)
            if axis is not None and order is not None:
                return _moved(axis, order, len(x.shape))
        if id(y) in self._expected:
            return self._expected[id(y)]
        if any(_is_permuted(x, y) for x in step.inputs):
            return None
        # A reshape leaves the channels in the first or the last place.
        return channels[id(step.inputs[0])]

    @functools.cached_property
    def _expected(self):
        """The axes in which the next layers with a data format take channels.

        By the ids of tensors: `None` if a tensor has no such axis yet.
        """
        expected: dict[int, int | None] = {}
        # The steps run backwards: the first layer that takes a tensor decides.
        for step in reversed(self.steps):
            for x in step.inputs:
                axis = _declared_channel_axis(step.operation, x)
                if axis is not None:
                    expected[id(x)] = axis
                    continue
                for y in step.outputs[:1]:
                    order = _order(step, x, y)
                    if order is not None and expected.get(id(y)) is not None:
                        axis = order[expected[id(y)]]
                        is_last = axis == len(x.shape) - 1
                        expected[id(x)] = -1 if is_last else axis
        return expected

    def axes(self, tensor: keras.KerasTensor) -> tuple[int | None, ...] | None:
        """Returns which axes of the image the axes of a tensor are.

        An axis that was inserted is `None`, and so are all if the axes cannot
        be followed, as after most `Reshape` layers.
        """
        return self._axes.get(id(tensor))

    @functools.cached_property
    def _axes(self):
        image = self.image
        all_axes = {id(image): tuple(range(len(image.shape)))}
        for step in self.steps:
            candidates = [
                _axes_after(step, x, all_axes[id(x)])
                for x in step.inputs
                if id(x) in all_axes
            ]
            candidates = [axes for axes in candidates if axes is not None]
            if candidates and len(step.outputs) == 1:
                all_axes[id(step.outputs[0])] = candidates[0]
        return all_axes

    @property
    def positions(self) -> tuple[int, ...] | None:
        """The axes of the image that are positions, `None` if not known."""
        image = self.image
        if id(image) not in self._expected:
            return None
        places = list(range(len(image.shape)))
        channel = self._expected[id(image)]
        if channel is not None:
            del places[channel]
        return tuple(places[1:])


def walk(
    model: keras.Model,
    inputs: Sequence[graph.Tensor],
    call: Callable[..., graph.Tensor],
    prefix: str = "",
) -> list[graph.Tensor]:
    """Runs the graph of a model, those of nested models included.

    `call` gets the path of an operation, the operation, and its arguments.
    Inputs and outputs are flat. A model in `TimeDistributed` runs on all
    frames at once.
    """

    def visit(operation, *args, **kwargs):
        path = prefix + operation.name
        x = args[0] if args else kwargs.get("inputs")
        if graph.is_graph(operation):
            nested = graph.in_order(operation, x)
            return walk(operation, nested, call, f"{path}/")
        inner = graph.model_per_frame(operation)
        if inner is not None:
            frames = call(f"{path}/fold", Fold(), x)
            (y,) = walk(inner, keras.tree.flatten(frames), call, f"{path}/")
            unfold = Unfold(operation, x.shape[1])
            return call(f"{path}/unfold", unfold, y)
        return call(path, operation, *args, **kwargs)

    return graph.replay(model, inputs, visit)


def trace(model: keras.Model, shapes: Sequence[Sequence[int | None]]) -> Graph:
    """Returns the graph of a model for inputs of other shapes.

    It is that of its own shapes if it does not take others, as with a reshape.
    """
    inputs = [
        keras.KerasTensor(shape, x.dtype)
        for shape, x in zip(shapes, model.inputs, strict=True)
    ]
    try:
        return Graph(model, inputs)
    except (ValueError, TypeError):
        return Graph(model, model.inputs)


def is_feature_map(tensor: keras.KerasTensor) -> bool:
    """Returns whether a tensor has positions and channels."""
    return 3 <= len(tensor.shape) <= 5 and "float" in tensor.dtype


def _declared_channel_axis(operation, tensor):
    """Returns where an operation has the channels of an input or output.

    `None` if it has no data format.
    """
    rank = len(tensor.shape)
    # The axes of time, one for each `TimeDistributed` around it.
    times = 0
    while isinstance(operation, layers.Wrapper):
        times += isinstance(operation, layers.TimeDistributed)
        operation = operation.layer
    if isinstance(operation, layers.BatchNormalization) and rank - times > 2:
        if operation.axis in (-1, rank - times - 1):
            return -1
        return operation.axis % (rank - times) + times
    data_format = getattr(operation, "data_format", None)
    if data_format == "channels_first":
        return 1 + times
    return -1 if data_format == "channels_last" else None


def _permutation(step):
    """Returns the axes of the input in their order in the output, or `None`."""
    if step.kind not in _PERMUTATIONS:
        return None
    (x,) = step.inputs
    probe = keras.KerasTensor(_SIZES[: len(x.shape)], x.dtype)
    permuted = step.operation.compute_output_spec(probe)
    return [_SIZES.index(size) for size in permuted.shape]


def _is_permuted(x, y):
    """Returns whether two tensors have the same sizes in another order."""
    sizes = [collections.Counter(tensor.shape) for tensor in (x, y)]
    return tuple(x.shape) != tuple(y.shape) and sizes[0] == sizes[1]


def _order(step, x, y):
    """Returns the axes of an input of a step in their order in an output.

    An axis that was inserted is `None`, and so is the result if the axes
    cannot be followed.
    """
    places = range(len(x.shape))
    if isinstance(step.operation, Fold):
        return [0, *places[2:]]
    if isinstance(step.operation, Unfold):
        return [0, None, *places[1:]]
    order = _permutation(step)
    if order:
        return order
    before = tuple(x.shape)
    after = tuple(y.shape)
    same = list(places)
    if len(after) == len(before) + 1:
        # An axis of size 1 was inserted, the last one where there are several.
        for place in reversed(range(1, len(after))):
            if (*before[:place], 1, *before[place:]) == after:
                return [*same[:place], None, *same[place:]]
    if len(after) != len(before):
        return None
    if before == after:
        return same
    # The same sizes in another order are permuted axes, unless by a layer
    # whose data format says otherwise.
    declared_axis = _declared_channel_axis(step.operation, y)
    is_permuted = _is_permuted(x, y) and declared_axis is None
    if is_permuted or step.kind in ("Lambda", "Reshape"):
        return None
    return same


def _moved(axis, order, rank):
    """Returns where an axis is in another order, -1 for the last place.

    `None` if it was folded into another.
    """
    if order == list(range(rank)):
        return axis
    if axis % rank not in order:
        return None
    place = order.index(axis % rank)
    return -1 if place == len(order) - 1 else place


def _axes_after(step, x, axes):
    """Returns the axes of the output of a step, from those of one input."""
    order = _order(step, x, step.outputs[0])
    if order is None or isinstance(step.operation, (Fold, Unfold)):
        return None
    return tuple(None if place is None else axes[place] for place in order)
