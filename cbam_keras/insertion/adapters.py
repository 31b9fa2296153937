"""The trained parts of a frozen network in a file: attention and classifier."""

import hashlib
import json
import os
import pathlib
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _files, _graph
from cbam_keras.layers import decisive_arguments, differing_arguments

ENDING = ".weights.h5"
# Beside what Keras writes, the file holds under this name what it is for.
CONTENT = "cbam_keras"


def save_attention(
    model: keras.Model, path: str | os.PathLike, head: bool = True
) -> None:
    """Saves the weights of attention layers, and of the classifier, alone.

    For many tasks on one frozen network, each in a small file.

    It has the format of Keras' `.weights.h5`, the names and shapes of its
    weights, and a digest of all others, which `load_attention` compares.

    Args:
        model: `keras.Model` with attention layers of `cbam_keras`.
        path: String or path that ends in `.weights.h5`. A file that exists is
            replaced once the new one is complete.
        head: Boolean, whether to save the classifier, the last layer with
            weights before each output, too. For this the graph of the model
            must be known. Defaults to `True`.

    Raises:
        ValueError: If the model has no attention layers, if the path has
            another ending, or with `head` if the graph is not known.
        TypeError: If an argument has the wrong type.

    Example:
        >>> model = cbam_keras.models.ResNet18(attention="se", classes=2)
        >>> save_attention(model, folder / "birds.weights.h5")
        >>> load_attention(model, folder / "birds.weights.h5")
    """
    import h5py  # A dependency of Keras.

    path = _checked_path(path)
    _checks.boolean("head", head)
    parts, weights = _parts_of(model, head)
    content = {
        "layers": {name: _describe(x) for name, x in parts.items()},
        "head": head,
        "backbone": _digests(model, weights),
    }
    with _files.replacing(path) as beside:
        _Parts(parts).save_weights(beside)
        with h5py.File(beside, "a") as file:
            content["weights"] = _digest_of_file(file)
            file[CONTENT] = np.void(json.dumps(content).encode())


def load_attention(
    model: keras.Model, path: str | os.PathLike, backbone: str = "match"
) -> None:
    """Loads the weights of attention layers that `save_attention` saved.

    All other weights stay as they are. After an error nothing is changed.

    Args:
        model: `keras.Model` with the same attention layers. If the file has a
            classifier, it needs the same one.
        path: Path of the file.
        backbone: `"match"`, which raises if the other weights are not those of
            the file, or `"any"`. They are those that the attention was trained
            with. Defaults to `"match"`.

    Raises:
        ValueError: If the file is not one of `save_attention`, or damaged; if
            the model has other layers; if its other weights differ.
        TypeError: If an argument has the wrong type.
        OSError: If the file cannot be read.

    Example:
        See `save_attention`.
    """
    path = _checked_path(path)
    _checks.one_of("backbone", backbone, ("match", "any"))
    content = _read_content(path)
    parts, weights = _parts_of(model, content["head"])
    parts_here = {name: _describe(x) for name, x in parts.items()}
    for name in {**content["layers"], **parts_here}:
        saved, here = content["layers"].get(name), parts_here.get(name)
        if differ := differing_arguments(saved, here):
            saved, here = (
                x and {key: x[key] for key in differ} for x in (saved, here)
            )
            raise ValueError(
                "`model` must have the attention layers and the classifier of "
                f'the file. Received: path="{path}", whose layer "{name}" has '
                f'{saved or "no part"}; in model "{model.name}" it has '
                f"{here or 'none'}. Insert the same attention, or save without "
                "the classifier (head=False)"
            )
    if backbone == "match":
        _compare(content["backbone"], _digests(model, weights), model, path)
    # The file has them in the order of the model that was saved.
    holder = _Parts({name: parts[name] for name in content["layers"]})
    before = [keras.ops.convert_to_numpy(x) for x in holder.weights]
    try:
        holder.load_weights(path)
    # Damage has many types.
    except Exception as error:
        for weight, value in zip(holder.weights, before, strict=True):
            weight.assign(value)
        raise _not_ours(path, error) from error


