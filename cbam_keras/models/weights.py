"""Reading saved weights into a freshly built network."""

import collections
import io
import json
import os
import zipfile
from typing import Any

import keras

from cbam_keras import _checks
from cbam_keras.convert import load_torch_weights

KERAS_ENDINGS = (".keras", ".weights.h5")
TORCH_ENDINGS = (".pth", ".pth.tar", ".pt", ".safetensors")
# Arguments of layers that change what they compute with the same weights.
DECISIVE = (
    "activation",
    "channel_pool_types",
    "gate_activation",
    "identity_init",
    "order",
    "pool_types",
    "spatial_pool_types",
)


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Loads the weights of a file, of the same network or of PyTorch.

    Args:
        model: Functional `keras.Model`.
        path: A `.keras` or `.weights.h5` file saved from the same network, or
            a PyTorch checkpoint, which goes to `load_torch_weights`.

    Raises:
        ValueError: If the file does not exist, is of another kind, is
            damaged, or was saved from another network.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            "`weights` must be None or the path of a file. Received: weights "
            f"of type {type(path).__name__}. A state dict that you hold goes "
            "into the model once built: cbam_keras.load_torch_weights(model, "
            "state_dict)"
        )
    path = os.fspath(path)
    if not path.endswith(KERAS_ENDINGS + TORCH_ENDINGS):
        endings = ", ".join(KERAS_ENDINGS + TORCH_ENDINGS[:-1])
        raise ValueError(
            f"`weights` must be None or a file that ends in {endings} or "
            f'{TORCH_ENDINGS[-1]}. Received: weights="{path}"'
        )
    if not os.path.isfile(path):
        raise ValueError(
            f'`weights` must be a file that exists. Received: weights="{path}"'
        )
    if path.endswith(TORCH_ENDINGS):
        load_torch_weights(model, path)
        return
    try:
        stored = collections.Counter(_stored_shapes(path))
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise ValueError(
            "`weights` must be a whole file as Keras saves it. Received: "
            f'weights="{path}", which is damaged, cut short or of another '
            f"kind ({error})"
        ) from error
    # Keras would load what it can before it finds that something is missing,
    # and would not tell of what it leaves unused.
    own = collections.Counter(tuple(v.shape) for v in model.weights)
    missing, unused = (
        list((own - stored).elements()),
        list((stored - own).elements()),
    )
    if missing or unused:
        raise ValueError(
            f'`weights` must come from a network like "{model.name}", with '
            "the same depth, width, classes and attention. Received: "
            f'weights="{path}". Missing ({len(missing)}): variables of '
            f"shape {_shapes(missing)}. Unused ({len(unused)}): variables of "
            f"shape {_shapes(unused)}"
        )
    if path.endswith(".keras"):
        _check_layers(model, path)
    model.load_weights(path)


def _check_layers(model: keras.Model, path: str) -> None:
    """Raises if a file is of other layers whose weights have these shapes."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))["config"]
    stored = {
        layer["config"]["name"]: _kind(layer["config"])
        for layer in config["layers"]
    }
    own = {
        layer.name: json.loads(json.dumps(_kind(layer.get_config())))
        for layer in model.layers
        if layer.weights or layer.name.endswith("_subsample")
    }
    differ = [name for name in own if own[name] != stored.get(name)]
    # What only the file has: gates, and strides elsewhere.
    differ += [
        name
        for name in stored
        if name not in own and name.endswith(("_attention", "_subsample"))
    ]
    if differ:
        raise ValueError(
            f'`weights` must come from a network like "{model.name}". '
            f'Received: weights="{path}", whose layers have weights of the '
            "same shapes and are others, as "
            f"{_checks.first_few(differ)}. Build the "
            "model with the arguments of the one that was saved, or load "
            "that: keras.saving.load_model(path)"
        )


def _kind(config: dict[str, Any]) -> dict[str, Any]:
    """Returns what decides over what a layer computes with its weights."""
    return {key: config[key] for key in DECISIVE if key in config}


def _stored_shapes(path: str) -> list[tuple[int, ...]]:
    """Returns the shapes of the variables that a file holds for a model."""
    if path.endswith(".weights.h5"):
        return _dataset_shapes(path)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        if config.get("class_name") != "Functional":
            raise ValueError(
                f"it holds a {config.get('class_name')}, not a functional model"
            )
        # Reading the member whole also verifies its checksum.
        return _dataset_shapes(io.BytesIO(archive.read("model.weights.h5")))


def _dataset_shapes(file: Any) -> list[tuple[int, ...]]:
    import h5py  # A dependency of keras, needed here alone.

    shapes = []
    with h5py.File(file, "r") as root:
        # Beside the layers, a file holds the optimizer's variables, if any.
        # Groups have no shape, data sets have.
        root["layers"].visititems(
            lambda name, item: shapes.append(getattr(item, "shape", None))
        )
    return [shape for shape in shapes if shape is not None]


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return _checks.first_few(shapes) or "none"
