"""A model traced step by step: what connects its tensors, and their axes."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence

import keras
from keras import layers

from cbam_keras._inspection.graph import Tensor, is_graph, replay, structure

_PERMUTATIONS = {"Moveaxis", "Permute", "Swapaxes", "Transpose"}
# All different, to tell the axes of a permuted tensor by their sizes.
_SIZES = (2, 3, 5, 7, 11, 13, 17, 19)
# Classes of layers whose second input axis is time begin with these.
_OF_FRAMES = ("TimeDistributed", "ConvLSTM")


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A call of the flattened graph, in which nested models are expanded.

    `path` has the names of the models that it is nested in:
    `"backbone/conv1"`. Each tensor is the output of a single step.
    """

    path: str
    operation: keras.Operation
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]


class Graph:
    """The steps of a model in an order in which they can run.

    It is traced with `inputs`, flat symbolic tensors: only shapes are
    propagated, nothing runs.
    """

    def __init__(self, model: keras.Model, inputs: Sequence[keras.KerasTensor]):
        self.inputs = list(inputs)
        self.steps: list[Step] = []
        self._makers: dict[int, Step] = {}
        self._users: dict[int, list[Step]] = collections.defaultdict(list)
        self.outputs = walk(model, inputs, self._add)
        # Inputs, whose maker is `None`, come before all steps.
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
        steps: set[Step] = set()
        tensors = [tensor]
        while tensors:
            step = self.maker(tensors.pop())
            if step is not None and step not in steps:
                steps.add(step)
                tensors.extend(step.inputs)
        return steps

    def data_format(self, operation: keras.Operation) -> str:
        """Returns that of an operation or, if it has none, of its input."""
        default = keras.config.image_data_format()
        return self._formats.get(id(operation), default)

    @functools.cached_property
    def _formats(self):
        """The data formats of operations and tensors, by their ids."""
        default = keras.config.image_data_format()
        formats: dict[int, str] = {}
        for step in self.steps:
            inherited = [formats.get(id(x), default) for x in step.inputs]
            data_format = _format_of_layer(step) or [*inherited, default][0]
            for x in (step.operation, *step.outputs):
                formats[id(x)] = data_format
        return formats

    def axes(self, tensor: keras.KerasTensor) -> tuple[int | None, ...] | None:
        """Returns which axes of the (first) input the axes of a tensor are.

        An axis that was inserted is `None`, and so is the result if the axes
        cannot be followed, as after most `Reshape` layers.
        """
        return self._axes.get(id(tensor))

    @functools.cached_property
    def _axes(self):
        image = self.inputs[0]
        all_axes: dict[int, tuple] = {id(image): tuple(range(len(image.shape)))}
        for step in self.steps:
            known = (x for x in step.inputs if id(x) in all_axes)
            candidates = (_axes_after(step, x, all_axes[id(x)]) for x in known)
            axes = next(filter(None, candidates), None)
            if axes is not None and len(step.outputs) == 1:
                all_axes[id(step.outputs[0])] = axes
        return all_axes

    @functools.cached_property
    def positions(self) -> tuple[int, ...] | None:
        """The axes of the input that are positions, `None` if not known."""
        for step in self.steps:
            data_format = _format_of_layer(step)
            axes = self.axes(step.inputs[0]) if step.inputs else None
            if data_format is None or axes is None:
                continue
            channel = len(axes) - 1
            if data_format == "channels_first":
                name = type(step.operation).__name__
                channel = 2 if name.startswith(_OF_FRAMES) else 1
            return tuple(
                axis
                for place, axis in enumerate(axes)
                if place not in (0, channel) and axis is not None
            )
        return None


def walk(
    model: keras.Model,
    inputs: Sequence[Tensor],
    call: Callable[..., Tensor],
    prefix: str = "",
) -> list[Tensor]:
    """Runs the graph of a model, those of nested models included.

    `call` gets the path of an operation, the operation, and its arguments.
    Inputs and outputs are flat.
    """

    def visit(operation, *args, **kwargs):
        path = prefix + operation.name
        if is_graph(operation):
            nested = _in_order(operation, args, kwargs)
            return walk(operation, nested, call, f"{path}/")
        return call(path, operation, *args, **kwargs)

    return replay(model, inputs, visit)


def is_feature_map(tensor: keras.KerasTensor) -> bool:
    """Returns whether a tensor has positions and channels."""
    return 3 <= len(tensor.shape) <= 5 and "float" in tensor.dtype


def _in_order(model, args, kwargs):
    """Returns the inputs of a call in the order of `model.inputs`."""
    inputs = args[0] if args else kwargs["inputs"]
    if isinstance(inputs, dict) and not isinstance(structure(model)[0], dict):
        return [inputs[x.name] for x in model.inputs]
    return keras.tree.flatten(inputs)


def _format_of_layer(step):
    """Returns the data format that an operation has itself, or `None`."""
    operation = step.operation
    if isinstance(operation, layers.TimeDistributed):
        operation = operation.layer
    if isinstance(operation, layers.BatchNormalization):
        axis, rank = operation.axis, len(step.outputs[0].shape)
        if rank > 2:
            last = axis in (-1, rank - 1)
            return "channels_last" if last else "channels_first"
    return getattr(operation, "data_format", None)


def _permutation(step):
    """Returns the axes of the input in their order in the output, or `None`."""
    if type(step.operation).__name__ not in _PERMUTATIONS:
        return None
    (x,) = step.inputs
    probe = keras.KerasTensor(_SIZES[: len(x.shape)], x.dtype)
    permuted = step.operation.compute_output_spec(probe)
    return [_SIZES.index(size) for size in permuted.shape]


def _axes_after(step, x, axes):
    """Returns the axes of the output of a step, from those of one input."""
    order = _permutation(step)
    if order:
        return tuple(axes[axis] for axis in order)
    before, after = tuple(x.shape), tuple(step.outputs[0].shape)
    if len(after) == len(before) + 1:
        # An axis of size 1 was inserted, the last one where there are several.
        for place in reversed(range(1, len(after))):
            if (*before[:place], 1, *before[place:]) == after:
                return (*axes[:place], None, *axes[place:])
    if len(after) != len(before):
        return None
    # The same sizes in another order are permuted axes, unless by a layer
    # whose data format says otherwise.
    permuted = sorted(map(str, before)) == sorted(map(str, after)) and (
        not _format_of_layer(step)
    )
    reshapes = type(step.operation).__name__ in ("Lambda", "Reshape")
    return None if before != after and (permuted or reshapes) else axes
