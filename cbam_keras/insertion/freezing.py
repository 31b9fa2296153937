"""Freezing the batch normalization of a trained network."""

import keras

from cbam_keras import _checks, _graph
from cbam_keras.layers import AttentionLayer


def freeze_batch_norm(model: keras.Model) -> int:
    """Freezes the batch normalization of a trained network for fine-tuning.

    Frozen layers normalize by their moving averages, which do not change.
    Models within the model are searched too, and those of its layers that
    hold others. That of attention layers stays
    trainable, since inserted gates must still find their averages. Compile the
    model afterwards, and call this again after setting `trainable` of the
    whole model.

    Args:
        model: A `keras.Model`, which is changed in place.

    Returns:
        Integer, how many layers are frozen.

    Example:
        >>> model = keras.applications.MobileNetV2(weights=None)
        >>> freeze_batch_norm(model)
        52
    """
    _checks.keras_3("model", model)
    layers = _graph.layers_within(model)
    gates = {
        id(inner)
        for layer in layers
        if isinstance(layer, AttentionLayer)
        for inner in _graph.layers_within(layer)
    }
    norms = [
        x for x in layers if isinstance(x, keras.layers.BatchNormalization)
    ]
    frozen = [layer for layer in norms if id(layer) not in gates]
    for layer in frozen:
        layer.trainable = False
    return len(frozen)
