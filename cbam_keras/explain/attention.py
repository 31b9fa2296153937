"""The attention maps of every attention layer of a model."""

import keras
import numpy as np

from cbam_keras import _checks, _graph


@_checks.named
def attention_maps(
    model: keras.Model, images: _graph.Inputs, *, batch_size: int = 32
) -> dict[str, _graph.Maps]:
    """Returns the attention maps of every attention layer for some images.

    Attention layers are found in nested models, in your own layers and in
    subclassed models. The model runs in inference mode.

    Args:
        model: `keras.Model` with attention layers of `cbam_keras`.
        images: Images `(B, H, W, C)` as the model takes them: an array, or a
            list or dictionary of inputs.
        batch_size: Positive integer, images per batch. Defaults to `32`.

    Returns:
        Dictionary of layer names to tuples of the channel map `(B, C)` and the
        spatial map `(B, h, w)`, or `None` for a gate that a layer lacks. The
        order is that in which the layers run; maps are NumPy arrays, at the
        size of the features. A joint map, such as that of `BAM`, is given by
        its means over positions and over channels. In `TimeDistributed`, maps
        have an axis of frames, `(B, T, C)` and `(B, T, h, w)`. If several
        layers have one name, paths are the keys (`"backbone/cbam"`). If a layer
        is called several times, its further calls are `"cbam#2"` and so on.

    Raises:
        ValueError: If the model has no attention layers, or if it does not
            take the images.
        TypeError: If `model` is not a model, or the images are not numbers.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, attention="cbam"
        ... )
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> maps = cbam_keras.explain.attention_maps(model, images)
        >>> channel_map, spatial_map = maps["stage4_block2_attention"]
        >>> channel_map.shape, spatial_map.shape
        ((2, 512), (2, 1, 1))
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    _graph.require_model("model", model)
    images = _graph.check_inputs(images, model)
    first = next(_graph.batches(images, 1))
    names = _graph.gates_by_name(model, first)
    parts = [
        _graph.record_maps(model, batch, names)
        for batch in _graph.batches(images, batch_size)
    ]
    maps_of_layers = {}
    for name in parts[0]:
        channel, spatial = (
            None if maps[0] is None else np.concatenate(maps)
            for maps in zip(*(part[name] for part in parts), strict=True)
        )
        maps_of_layers[name] = (channel, spatial)
    return maps_of_layers
