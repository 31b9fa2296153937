"""Networks from files and output folders, and the images that they take."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _inspection, data
from cbam_keras.layers import AttentionLayer

ENDINGS = (".keras", ".h5")


@dataclasses.dataclass(frozen=True)
class Network:
    """A classifier from a file, and the images that it takes.

    Attributes:
        name: String, unique among the networks.
        path: Path of its file.
        model: `keras.Model` of one input.
        size: Height and width of its images in pixels.
        channels: 1 or 3.
        channels_first: Boolean, whether channels come first.
        preprocess: Function of images in [0, 255], or `None`.
    """

    name: str
    path: pathlib.Path
    model: Any
    size: tuple[int, int]
    channels: int
    channels_first: bool
    preprocess: Callable[[np.ndarray], Any] | None

    @property
    def has_attention(self) -> bool:
        """Whether it has attention layers."""
        layers = _inspection.layers_within(self.model)
        return any(isinstance(layer, AttentionLayer) for layer in layers)

    def in_its_colors(self, images: np.ndarray) -> np.ndarray:
        """Returns RGB images, in grayscale `(B, H, W, 1)` if it takes them."""
        if self.channels == 3:
            return images
        luminance = images @ np.array([[0.299], [0.587], [0.114]])
        return luminance.round().astype("uint8")

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Returns uint8 images `(B, H, W, 3)` of its size as it takes them."""
        # A copy, since the functions of Keras change arrays in place.
        images = self.in_its_colors(images).astype("float32")
        if self.channels_first:
            images = np.moveaxis(images, -1, 1)
        if self.preprocess is None:
            return images
        prepared = np.asarray(self.preprocess(images))
        if prepared.shape != images.shape:
            raise ValueError(
                "`preprocess` must return images of the shape it is given. "
                f"Received: {prepared.shape} for {images.shape}"
            )
        return prepared


def load_networks(
    paths: Sequence[pathlib.Path],
    image_size: int | None,
    default_size: tuple[int, int],
    preprocess: Callable[[np.ndarray], Any] | None = None,
) -> list[Network]:
    """Returns the networks in files.

    Networks that take images of any size get those of `image_size`, else of
    the size of the first network with a fixed one, else of `default_size`.
    """
    names = _unique_names(paths)
    networks = []
    for path, name in zip(paths, names, strict=True):
        model = load_model(path)
        first = _inspection.input_format(model) == "channels_first"
        shapes = [tuple(x.shape) for x in model.inputs]
        channels, size = shapes[0][-1], shapes[0][1:-1]
        if first:
            channels, size = shapes[0][1], shapes[0][2:]
        if len(shapes) > 1 or len(size) != 2 or channels not in (1, 3):
            raise ValueError(
                "A model must take images as its one input, (B, H, W, C) of "
                f'one or three channels. Received: "{path}", which takes '
                f"{_checks.first_few(shapes)}"
            )
        if None not in size and image_size and size != (image_size,) * 2:
            raise ValueError(
                "`image_size` must be that of the models, or be left out. "
                f'Received: image_size={image_size}, model "{path}", which '
                f"takes {size[0]} x {size[1]} pixels"
            )
        networks.append(
            Network(name, path, model, size, channels, first, preprocess)
        )
    if image_size is not None:
        default_size = image_size, image_size
    fixed = [x.size for x in networks if None not in x.size] or [default_size]
    height, width = fixed[0]
    return [
        dataclasses.replace(x, size=(x.size[0] or height, x.size[1] or width))
        for x in networks
    ]


def load_model(path: pathlib.Path) -> keras.Model:
    """Returns the functional model in a file, not compiled."""
    try:
        model = keras.saving.load_model(path, compile=False)
    # Keras raises errors of many types for a damaged file or another format.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            "A model must be a complete file that keras.saving.load_model "
            f'loads. Received: "{path}" ({reason[0]}). For custom layers, '
            "import the module that registers them with --import MODULE; for "
            "a file of weights, build the model, load them, and save it with "
            "model.save"
        ) from error
    _inspection.require_graph("model", model)
    return model


def _unique_names(paths):
    """Returns the stems of files, with their folders where stems are equal."""
    files = [path.resolve() for path in paths]
    for file in files:
        if files.count(file) > 1:
            raise ValueError(
                f'Each model must be given once. Received: "{file}" twice'
            )
    names = [file.stem for file in files]
    if len(set(names)) == len(names):
        return names
    root = os.path.commonpath([file.parent for file in files])
    files = [file.relative_to(root) for file in files]
    names = [file.with_suffix("").as_posix() for file in files]
    return [
        name if names.count(name) == 1 else file.as_posix()
        for name, file in zip(names, files, strict=True)
    ]


def is_run(folder: pathlib.Path) -> bool:
    """Returns whether a folder is the output folder of a run."""
    run = _described(folder)
    return "kind" in run and isinstance(run.get("settings"), dict)


def networks_of(
    folder: pathlib.Path,
) -> tuple[list[pathlib.Path], str | None]:
    """Returns the networks of the run in a folder, and its dataset.

    Of a search it is the best network, of several seeds those of the first
    seed. The dataset is `None` if it is not an embedded one, since a run does
    not say where others are.

    Raises:
        ValueError: If the run has no networks yet, or never has any.
    """
    run = _described(folder)
    if "detect" in run["kind"]:
        raise ValueError(
            "A folder of a run must be that of train, tune or ablate. "
            f'Received: "{folder}", which holds the run of another command '
            f"({run['kind']})"
        )
    # Most runs describe the data of each seed.
    described = run["settings"].get("data") or {}
    by_seed = {} if "name" in described else described
    if "cells" in run:
        cells = [x for x in run["cells"] if x["status"] == "finished"]
        first = [x for x in cells if x["seed"] == cells[0]["seed"]]
        # Nothing outside the folder is read.
        files = [cell["file"] for cell in first if cell["file"]]
        names = [pathlib.PurePath(file).name for file in files]
    else:
        # The layouts before "format": 2.
        places = ["", *(f"seed-{seed}/" for seed in [*by_seed][:1])]
        names = [
            f"{place}{name}.keras"
            for name in run["settings"].get("networks", ())
            for place in (*places, *(f"{name}/{place}" for place in places))
        ]
    names = [name for name in names if (folder / name).exists()]
    if "best.keras" not in names and (folder / "best.keras").exists():
        names = ["best.keras"]
    if not names:
        raise ValueError(
            "A folder of a run must hold models. Received: "
            f'"{folder}", where none is finished yet. Run the same command '
            "again to resume it"
        )
    data_name = next(iter(by_seed.values()), described).get("name")
    return (
        [folder / name for name in names],
        data_name if data_name in data.EMBEDDED else None,
    )


def class_names_beside(paths: Sequence[pathlib.Path], classes: int) -> Any:
    """Returns the class names in the `results.json` beside a network."""
    for path in paths:
        names = _described(path.parent).get("class_names")
        if isinstance(names, list) and len(names) == classes:
            return tuple(map(str, names))
    return None


def _described(folder):
    """Returns what the run in a folder says of itself, as a dictionary."""
    for name in ("search.json", "results.json"):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        # No such file, or one of something else.
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            return content
    return {}
