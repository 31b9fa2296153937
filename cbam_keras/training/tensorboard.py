"""Logs for TensorBoard: the curves of a network and its gates."""

import pathlib
from typing import Any

import keras

from cbam_keras import _checks, _inspection
from cbam_keras.layers import AttentionLayer
from cbam_keras.monitor import AttentionMonitor

# The subfolder with a folder of logs for each network.
FOLDER = "tensorboard"


def check_tensorboard(tensorboard: Any) -> None:
    """Raises unless logs can be written, if they are asked for."""
    if _checks.boolean("tensorboard", tensorboard):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "`tensorboard` needs the TensorFlow backend. Received: "
                f"tensorboard=True under {keras.backend.backend()}"
            )
        _checks.require("tensorboard.plugins.hparams", extra="tune")


class GateLogs(keras.callbacks.TensorBoard):
    """Logs for TensorBoard, with the statistics of the attention gates."""

    def __init__(self, folder):
        super().__init__(folder)
        self.monitor = AttentionMonitor()

    def set_model(self, model):
        super().set_model(model)
        self.monitor.set_model(model)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.monitor.on_train_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        # A copy: the many numbers of the gates are not for the terminal.
        logs = dict(logs or {})
        self.monitor.on_epoch_end(epoch, logs)
        super().on_epoch_end(epoch, logs)


def logs_of(
    folder: pathlib.Path, name: str, model: keras.Model
) -> keras.callbacks.Callback:
    """Returns the callback that logs the training of a network."""
    path = str(folder / FOLDER / name)
    layers = _inspection.layers_within(model)
    if any(isinstance(layer, AttentionLayer) for layer in layers):
        return GateLogs(path)
    return keras.callbacks.TensorBoard(path)
