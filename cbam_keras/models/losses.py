"""A loss and a metric for masks, with a class for each pixel.

Keras has no equivalent: `SparseCategoricalCrossentropy` fails for masks under
PyTorch, and takes no class weights; `MeanIoU` does not take a single output
unit for two classes.
"""

import contextlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras import ops

from cbam_keras import _checks

__all__ = ["PixelCrossentropy", "PixelIoU"]

# `"iou"` and `"dice"` are for two classes, and score the second one, the
# foreground.
SCORES = ("miou", "iou", "dice")
Tensor = Any


@keras.saving.register_keras_serializable(package="cbam_keras")
class IntegerLabels(keras.losses.Loss):
    """Applies a Keras loss for one-hot labels to integer labels.

    `loss` is a `keras.losses.Loss`, whose `call` gives a value for each label.
    It may be `None` in a subclass whose `call` does not use it.
    """

    def __init__(
        self,
        loss: keras.losses.Loss | None,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.loss = keras.losses.get(loss)

    def call(self, y_true, y_pred):
        labels = ops.reshape(ops.cast(y_true, "int32"), ops.shape(y_pred)[:-1])
        if y_pred.shape[-1] == 1:
            labels = labels[..., None]
        elif "Sparse" not in type(self.loss).__name__:
            labels = ops.one_hot(labels, y_pred.shape[-1])
        return self.loss.call(labels, y_pred)

    def get_config(self):
        loss = None
        if self.loss is not None:
            loss = keras.saving.serialize_keras_object(self.loss)
        config = super().get_config()
        config.update({"loss": loss})
        return config


@keras.saving.register_keras_serializable(package="cbam_keras")
class StandardizedLoss(keras.losses.Loss):
    """Applies a Keras loss to standardized targets and predictions.

    Both are `(B, ..., values)`. `mean` and `variance` have a number for each
    value.
    """

    def __init__(
        self,
        loss,
        mean,
        variance,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.loss = keras.losses.get(loss)
        self.mean = mean
        self.variance = variance

    def call(self, y_true, y_pred):
        mean = ops.convert_to_tensor(self.mean, "float32")
        deviation = ops.sqrt(ops.convert_to_tensor(self.variance, "float32"))
        y_true = (ops.cast(y_true, "float32") - mean) / deviation
        y_pred = (ops.cast(y_pred, "float32") - mean) / deviation
        return self.loss.call(y_true, y_pred)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "loss": keras.saving.serialize_keras_object(self.loss),
                "mean": self.mean,
                "variance": self.variance,
            }
        )
        return config


