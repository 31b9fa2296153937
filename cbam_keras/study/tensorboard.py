"""Logs for TensorBoard."""

import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from cbam_keras import _checks

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


def logs_of(folder: pathlib.Path, name: str) -> keras.callbacks.Callback:
    """Returns the callback that logs the training of a network."""
    return keras.callbacks.TensorBoard(str(folder / FOLDER / name))


def log_options(
    folder: pathlib.Path,
    name: str,
    options: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> None:
    """Writes a network's row of TensorBoard's HParams page."""
    summary = _checks.require("tensorflow", extra="tensorflow").summary
    hparams = _checks.require("tensorboard.plugins.hparams.api", extra="tune")
    with summary.create_file_writer(str(folder / FOLDER / name)).as_default():
        hparams.hparams(dict(options), trial_id=name)
        for metric, number in metrics.items():
            summary.scalar(metric, number, step=0)
        summary.flush()
