"""Loading weights from files into a newly built network."""

import json
import os
import warnings
import zipfile
from collections.abc import Iterable

import keras

from cbam_keras import _checks
from cbam_keras.convert import load_torch_weights

KERAS_ENDINGS = (".keras", ".weights.h5")
TORCH_ENDINGS = (".pth", ".pth.tar", ".pt", ".safetensors")
# Layers whose names begin like this must be the same in equal networks. Other
# names may differ: Keras numbers inputs, and a head may be left out.
NETWORK_LAYERS = ("stem_", "stage", "head_conv", "predictions")
# Arguments that do not change what a layer predicts with the same weights. Of
# those that concern training only, the ends of the names are listed. The axis
# follows the data format.
NOT_DECISIVE = (
    "name",
    "dtype",
    "trainable",
    "data_format",
    "axis",
    "rate",
    "seed",
)
ONLY_TRAINED = ("_initializer", "_regularizer", "_constraint", "momentum")


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Loads weights from a file of the same network or a PyTorch checkpoint.

    After an error, the weights of `model`, newly built, are undefined.
    """
    path = os.fspath(path)
    endings = KERAS_ENDINGS + TORCH_ENDINGS
    if not path.endswith(endings) or not os.path.isfile(path):
        raise ValueError(
            "`weights` must be None or a file that exists and ends in one of "
            f'{", ".join(endings)}. Received: weights="{path}". For ImageNet '
            "weights, put attention into a network of keras.applications with "
            "`insert_attention`, or use models.EfficientNetLite0"
        )
    if path.endswith(TORCH_ENDINGS):
        load_torch_weights(model, path)
        return
    cause = None
    try:
        problem = _find_difference(model, path)
        if not problem:
            with warnings.catch_warnings():
                # Keras warns of each layer that does not fit, before the error.
                warnings.simplefilter("ignore")
                model.load_weights(path)
    # Damaged files and files of other networks raise errors of many classes.
    except Exception as error:
        # Keras adds a list of all layers, which does not help.
        text = str(error).partition("\n\nList of objects")[0]
        problem = f"does not fit or is damaged ({text})"
        cause = error
    if problem:
        raise ValueError(
            f'`weights` must be a complete file of a network like "{model.name}'
            f'". Received: weights="{path}", which {problem}. Build the model '
            "with the arguments of the one that was saved: depth, width, "
            "classes, attention; `insert_attention` adds attention afterwards"
        ) from cause


def _find_difference(model: keras.Model, path: str) -> str:
    """Returns a difference that Keras' loader does not find, or ""."""
    if path.endswith(".weights.h5"):
        count = _count_variables(path)
        # The loader ignores weights for which the model has no layer.
        expected = len(model.variables)
        if count > expected:
            return f"has {count} variables, not {expected}"
        return ""
    with zipfile.ZipFile(path) as archive:
        saved = json.loads(archive.read("config.json"))
    if saved["class_name"] != "Functional":
        return f"holds a {saved['class_name']} model"
    stored = _pick_decisive(
        layer["config"] for layer in saved["config"]["layers"]
    )
    built = _pick_decisive(layer.get_config() for layer in model.layers)
    differ = [
        name
        for name in {**built, **stored}
        if name not in stored
        or name not in built
        # Versions of Keras add arguments, which older files do not have.
        or any(
            stored[name].get(key, value) != value
            for key, value in built[name].items()
        )
    ]
    return f"has other layers: {_checks.first_few(differ)}" if differ else ""


def _pick_decisive(configs: Iterable[dict]) -> dict[str, dict]:
    """Returns the arguments that decide what is computed, by layer."""
    decisive = {
        config["name"]: {
            key: value
            for key, value in config.items()
            if key not in NOT_DECISIVE and not key.endswith(ONLY_TRAINED)
        }
        for config in configs
        if config["name"].startswith(NETWORK_LAYERS)
    }
    # Tuples become lists, as they are in the file.
    return json.loads(json.dumps(decisive, default=str))


def _count_variables(path: str) -> int:
    """Returns how many variables of layers a `.weights.h5` file holds."""
    import h5py  # A dependency of Keras.

    names: list[str] = []
    with h5py.File(path, "r") as file:
        # Next to "layers" a file may hold the variables of an optimizer.
        layers = file["layers"]
        layers.visit(names.append)
        return sum(isinstance(layers[name], h5py.Dataset) for name in names)
