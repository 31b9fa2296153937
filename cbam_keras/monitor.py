"""Attention watched while a network trains."""

import math
import sys
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from cbam_keras import _checks, _inspection

__all__ = ["AttentionMonitor"]

# How many images are looked at: enough for a mean, few enough to cost little.
IMAGES = 32
# A gate that varies less is constant.
CONSTANT = 1e-3
# How near to an end of its range a value is saturated, as a part of it, and
# the share of such values from which a gate is.
NEAR, SATURATED = 0.01, 0.95


class AttentionMonitor(keras.callbacks.Callback):
    """Logs what each attention gate does, after every epoch.

    For each gate, over the same images every time:

    - `mean` of its values: 1 lets everything through, 0 nothing;
    - `spread`, their standard deviation, over positions or channels and
      images: 0 is a gate that does not choose;
    - `entropy` of the values as shares of their sum, for each image, divided
      by its maximum: 1 is attention to everything alike, 0 to a single place;
    - `saturation`, the part of the values within 1 % of an end of the range,
      where a sigmoid hardly learns.

    The names in the logs are those of layer, gate and number:
    `"stage1_block1_attention/spatial_spread"`. Callbacks that write logs, as
    `CSVLogger` and `TensorBoard`, stand after this one in the list of `fit`.
    The history that `fit` returns has the numbers in any case.

    A gate that is constant or saturated for several epochs is told of in a
    warning, once.

    Args:
        images: Array `(B, H, W, C)` as the model takes them (for a model of
            several inputs what it takes), or a data set, whose first batch
            is used; of either at most 32 images. Defaults to `None`, which
            means what `fit` gets: its `validation_data`, or else its
            training data. Drawing a batch of a shuffled `tf.data.Dataset`
            changes the order that follows; give `images` where that matters.
        patience: Positive integer, after how many epochs in a row there is a
            warning. Defaults to `3`.

    Raises:
        ValueError: If `patience` is out of range; when training begins, if
            the model has no attention layers, if `images` are not of the
            shape that it takes or not finite, or if they are `None` and `fit`
            has no data of which a batch can be taken without using it up, as
            of a generator.
        TypeError: If `images` are no numbers, when training begins.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, attention="cbam"
        ... )
        >>> model.compile("sgd", loss="sparse_categorical_crossentropy")
        >>> history = model.fit(
        ...     np.random.rand(4, 32, 32, 3), np.arange(4), verbose=0,
        ...     callbacks=[cbam_keras.AttentionMonitor()],
        ... )
        >>> "stage1_block1_attention/channel_mean" in history.history
        True
    """

    def __init__(self, images: Any = None, *, patience: int = 3):
        super().__init__()
        self.images = images
        self.patience = _checks.positive_integer("patience", patience)
        self._names: dict[Any, str] = {}
        self._ends: dict[str, tuple[float, float]] = {}
        self._batch: Any = None
        self._streaks: dict[tuple[str, str], int] = {}

    def on_train_begin(self, logs=None):
        model = self.model
        self._names = _inspection.gates(model)
        self._ends = {name: _ends(gate) for gate, name in self._names.items()}
        if self.images is None:
            self._batch = _first(_of_fit(model))
        else:
            self._batch = _checked(self.images, model)
        self._streaks = {}

    def on_epoch_end(self, epoch, logs=None):
        maps = _inspection.record(self.model, self._batch, self._names)
        for name, pair in maps.items():
            own = self._ends[name.partition("#")[0]]
            for gate, values in zip(("channel", "spatial"), pair, strict=True):
                if values is None:
                    continue
                numbers = _statistics(values, own)
                for key, number in numbers.items():
                    if logs is not None:
                        logs[f"{name}/{gate}_{key}"] = number
                self._judge(name, gate, numbers)

    def _judge(self, name, gate, numbers):
        """Warns of a gate that has been of no use for long enough."""
        constant = numbers["spread"] < CONSTANT
        judged = {
            "constant": constant,
            "saturated": not constant and numbers["saturation"] >= SATURATED,
        }
        for kind, found in judged.items():
            key = f"{name}/{gate}", kind
            self._streaks[key] = self._streaks.get(key, 0) + 1 if found else 0
            if self._streaks[key] == self.patience:
                _checks.warn(
                    _WARNINGS[kind].format(gate, name, self, **numbers)
                )


