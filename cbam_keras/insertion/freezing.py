"""Freezing the batch normalization of a trained network."""

import keras

from cbam_keras import _graph


def freeze_batch_norm(model: keras.Model) -> int:
    """Freezes the batch normalization of a trained network for fine-tuning.

    Compile the model afterwards, and call this again after setting `trainable`
    of the whole model.

    Frozen layers normalize by their moving averages, which do not change.
    Layers of nested models are frozen too. The normalization of attention
    layers stays trainable, since inserted gates must still find their averages.

    Args:
        model: A `keras.Model`, which is changed in place.

    Returns:
        Integer, how many layers are frozen.

    Example:
        >>> model = keras.applications.MobileNetV2(weights=None)
        >>> freeze_batch_norm(model)
        52
    """
    _graph.require_model("model", model)
    kind = keras.layers.BatchNormalization
    frozen = {x for x in _graph.layers_within(model) if isinstance(x, kind)}
    for gate in _graph.gate_paths(model):
        frozen.difference_update(_graph.layers_within(gate))
    for layer in frozen:
        layer.trainable = False
    return len(frozen)
