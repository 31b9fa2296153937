"""What networks that give one value for two classes learn one-hot labels by.

Labels are one-hot where an augmentation mixes them, and Keras would compare
both of their columns with the single value.
"""

import keras
from keras import ops

_register = keras.saving.register_keras_serializable(package="cbam_keras")


@_register
class OneHotBinaryCrossentropy(keras.losses.BinaryCrossentropy):
    """Binary crossentropy with the column of class 1."""

    def call(self, y_true, y_pred):
        return super().call(y_true[:, 1:], y_pred)


class _OneHot:
    """Mixin for metrics of labels 0 and 1: takes the greater column."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels = ops.argmax(y_true, axis=-1)
        return super().update_state(labels, y_pred, sample_weight)


@_register
class OneHotBinaryAccuracy(_OneHot, keras.metrics.BinaryAccuracy):
    """Accuracy of a single value for two classes."""


@_register
class OneHotAUC(_OneHot, keras.metrics.AUC):
    """Area under the ROC curve of a single value for two classes."""
