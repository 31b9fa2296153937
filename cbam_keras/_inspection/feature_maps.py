"""Which tensors of a model are feature maps, and which axes are positions."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from cbam_keras._inspection.graph import Step, trace

_PERMUTATIONS = {"Moveaxis", "Permute", "Swapaxes", "Transpose"}
# All different, to tell the axes of a permuted tensor by their sizes.
_SIZES = (2, 3, 5, 7, 11, 13, 17, 19)


def is_feature_map(tensor: Any) -> bool:
    """Returns whether a tensor has positions and channels."""
    return 3 <= len(tensor.shape) <= 5 and "float" in tensor.dtype


def input_format(model: keras.Model) -> str:
    """Returns the data format of the images that a model takes."""
    given = [keras.KerasTensor(x.shape, x.dtype) for x in model.inputs]
    steps, _ = trace(model, given)
    found = input_positions(steps, given[0])
    if found is None:
        return keras.config.image_data_format()
    return "channels_last" if 1 in found else "channels_first"


def data_formats(steps: Sequence[Step]) -> dict[int, str]:
    """Returns the data format of the output of each operation, by its id.

    A layer without a data format of its own has that of its input.
    """
    default = keras.config.image_data_format()
    formats: dict[int, str] = {}
    found = {}
    for step in steps:
        data_format = _own_format(step)
        if data_format is None:
            given = [formats.get(id(x), default) for x in step.inputs]
            data_format = given[0] if given else default
            order = _permutation(step)
            if order:
                channel = 1 if data_format == "channels_first" else -1
                place = order.index(range(len(order))[channel])
                # Of a model's input the format is not known.
                if place == 1 or place == len(order) - 1:
                    last = place != 1
                    data_format = "channels_last" if last else "channels_first"
        formats.update((id(x), data_format) for x in step.outputs)
        found[id(step.operation)] = data_format
    return found


def input_positions(
    steps: Sequence[Step], given: Any
) -> tuple[int, ...] | None:
    """Returns the axes of the input of a model that are positions.

    Args:
        steps: The steps of the model.
        given: Its input tensor.

    Returns:
        Tuple of axes, or `None` if no layer tells its data format.
    """
    followed = followed_axes(steps, given)
    for step in steps:
        data_format = _own_format(step)
        axes = followed.get(id(step.inputs[0])) if step.inputs else None
        if data_format is None or axes is None:
            continue
        channel = len(axes) - 1
        if data_format == "channels_first":
            channel = 2 if _takes_frames(step.operation) else 1
        return tuple(
            axis
            for place, axis in enumerate(axes)
            if place not in (0, channel) and axis is not None
        )
    return None


def followed_axes(steps: Sequence[Step], given: Any) -> dict[int, tuple]:
    """Returns which axes of the input the axes of each tensor are.

    The tensors go by their ids. An axis is `None` where it was inserted.
    Tensors whose axes cannot be followed, as after most `Reshape` layers, are
    left out.
    """
    followed: dict[int, tuple] = {id(given): tuple(range(len(given.shape)))}
    for step in steps:
        known = [x for x in step.inputs if id(x) in followed]
        if not known or len(step.outputs) != 1:
            continue
        (output,) = step.outputs
        order = _permutation(step)
        for x in known:
            axes = followed[id(x)]
            if order:
                axes = tuple(axes[axis] for axis in order)
            elif len(x.shape) + 1 == len(output.shape):
                place = _inserted(x.shape, output.shape)
                if place is None:
                    continue
                axes = (*axes[:place], None, *axes[place:])
            elif len(x.shape) != len(output.shape) or _mixes(step, x, output):
                continue
            followed[id(output)] = axes
            break
    return followed


def _own_format(step):
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


def _takes_frames(operation):
    """Returns whether the second axis of a layer's input is time."""
    return isinstance(
        operation,
        (
            layers.TimeDistributed,
            layers.ConvLSTM1D,
            layers.ConvLSTM2D,
            layers.ConvLSTM3D,
        ),
    )


def _permutation(step):
    """Returns the axes of the input in their order in the output, or `None`."""
    if type(step.operation).__name__ not in _PERMUTATIONS:
        return None
    (given,) = step.inputs
    probe = keras.KerasTensor(_SIZES[: len(given.shape)], given.dtype)
    permuted = step.operation.compute_output_spec(probe)
    return [_SIZES.index(size) for size in permuted.shape]


def _inserted(shape, longer):
    """Returns where an axis of size 1 was inserted last, or `None`."""
    for place in reversed(range(1, len(longer))):
        if longer[place] == 1 and (
            (*longer[:place], *longer[place + 1 :]) == tuple(shape)
        ):
            return place
    return None


def _mixes(step, given, output):
    """Returns whether axes may have been mixed, as by `Reshape`."""
    before, after = tuple(given.shape), tuple(output.shape)
    if before == after:
        return False
    # The same sizes in another order: permuted within a layer.
    permuted = Counter(before) == Counter(after) and not _own_format(step)
    return permuted or type(step.operation).__name__ in ("Lambda", "Reshape")
