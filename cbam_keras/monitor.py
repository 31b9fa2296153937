"""A callback that logs what attention gates do while a network trains."""

import collections
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from cbam_keras import _checks, _inspection

__all__ = ["AttentionMonitor"]

# Enough images for a stable mean, few enough to cost little.
MAX_IMAGES = 32
# Gates with a standard deviation below this count as constant.
CONSTANT = 1e-3
# Values this near to an end of their range (as a fraction of it) count as
# saturated, and so does a gate with this fraction of such values.
NEAR_END, SATURATED = 0.01, 0.95
WARNINGS = {
    "constant": "{mean:.3g} everywhere (spread {spread:.1g}). It selects "
    "nothing: its layer may be frozen, its hidden units dead, or the learning "
    "rate too low for it",
    "saturated": "{saturation:.0%} of its values are at an end of their range "
    "(mean {mean:.3g}), where it hardly learns. Try a lower learning rate, "
    "weight decay, or normalization before the layer",
}


class AttentionMonitor(keras.callbacks.Callback):
    """Logs statistics of each attention gate after every epoch.

    For each gate, over the same images in every epoch:

    - `mean` of its values: 1 lets everything through, 0 nothing;
    - `spread`, their standard deviation over images and positions or
      channels: 0 means that the gate treats all of them alike;
    - `entropy` of the values of an image, normalized to sum to 1, divided by
      its maximum: 1 is uniform attention, 0 attention to a single position or
      channel;
    - `saturation`, the fraction of the values within 1 % of an end of their
      range, where a sigmoid hardly learns.

    The keys in the logs are `"stage1_block1_attention/spatial_spread"` and
    the like, and the history that `fit` returns has them. Put callbacks that
    write logs, such as `CSVLogger` and `TensorBoard`, after this one. Warns
    once of a gate that is constant or saturated for several epochs.

    Args:
        images: Array `(B, H, W, C)` as the model takes it (for a model with
            several inputs, what it takes), or batches such as validation
            data, of which the first is used; at most 32 images of either.
            Required for training, as Keras does not give callbacks the data
            of `fit`. Defaults to `None`.
        patience: Positive integer, after how many epochs in a row to warn.
            Defaults to `3`.

    Raises:
        ValueError: If `patience` is out of range; when training begins, if
            the model has no attention layers, or if `images` are missing, not
            finite or not of the shape that the model takes.
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

    def __init__(self, images: Any = None, *, patience: int = 3):
        super().__init__()
        self.images = images
        self.patience = _checks.positive_integer("patience", patience)

    def on_train_begin(self, logs=None):
        self._names = _inspection.attention_layers(self.model)
        self._ranges = {
            name: _value_range(layer) for layer, name in self._names.items()
        }
        self.batch = _batch_of(self.images, self.model)
        self._streaks = collections.Counter()

    def on_epoch_end(self, epoch, logs=None):
        maps = _inspection.record_maps(self.model, self.batch, self._names)
        for name, pair in maps.items():
            value_range = self._ranges[name.partition("#")[0]]
            for gate, values in zip(("channel", "spatial"), pair, strict=True):
                if values is None:
                    continue
                numbers = _statistics(values, value_range)
                for key, number in numbers.items():
                    if logs is not None:
                        logs[f"{name}/{gate}_{key}"] = number
                self._warn_if_useless(name, gate, numbers)

    def _warn_if_useless(self, name, gate, numbers):
        """Warns of a gate that is constant or saturated for long enough."""
        constant = numbers["spread"] < CONSTANT
        saturated = not constant and numbers["saturation"] >= SATURATED
        for kind, holds in (("constant", constant), ("saturated", saturated)):
            key = name, gate, kind
            self._streaks[key] = self._streaks[key] + 1 if holds else 0
            if self._streaks[key] == self.patience:
                _checks.warn(
                    f'The {gate} gate of layer "{name}" has been {kind} for '
                    f"{self.patience} epochs: "
                    + WARNINGS[kind].format(**numbers)
                )


def _statistics(values, value_range):
    """Returns the numbers to log for a map `(B, ...)`."""
    flat = values.reshape(len(values), -1).astype("float64")
    low, high = value_range
    near = NEAR_END * (high - low if math.isfinite(high - low) else 1)
    at_end = (flat <= low + near) | (flat >= high - near)
    return {
        "mean": float(flat.mean()),
        "spread": float(flat.std()),
        "entropy": float(_entropy(flat).mean()),
        "saturation": float(at_end.mean()),
    }


def _entropy(flat):
    """Returns the entropy of each row, normalized, over its maximum."""
    if flat.shape[1] == 1:
        return np.ones(len(flat))
    size = np.abs(flat)
    # Rows of zeros are uniform.
    size[~size.any(axis=1)] = 1
    fractions = size / size.sum(axis=1, keepdims=True)
    logs = np.log(np.where(fractions == 0, 1, fractions))
    return -(fractions * logs).sum(axis=1) / math.log(flat.shape[1])


def _value_range(layer):
    """Returns the range of a gate's values, infinite where it has no end."""
    ends = layer.gate_activation(ops.convert_to_tensor([-1e4, 1e4]))
    scale = layer._gate_scale or 1.0
    low, high = (float(scale * x) for x in ops.convert_to_numpy(ends))
    return (
        low if abs(low) < 100 else -math.inf,
        high if abs(high) < 100 else math.inf,
    )


def _batch_of(data, model):
    """Returns the images of an array, or of the first of some batches."""
    if data is None:
        raise ValueError(
            "`images` must be given, an array (B, H, W, C) or batches such as "
            "validation data. Received: images=None. Use "
            "AttentionMonitor(images=...)"
        )
    single = model.inputs and len(model.inputs) == 1
    if isinstance(data, list) and single:
        data = np.asarray(data)
    elif isinstance(data, keras.utils.PyDataset):
        data = data[0]
    elif isinstance(data, Iterable) and not (
        isinstance(data, (dict, list, tuple)) or hasattr(data, "shape")
    ):
        data = next(iter(data))
        # PyTorch's `DataLoader` gives lists.
        data = tuple(data) if isinstance(data, list) else data
    if isinstance(data, tuple):
        # Inputs, labels and perhaps weights.
        data = data[0]
    data = keras.tree.map_structure(
        lambda x: x[:MAX_IMAGES] if hasattr(x, "shape") else x, data
    )
    return _inspection.check_images(data, model) if single else data