class _Parts(keras.Model):
    """Layers of another model, to be saved alone."""

    def __init__(self, parts):
        super().__init__(name="attention")
        self.parts = list(parts.values())
        self.built = True


def _checked_path(path):
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            "`path` must be the path of a file. Received: path of type "
            f"{type(path).__name__}"
        )
    if not os.fspath(path).endswith(ENDING):
        raise ValueError(
            f'`path` must end in "{ENDING}". Received: path="{path}"'
        )
    return pathlib.Path(path)


def _parts_of(model, head):
    """Returns by name the layers to save, and all weights that are no backbone.

    These are of the classifier, too, whether it is saved or not.
    """
    _graph.require_model("model", model)
    parts = {x: layer for layer, x in _graph.gate_paths(model).items()}
    if not parts:
        raise ValueError(
            "`model` must have attention layers of cbam_keras. Received: "
            f'model "{model.name}" without any'
        )
    heads = {}
    if head or _graph.is_graph(model):
        whole = _graph.with_graph("model", model)
        graph = _graph.Graph(whole, whole.inputs)
        for output in graph.outputs:
            step = graph.maker(output)
            while step and not getattr(step.operation, "weights", None):
                step = graph.maker(step.inputs[0]) if step.inputs else None
            if step is not None:
                heads[step.path] = step.operation
    all_parts = {**heads, **parts}
    weights = {id(x) for layer in all_parts.values() for x in layer.weights}
    return {**parts, **(heads if head else {})}, weights


def _describe(layer) -> dict[str, Any]:
    """Returns what must be equal where the weights of a layer are loaded."""
    return {
        "class": type(layer).__name__,
        **decisive_arguments(layer.get_config()),
        "shapes": [list(weight.shape) for weight in layer.weights],
    }


def _digests(model, own):
    """Returns hashes of the other weights, with their paths."""
    return [
        [weight.path, _digest(keras.ops.convert_to_numpy(weight))]
        for weight in model.weights
        if id(weight) not in own
    ]


def _digest(values):
    values = np.ascontiguousarray(values)
    text = f"{values.shape} {values.dtype}".encode()
    return hashlib.sha256(text + values.tobytes()).hexdigest()[:16]


def _digest_of_file(file):
    """Returns hashes of the weights in a file, by their places in it."""
    digests = {}

    def add(place, item):
        if hasattr(item, "shape"):
            digests[place] = _digest(item[()])

    file["layers"].visititems(add)
    return digests


def _compare(saved, found, model, path):
    """Raises unless the weights of two backbones are equal."""
    names = [sorted(name for name, _ in each) for each in (saved, found)]
    if names[0] == names[1]:
        saved, found = sorted(saved), sorted(found)
    # Else Keras has numbered the layers: they are compared in their order.
    pairs = list(zip(saved, found, strict=False))
    differ = [name for (_, a), (name, b) in pairs if a != b]
    if not differ and len(saved) == len(found):
        return
    what = f"{len(differ)} of them differ, as {', '.join(differ[:1])}"
    if len(saved) != len(found):
        what = f"it has {len(found)} others, not {len(saved)}"
    raise ValueError(
        "`model` must have the other weights that the attention was trained "
        f'with. Received: "{path}" and model "{model.name}": {what}. Load the '
        "same pretrained network, keep it frozen (its batch normalization, "
        'too), or give backbone="any"'
    )


def _read_content(path):
    import h5py

    # The system says why it cannot be read.
    _files.read_bytes(path)
    try:
        with h5py.File(path, "r") as file:
            content = json.loads(bytes(file[CONTENT][()]))
            # Files of 0.4.0 have no digest of their own weights.
            digests = content.get("weights") and _digest_of_file(file)
            if digests != content.get("weights"):
                raise ValueError("weights that were not saved so")
            return {x: content[x] for x in ("layers", "head", "backbone")}
    except Exception as error:
        raise _not_ours(path, error) from error


def _not_ours(path, error):
    return ValueError(
        "`path` must be a complete file written by save_attention. Received: "
        f'path="{path}", which is damaged or of another kind '
        f"({type(error).__name__}: {error})"
    )