@keras.saving.register_keras_serializable(package="cbam_keras")
class PixelCrossentropy(IntegerLabels):
    """Crossentropy of the pixels that have a class, and soft Dice.

    Like `torch.nn.CrossEntropyLoss(weight, ignore_index=...)`, plus Dice.

    With class weights `w`, the crossentropy is `sum(-w[y] * log(p[y])) /
    sum(w[y])`, summed over the pixels of a batch that have a class `y`. Dice,
    with one-hot `y`, adds `dice_weight * (1 - mean(2 * sum(p * y) / (sum(p) +
    sum(y))))`, the mean over the classes that occur in the labels; with two
    classes, it is that of the foreground alone. A `sample_weight`, of images or
    pixels, weights both. A label that is neither a class nor `ignore_index`
    gives NaN.

    Args:
        ignore_index: Integer, the label of pixels that are ignored. Defaults to
            `255`.
        class_weight: Sequence of non-negative numbers, one for each class.
            Defaults to `None`, which means ones.
        dice_weight: Non-negative number, the weight of soft Dice. Defaults to
            `0.0`.
        from_logits: Boolean, whether predictions are logits. Defaults to
            `False`, which means probabilities.
        name: String, the name of the loss. Defaults to `"pixel_crossentropy"`.
        loss: A `keras.losses.Loss` instead of crossentropy, such as
            `keras.losses.CategoricalFocalCrossentropy()`. It must give a value
            for each pixel. Defaults to `None`.
        reduction: String, see `keras.losses.Loss`. `"mean"` and
            `"sum_over_batch_size"` mean `"mean_with_sample_weight"`, which
            divides by the sum of the weights. Defaults to
            `"mean_with_sample_weight"`.
        dtype: String, the type that the loss is computed in. Defaults to
            `None`, which means Keras' `floatx`.

    Call arguments:
        y_true: Integers `(B, ...)` or `(B, ..., 1)`.
        y_pred: `(B, ..., classes)`, or `(B, ..., 1)` for two classes.

    Raises:
        ValueError: When called, if shapes or `class_weight` do not fit.

    Example:
        >>> loss = PixelCrossentropy()
        >>> float(loss(np.array([[1, 255]]), np.array([[[0.5, 0.5], [1, 0]]])))
        0.6931471824645996

    Reference:
        Milletari, Navab and Ahmadi, 2016 (https://arxiv.org/abs/1606.04797),
        for Dice.
    """

    @_checks.named
    def __init__(
        self,
        ignore_index: int = 255,
        class_weight: Sequence[float] | None = None,
        dice_weight: float = 0.0,
        from_logits: bool = False,
        name: str = "pixel_crossentropy",
        loss: keras.losses.Loss | None = None,
        reduction: str = "mean_with_sample_weight",
        dtype: str | None = None,
    ):
        # Pixels without a class have a weight of 0, and a mean must not count
        # them.
        if reduction in ("mean", "sum_over_batch_size"):
            reduction = "mean_with_sample_weight"
        super().__init__(loss, reduction=reduction, name=name, dtype=dtype)
        self.ignore_index = ignore_index
        # A config is written as JSON, which has no arrays.
        if isinstance(class_weight, np.ndarray):
            class_weight = class_weight.tolist()
        self.class_weight = class_weight
        self.dice_weight = dice_weight
        self.from_logits = from_logits

    def __call__(self, y_true, y_pred, sample_weight=None):
        classes = max(2, y_pred.shape[-1])
        labels, weight = _read_labels(
            y_true, y_pred, sample_weight, classes, self.ignore_index
        )
        weight_of_class = ops.take(
            _weights_of(self.class_weight, classes), labels
        )
        loss = super().__call__(labels, y_pred, weight * weight_of_class)
        if not self.dice_weight:
            return loss
        return loss + self.dice_weight * self._dice_loss(labels, y_pred, weight)

    def _dice_loss(self, labels, y_pred, weight):
        """Returns one minus soft Dice, a mean over the classes in the batch."""
        classes = max(2, y_pred.shape[-1])
        logs = _log_probabilities(y_pred, self.from_logits)
        probabilities = ops.exp(logs) * weight[..., None]
        one_hot = ops.one_hot(labels, classes)
        axes = tuple(range(len(labels.shape)))
        intersection = ops.sum(probabilities * one_hot, axis=axes)
        predicted = ops.sum(probabilities, axis=axes)
        labeled = ops.sum(one_hot * weight[..., None], axis=axes)
        loss_of_class = 1 - 2 * intersection / (predicted + labeled + 1e-6)
        is_present = ops.cast(labeled > 0, "float32")
        # With two classes, only the foreground counts.
        first = 1 if classes == 2 else 0
        loss_of_class = loss_of_class[first:]
        is_present = is_present[first:]
        total = ops.maximum(ops.sum(is_present), 1)
        return ops.sum(loss_of_class * is_present) / total

    def call(self, y_true, y_pred):
        if self.loss is not None:
            return super().call(y_true, y_pred)
        logs = _log_probabilities(y_pred, self.from_logits)
        one_hot = ops.one_hot(ops.cast(y_true, "int32"), logs.shape[-1])
        return -ops.sum(one_hot * logs, axis=-1)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "ignore_index": self.ignore_index,
                "class_weight": self.class_weight,
                "dice_weight": self.dice_weight,
                "from_logits": self.from_logits,
            }
        )
        return config


@keras.saving.register_keras_serializable(package="cbam_keras")
class PixelIoU(keras.metrics.Metric):
    """Intersection over union, or Dice, over all pixels that have a class.

    Args:
        classes: Integer from 2, the number of classes.
        score: String, `"miou"`, the mean over the classes that occur in masks
            or predictions, or, with two classes, `"iou"` or `"dice"` of the
            second one. Defaults to `"miou"`.
        ignore_index: Integer, the label of pixels that are ignored. Defaults to
            `255`.
        from_logits: Boolean, whether predictions are logits. Defaults to
            `False`.
        name: String, the name of the metric. Defaults to `None`, which means
            the name of the score.
        dtype: String, the type that counts are kept in. Defaults to `None`,
            which means Keras' `floatx`.

    Example:
        >>> metric = PixelIoU(2)
        >>> metric.update_state(np.array([[1, 0]]), np.array([[[0.9], [0.8]]]))
        >>> float(metric.result())
        0.25
    """

    @_checks.named
    def __init__(
        self,
        classes: int,
        score: str = "miou",
        ignore_index: int = 255,
        from_logits: bool = False,
        name: str | None = None,
        dtype: str | None = None,
    ):
        super().__init__(dtype=dtype, name=name or score)
        self.classes = classes
        self.score = score
        self.ignore_index = ignore_index
        self.from_logits = from_logits
        # The confusion matrix, in pixels: a row per class of the masks, a
        # column per class of the predictions.
        self.matrix = self.add_variable(
            (classes, classes), keras.initializers.Zeros(), name="matrix"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, weight = _read_labels(
            y_true, y_pred, sample_weight, self.classes, self.ignore_index
        )
        target = ops.one_hot(labels, self.classes) * weight[..., None]
        predicted = to_classes(y_pred, self.from_logits)
        predicted = ops.one_hot(predicted, self.classes)
        axes = list(range(len(labels.shape)))
        counts = ops.tensordot(target, predicted, axes=[axes, axes])
        self.matrix.assign_add(ops.cast(counts, self.matrix.dtype))

    def result(self):
        matrix = ops.convert_to_tensor(self.matrix)
        # Values are not known while a graph is traced.
        with contextlib.suppress(Exception):
            is_labeled = ops.convert_to_numpy(matrix).sum(axis=1) > 0
            if self.ignore_index == 255 and list(is_labeled) == [True, False]:
                _checks.warn(
                    "Masks have no pixel of class 1, while 255 is ignored. If "
                    "255 is the foreground, pass masks // 255"
                )
        return score_of(matrix, self.score)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "classes": self.classes,
                "score": self.score,
                "ignore_index": self.ignore_index,
                "from_logits": self.from_logits,
            }
        )
        return config


