"""A loss and a metric for masks, a class for each pixel, that Keras lacks.

`SparseCategoricalCrossentropy` fails for masks under PyTorch, and takes no
weights of classes; `MeanIoU` takes no single unit for two classes.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["PixelCrossentropy", "PixelIoU"]

# Scores of two classes are those of the second one, the foreground.
SCORES = ("miou", "iou", "dice")


@keras.saving.register_keras_serializable(package="cbam_keras")
class PixelCrossentropy(keras.losses.Loss):
    """Crossentropy of the pixels that have a class, and soft Dice.

    As `torch.nn.CrossEntropyLoss(weight, ignore_index=...)`, with Dice added.

    With weights `w` of classes, over the pixels of a batch with a class `y`,
    the crossentropy is `sum(-w[y] * log(p[y])) / sum(w[y])`. Dice adds
    `dice_weight * (1 - mean(2 * sum(p * y) / (sum(p) + sum(y))))`, over the
    classes in the batch, of two the foreground alone.

    Args:
        ignore_index: Integer, the value of pixels that do not count. Defaults
            to `255`.
        class_weight: Sequence of non-negative numbers, one for each class.
            Defaults to `None`, which means ones.
        dice_weight: Non-negative number, the weight of soft Dice. Defaults to
            `0.0`.
        from_logits: Boolean, whether predictions are logits. Defaults to
            `False`, which means probabilities.
        name: String, the name of the loss. Defaults to `"pixel_crossentropy"`.
        **kwargs: See `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(B, ...)`.
        y_pred: `(B, ..., classes)`, or `(B, ..., 1)` for two classes.

    Example:
        >>> loss = PixelCrossentropy()
        >>> float(loss(np.array([[1, 255]]), np.array([[[0.5, 0.5], [1, 0]]])))
        0.6931471824645996

    Reference:
        Milletari, Navab and Ahmadi, 2016 (https://arxiv.org/abs/1606.04797),
        for Dice.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        class_weight: Sequence[float] | None = None,
        dice_weight: float = 0.0,
        from_logits: bool = False,
        name: str = "pixel_crossentropy",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.ignore_index = ignore_index
        self.class_weight = class_weight
        self.dice_weight = dice_weight
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        logs = _log_probabilities(y_pred, self.from_logits)
        classes = logs.shape[-1]
        target = _one_hot(y_true, classes, self.ignore_index)
        weight = self.class_weight or np.ones(classes)
        weighted = target * ops.convert_to_tensor(weight, "float32")
        # A batch may have no pixel with a class.
        total = ops.maximum(ops.sum(weighted), keras.config.epsilon())
        loss = -ops.sum(weighted * logs) / total
        if not self.dice_weight:
            return loss
        is_known = ops.sum(target, axis=-1, keepdims=True)
        probabilities = ops.exp(logs) * is_known
        axes = tuple(range(len(logs.shape) - 1))
        both = ops.sum(probabilities * target, axis=axes)
        pixels = ops.sum(target, axis=axes)
        dice = 2 * both / (ops.sum(probabilities, axis=axes) + pixels + 1e-6)
        counts = ops.cast(pixels > 0, "float32")
        if classes == 2:
            dice, counts = dice[1:], counts[1:]
        lost = ops.sum((1 - dice) * counts) / ops.maximum(ops.sum(counts), 1)
        return loss + self.dice_weight * lost

    def get_config(self):
        return {
            **super().get_config(),
            "ignore_index": self.ignore_index,
            "class_weight": self.class_weight,
            "dice_weight": self.dice_weight,
            "from_logits": self.from_logits,
        }


@keras.saving.register_keras_serializable(package="cbam_keras")
class PixelIoU(keras.metrics.Metric):
    """Intersection over union, or Dice, over all pixels that have a class.

    Args:
        classes: Integer from 2, the number of classes.
        score: `"miou"`, the mean over the classes in masks or predictions; of
            two classes `"iou"` or `"dice"` of the second. Defaults to `"miou"`.
        ignore_index: Integer, the value of pixels that do not count. Defaults
            to `255`.
        from_logits: Boolean, whether predictions are logits. Defaults to
            `False`.
        name: String, the name of the metric. Defaults to `None`, which means
            that of the score.
        **kwargs: See `keras.metrics.Metric`.

    Example:
        >>> metric = PixelIoU(2)
        >>> metric.update_state(np.array([[1, 0]]), np.array([[[0.9], [0.8]]]))
        >>> float(metric.result())
        0.25
    """

    def __init__(
        self,
        classes: int,
        score: str = "miou",
        ignore_index: int = 255,
        from_logits: bool = False,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(name=name or score, **kwargs)
        self.classes = classes
        self.score = score
        self.ignore_index = ignore_index
        self.from_logits = from_logits
        self.matrix = self.add_variable(
            (classes, classes), keras.initializers.Zeros(), name="matrix"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        predicted = to_classes(y_pred, self.from_logits)
        target = _one_hot(y_true, self.classes, self.ignore_index)
        target = ops.reshape(target, (-1, self.classes))
        one_hot = ops.one_hot(ops.reshape(predicted, (-1,)), self.classes)
        counts = ops.matmul(ops.transpose(target), one_hot)
        self.matrix.assign_add(ops.cast(counts, self.matrix.dtype))

    def result(self):
        return score_of(ops.convert_to_tensor(self.matrix), self.score)

    def get_config(self):
        return {
            **super().get_config(),
            "classes": self.classes,
            "score": self.score,
            "ignore_index": self.ignore_index,
            "from_logits": self.from_logits,
        }


def score_of(matrix: Any, score: str, math: Any = ops) -> Any:
    """Returns one of the `SCORES` of a confusion matrix, a row per class.

    `math` is `numpy` for an array of integers.
    """
    both = math.diagonal(matrix)
    sums = math.sum(matrix, axis=0) + math.sum(matrix, axis=1)
    if score == "dice":
        return 2 * both[1] / math.maximum(sums[1], 1)
    union = sums - both
    values = both / math.maximum(union, 1)
    if score == "iou":
        return values[1]
    present = math.sum(math.where(union > 0, 1.0, 0.0))
    return math.sum(values) / math.maximum(present, 1)


def to_classes(outputs: Any, from_logits: bool) -> Any:
    """Returns the class of each pixel, int32, of what a network gives."""
    if outputs.shape[-1] > 1:
        return ops.argmax(outputs, axis=-1)
    threshold = 0.0 if from_logits else 0.5
    return ops.cast(outputs[..., 0] > threshold, "int32")


def _one_hot(y_true, classes, ignore_index):
    """Returns ones at the classes of pixels, none where that is ignored."""
    labels = ops.cast(y_true, "int32")
    is_known = labels != ignore_index
    one_hot = ops.one_hot(ops.where(is_known, labels, 0), classes)
    return one_hot * ops.cast(is_known, one_hot.dtype)[..., None]


def _log_probabilities(outputs, from_logits):
    outputs = ops.cast(outputs, "float32")
    if outputs.shape[-1] > 1 and from_logits:
        return ops.log_softmax(outputs, axis=-1)
    if from_logits:
        both = ops.concatenate([-outputs, outputs], axis=-1)
        return ops.log_sigmoid(both)
    if outputs.shape[-1] == 1:
        outputs = ops.concatenate([1 - outputs, outputs], axis=-1)
    return ops.log(ops.clip(outputs, keras.config.epsilon(), 1.0))
