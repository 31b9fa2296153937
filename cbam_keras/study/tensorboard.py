"""Logs for TensorBoard."""

import pathlib
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
        _checks.require("tensorboard", extra="tune")


def logs_of(folder: pathlib.Path, name: str) -> keras.callbacks.Callback:
    """Returns the callback that logs the training of a network."""
    return keras.callbacks.TensorBoard(str(folder / FOLDER / name))