_WARNINGS = {
    "constant": (
        'The {0} gate of layer "{1}" has been constant for {2.patience} '
        "epochs: {mean:.3g} everywhere (spread {spread:.1g}). It attends to "
        "nothing: its layer may be frozen, its hidden units dead, or the "
        "learning rate too low for it"
    ),
    "saturated": (
        'The {0} gate of layer "{1}" has been saturated for {2.patience} '
        "epochs: {saturation:.0%} of its values lie at an end of their range "
        "(mean {mean:.3g}), where it hardly learns. A lower learning rate, "
        "weight decay, or normalization before the layer keep it from there"
    ),
}


def _statistics(values, ends):
    """Returns what is logged of a map, `(B, ...)`."""
    flat = values.reshape(len(values), -1).astype("float64")
    low, high = ends
    near = NEAR * (high - low if math.isfinite(high - low) else 1)
    at_end = (flat <= low + near) | (flat >= high - near)
    return {
        "mean": float(flat.mean()),
        "spread": float(flat.std()),
        "entropy": float(_entropy(flat).mean()),
        "saturation": float(at_end.mean()),
    }


def _entropy(flat):
    """Returns the entropy of each row as shares, divided by its maximum."""
    if flat.shape[1] == 1:
        return np.ones(len(flat))
    size = np.abs(flat)
    total = size.sum(axis=1, keepdims=True)
    # All 0 is alike everywhere.
    shares = np.where(
        total == 0, 1 / flat.shape[1], size / np.where(total == 0, 1, total)
    )
    logs = np.log(np.where(shares == 0, 1, shares))
    return -(shares * logs).sum(axis=1) / math.log(flat.shape[1])


def _ends(layer):
    """Returns the ends of the range of a gate, infinite where it has none."""
    far = ops.convert_to_numpy(
        layer.gate_activation(ops.convert_to_tensor([-1e4, 1e4]))
    )
    scale = layer._gate_scale or 1.0
    low, high = (float(scale * x) for x in far)
    return (
        low if abs(low) < 100 else -math.inf,
        high if abs(high) < 100 else math.inf,
    )


def _of_fit(model):
    """Returns the data that the running `fit` of a model was given.

    Keras hands none to callbacks, so they are looked up where they are: in
    the frame of `fit`.
    """
    frame = sys._getframe()
    while frame is not None:
        own = frame.f_locals
        if frame.f_code.co_name == "fit" and own.get("self") is model:
            for data in (_inputs(own.get("validation_data")), own.get("x")):
                # What is taken from a generator is used up.
                if data is not None and not hasattr(data, "__next__"):
                    return data
            break
        frame = frame.f_back
    raise ValueError(
        "`images` must be given where `fit` has no data of which a batch can "
        "be taken without using it up. Received: images=None, and a generator "
        "or a loop of your own. AttentionMonitor(images[:32]) looks at those"
    )


def _inputs(data):
    """Returns the inputs of `(inputs, labels, ...)`; of a data set, itself."""
    if isinstance(data, (tuple, list)):
        return keras.utils.unpack_x_y_sample_weight(tuple(data))[0]
    return data


def _checked(images, model):
    """Returns the first of the images that were given, if they are such."""
    if not model.inputs or len(model.inputs) != 1:
        return _first(images)
    if isinstance(images, list):
        images = np.asarray(images)
    elif isinstance(images, tuple):
        images = _inputs(images)
    several = isinstance(images, (keras.utils.PyDataset, Iterable))
    if several and not isinstance(images, str):
        images = _first(images)
    return _inspection.check_images(images, model)


def _first(data):
    """Returns the first inputs of arrays, or of a data set, as arrays."""
    if isinstance(data, keras.utils.PyDataset):
        data = _inputs(data[0])
    elif not _is_arrays(data):
        data = _inputs(next(iter(data)))
    return keras.tree.map_structure(lambda x: np.asarray(x)[:IMAGES], data)


def _is_arrays(data):
    return all(hasattr(x, "shape") for x in keras.tree.flatten(data))
