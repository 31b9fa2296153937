"""Which tensors of a model are feature maps, and their data format."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from cbam_keras._inspection.graph import Step, layers_within


def is_feature_map(tensor: Any) -> bool:
    """Returns whether a tensor has positions and channels."""
    return 3 <= len(tensor.shape) <= 5 and "float" in tensor.dtype


def input_format(model: keras.Model) -> str:
    """Returns the data format of the images that a model takes."""
    for layer in layers_within(model):
        given = getattr(layer, "data_format", None)
        if given is not None:
            return given
    return keras.config.image_data_format()


def data_formats(steps: Sequence[Step]) -> dict[int, str]:
    """Returns the data format of the output of each operation, by its id.

    A layer without a data format of its own has that of its input.
    """
    default = keras.config.image_data_format()
    formats: dict[int, str] = {}
    found = {}
    for step in steps:
        data_format = getattr(step.operation, "data_format", None)
        if isinstance(step.operation, layers.BatchNormalization):
            axis, rank = step.operation.axis, len(step.outputs[0].shape)
            if rank > 2:
                last = axis in (-1, rank - 1)
                data_format = "channels_last" if last else "channels_first"
        if data_format is None:
            given = [formats.get(id(x), default) for x in step.inputs]
            data_format = given[0] if given else default
        formats.update((id(x), data_format) for x in step.outputs)
        found[id(step.operation)] = data_format
    return found
