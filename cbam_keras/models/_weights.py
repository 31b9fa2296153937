"""Reading saved weights into a freshly built network."""

import io
import json
import os
import zipfile
from typing import Any

import keras

SUFFIXES = (".keras", ".weights.h5")


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Loads the weights of a file saved from the same network.

    Args:
        model: Functional `keras.Model`.
        path: A `.keras` or `.weights.h5` file.

    Raises:
        ValueError: If the file does not exist, is of another kind, is
            damaged, or was saved from another network.
    """
    path = os.fspath(path)
    if not path.endswith(SUFFIXES):
        raise ValueError(
            "`weights` must be None or a file that ends in .keras or "
            f'.weights.h5. Received: weights="{path}"'
        )
    if not os.path.isfile(path):
        raise ValueError(
            f'`weights` must be a file that exists. Received: weights="{path}"'
        )
    try:
        stored = _count_variables(path)
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise ValueError(
            "`weights` must be a whole file as Keras saves it. Received: "
            f'weights="{path}", which is damaged, cut short or of another '
            f"kind ({error})"
        ) from error
    reason = None
    if stored == len(model.weights):
        try:
            model.load_weights(path)
        except ValueError as error:
            reason = " ".join(str(error).split())
    else:
        reason = (
            f"it holds {stored} variables, the network has {len(model.weights)}"
        )
    if reason:
        raise ValueError(
            f'`weights` must come from a network like "{model.name}", with '
            "the same depth, width, classes and attention. Received: "
            f'weights="{path}": {reason}'
        )


def _count_variables(path: str) -> int:
    """Returns how many variables of a model a file holds."""
    import h5py  # A dependency of keras, needed here alone.

    if path.endswith(".weights.h5"):
        with h5py.File(path, "r") as file:
            return _count_datasets(file)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        if config.get("class_name") != "Functional":
            raise ValueError(
                f"it holds a {config.get('class_name')}, not a functional model"
            )
        # Reading the member whole also verifies its checksum.
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r") as file:
        return _count_datasets(file)


def _count_datasets(file: Any) -> int:
    shapes = []
    # Beside the layers, a file holds the optimizer's variables, if any.
    # Groups have no shape, data sets have.
    file["layers"].visititems(
        lambda name, item: shapes.append(getattr(item, "shape", None))
    )
    return sum(shape is not None for shape in shapes)
