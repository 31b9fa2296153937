"""Logs for TensorBoard: curves, gates, pictures of them, and trials."""

import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _inspection, explain, plotting
from cbam_keras.layers import AttentionLayer
from cbam_keras.monitor import AttentionMonitor

# The subfolder with a folder of logs for each network.
FOLDER = "tensorboard"
# The attention in so many validation images is drawn, each so many epochs.
IMAGES, EPOCHS = 3, 5


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
    """Logs for TensorBoard, with statistics and pictures of the gates."""

    def __init__(self, folder):
        super().__init__(folder)
        self.monitor = AttentionMonitor()
        self.pictures: Any = None

    def set_model(self, model):
        super().set_model(model)
        self.monitor.set_model(model)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.monitor.on_train_begin(logs)
        self.pictures = _writer(pathlib.Path(self.log_dir) / "attention")

    def on_epoch_end(self, epoch, logs=None):
        # A copy: the many numbers of the gates are not for the terminal.
        logs = dict(logs or {})
        self.monitor.on_epoch_end(epoch, logs)
        super().on_epoch_end(epoch, logs)
        if epoch % EPOCHS == 0 or epoch + 1 == self.params["epochs"]:
            self._draw(epoch)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self.pictures.close()

    def _draw(self, epoch):
        """Draws the gates over the first validation images."""
        images = self.monitor.batch[:IMAGES]
        try:
            figure = plotting.plot_attention_maps(
                images, explain.attention_maps(self.model, images)
            )
        except ValueError as error:
            # Such as gates that are not finite; the training goes on.
            _checks.warn(f"The attention is not drawn for TensorBoard: {error}")
            return
        with self.pictures.as_default():
            _summary().image("attention", _pixels(figure)[None], step=epoch)


def _pixels(figure):
    """Returns a figure as uint8 array `(H, W, 3)`."""
    agg = _checks.require("matplotlib.backends.backend_agg", extra="plot")
    canvas = agg.FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _summary():
    return _checks.require("tensorflow", extra="tensorflow").summary


def _writer(folder):
    return _summary().create_file_writer(str(folder))


def log_trial(
    folder: pathlib.Path,
    values: Mapping[str, Any],
    metrics: Mapping[str, float | None],
) -> None:
    """Writes a row of TensorBoard's HParams page.

    Args:
        folder: The folder of the trial's logs.
        values: Mapping of its hyperparameters.
        metrics: Mapping of what is compared; `None` is left out.
    """
    hparams = _checks.require("tensorboard.plugins.hparams.api", extra="tune")
    with _writer(folder).as_default():
        hparams.hparams(dict(values), trial_id=folder.name)
        for name, number in metrics.items():
            if number is not None:
                _summary().scalar(name, number, step=0)
        _summary().flush()


def logs_of(
    folder: pathlib.Path, name: str, model: keras.Model
) -> keras.callbacks.Callback:
    """Returns the callback that logs the training of a network."""
    path = str(folder / FOLDER / name)
    layers = _inspection.layers_within(model)
    if any(isinstance(layer, AttentionLayer) for layer in layers):
        return GateLogs(path)
    return keras.callbacks.TensorBoard(path)