def score_of(matrix: Tensor, score: str, math: ModuleType = ops) -> Tensor:
    """Returns one of the `SCORES` of a confusion matrix, a row per class.

    `math` is `numpy` for an array of integers.
    """
    intersection = math.diagonal(matrix)
    sums = math.sum(matrix, axis=0) + math.sum(matrix, axis=1)
    if score == "dice":
        return 2 * intersection[1] / math.maximum(sums[1], 1)
    union = sums - intersection
    iou = intersection / math.maximum(union, 1)
    if score == "iou":
        return iou[1]
    num_present = math.sum(math.where(union > 0, 1.0, 0.0))
    return math.sum(iou) / math.maximum(num_present, 1)


def to_classes(outputs: Tensor, from_logits: bool) -> Tensor:
    """Returns the class of each pixel, given the outputs of a network."""
    if outputs.shape[-1] > 1:
        return ops.argmax(outputs, axis=-1)
    threshold = 0.0 if from_logits else 0.5
    return ops.cast(outputs[..., 0] > threshold, "int32")


def _weights_of(weights, classes):
    """Returns the weight of each class."""
    values = np.ones(classes) if weights is None else weights
    values = np.asarray(values, "float32")
    if values.shape != (classes,) or not (values >= 0).all():
        raise ValueError(
            "`class_weight` must have a non-negative number for each of the "
            f"{classes} classes. Received: class_weight={weights!r}"
        )
    return ops.convert_to_tensor(values)


def _read_labels(y_true, y_pred, sample_weight, classes, ignore_index):
    """Returns the class of each pixel, int32, and its weight.

    The weight is 0 where the label is ignored, and NaN where the label is not a
    class.
    """
    sizes = np.shape(y_true)
    shape = ops.shape(y_pred)[:-1]
    # On TensorFlow, the shape may not be known.
    if isinstance(sizes, tuple) and sizes not in (shape, (*shape, 1)):
        raise ValueError(
            "Masks must have an integer for each pixel of the predictions, "
            f"{shape}; np.argmax(masks, axis=-1) converts one-hot masks. "
            f"Received: y_true.shape={sizes}, y_pred.shape={y_pred.shape}"
        )
    labels = ops.cast(ops.convert_to_tensor(y_true), "int32")
    labels = ops.reshape(labels, shape)
    weight = ops.ones(shape)
    if sample_weight is not None:
        # Weights of images become (B, 1), those of pixels (B, H * W).
        sample_weight = ops.convert_to_tensor(sample_weight, "float32")
        sample_weight = ops.reshape(sample_weight, (shape[0], -1))
        weight = ops.reshape(weight, (shape[0], -1)) * sample_weight
    weight = ops.where(labels == ignore_index, 0.0, ops.reshape(weight, shape))
    is_class = ops.logical_and(labels >= 0, labels < classes)
    weight = ops.where(ops.logical_or(is_class, weight == 0), weight, np.nan)
    return ops.where(is_class, labels, 0), weight


def _log_probabilities(outputs, from_logits):
    """Returns the logarithm of the probability of each class, float32."""
    outputs = ops.cast(outputs, "float32")
    if outputs.shape[-1] == 1:
        other = ops.zeros_like(outputs) if from_logits else 1 - outputs
        outputs = ops.concatenate([other, outputs], axis=-1)
    if from_logits:
        return ops.log_softmax(outputs, axis=-1)
    return ops.log(ops.clip(outputs, keras.config.epsilon(), 1.0))
