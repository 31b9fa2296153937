"""A callback that logs what attention gates do while a network trains."""

import math

import keras

from cbam_keras import _graph

__all__ = ["AttentionMonitor"]

# So many images give a stable mean and cost little.
MAX_IMAGES = 32
# Values this near to an end of their range (as a fraction of it) count as
# saturated.
NEAR_END = 0.01


class AttentionMonitor(keras.callbacks.Callback):
    """Logs statistics of each attention gate after every epoch.

    It logs `mean`, `spread` and `saturation` of the values of each gate, over
    the same images in every epoch.

    They say what a gate does:

    - `mean` of its values: 1 lets everything through, 0 nothing;
    - `spread`, their standard deviation over images and positions or
      channels: 0 means that the gate treats all of them alike;
    - `saturation`, the fraction of the values within 1 % of an end of their
      range, where a sigmoid hardly learns.

    The keys in the logs are `"stage1_block1_attention/spatial_spread"` and
    the like, and the history that `fit` returns has them. Put callbacks that
    write logs, such as `CSVLogger` and `TensorBoard`, after this one.

    Args:
        images: See `explain.attention_maps`; the first 32 are used. They must
            be passed: Keras does not pass the data of `fit` to callbacks.
            Defaults to `None`.

    Raises:
        ValueError: When training begins, if the model has no attention
            layers, or if `images` are missing, not finite or not of the shape
            that the model takes.
        TypeError: If `images` are not numbers, when training begins.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, attention="cbam"
        ... )
        >>> model.compile("sgd", loss="sparse_categorical_crossentropy")
        >>> images = np.random.rand(4, 32, 32, 3)
        >>> history = model.fit(
        ...     images, np.arange(4), verbose=0,
        ...     callbacks=[cbam_keras.AttentionMonitor(images)],
        ... )
        >>> "stage1_block1_attention/channel_mean" in history.history
        True
    """

    def __init__(self, images: object = None):
        super().__init__()
        self.images = images

    def on_train_begin(self, logs=None):
        if self.images is None:
            raise ValueError(
                "`images` must be given, an array (B, H, W, C). Received: "
                "images=None. Use AttentionMonitor(images=...)"
            )
        images, _ = _graph.with_labels(self.images, self.model, MAX_IMAGES)
        images = keras.tree.map_structure(
            lambda x: x[:MAX_IMAGES] if hasattr(x, "shape") else x, images
        )
        inputs = _graph.check_inputs(images, self.model)
        self.batch = next(_graph.batches(inputs, MAX_IMAGES))
        self._names = _graph.attention_layers(self.model, self.batch)
        self._ranges = {
            name: _value_range(layer) for layer, name in self._names.items()
        }

    def on_epoch_end(self, epoch, logs=None):
        maps = _graph.record_maps(self.model, self.batch, self._names)
        for name, pair in maps.items():
            value_range = self._ranges[name.partition("#")[0]]
            for gate, values in zip(("channel", "spatial"), pair, strict=True):
                if values is None or logs is None:
                    continue
                for key, number in _statistics(values, value_range).items():
                    logs[f"{name}/{gate}_{key}"] = number


def _statistics(values, value_range):
    """Returns the numbers to log for a map `(B, ...)`."""
    values = values.astype("float64")
    low, high = value_range
    near = NEAR_END * (high - low if math.isfinite(high - low) else 1)
    at_end = (values <= low + near) | (values >= high - near)
    return {
        "mean": float(values.mean()),
        "spread": float(values.std()),
        "saturation": float(at_end.mean()),
    }


def _value_range(layer):
    """Returns the range of a gate's values, infinite where it has no end."""
    return [
        end if abs(end) < 100 else math.copysign(math.inf, end)
        for end in layer._map_range()
    ]
