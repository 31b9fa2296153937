"""A network as a backbone: the feature maps of its stages."""

import re

import keras

from cbam_keras import _checks, _graph


@_checks.named
def pyramid(model: keras.Model) -> keras.Model:
    """Builds a model that returns the last feature map of each stage.

    It shares the layers, and so the weights, of the given model.

    Args:
        model: A network of `cbam_keras.models`, with or without classifier.

    Returns:
        A functional `keras.Model` with the inputs of `model`. Its output is a
        list of `(B, H, W, C)`, one per stage, the largest map first.

    Raises:
        ValueError: If the model has no layers with names such as
            `stage1_block1_out`.
        TypeError: If `model` is not a model.

    Example:
        >>> model = pyramid(ResNet18(input_shape=(64, 64, 3)))
        >>> [shape[1:] for shape in model.output_shape]
        [(16, 16, 64), (8, 8, 128), (4, 4, 256), (2, 2, 512)]
    """
    _graph.require_model("model", model)
    last: dict[int, keras.layers.Layer] = {}
    for layer in model.layers:
        match = re.match(r"stage(\d+)_block\d+_", layer.name)
        if match:
            last[int(match[1])] = layer
    if not last:
        raise ValueError(
            "`model` must have layers named stage1_block1_out and so on, as "
            "the networks of `cbam_keras.models` have. Received: model "
            f'"{model.name}". If the network is inside this model, get it with '
            "`get_layer`"
        )
    return keras.Model(
        model.input,
        [last[stage].output for stage in sorted(last)],
        name=f"{model.name}_pyramid",
    )
