"""Networks from files and output folders, and the images that they take."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _inspection, data, study
from cbam_keras.layers import AttentionLayer

ENDINGS = (".keras", ".h5")


@dataclasses.dataclass(frozen=True)
class Network:
    """A classifier from a file, and the images that it takes.

    `size` is their height and width, `channels` is 1 or 3, and `preprocess` a
    function of images in [0, 255], or `None`.
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
    networks = []
    for path, name in zip(paths, _unique_names(paths), strict=True):
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
    """Returns the stems of files, with folders and endings where needed."""
    files = [path.resolve() for path in paths]
    for file in files:
        if files.count(file) > 1:
            raise ValueError(
                f'Each model must be given once. Received: "{file}" twice'
            )
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        root = os.path.commonpath([file.parent for file in files])
        files = [file.relative_to(root) for file in files]
        names = [file.with_suffix("").as_posix() for file in files]
    if len(set(names)) < len(names):
        names = [file.as_posix() for file in files]
    return names


def read_run(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what the run in a folder says of itself, empty without one."""
    try:
        return study.read_content(folder)
    except study.DAMAGE:
        return {}


def networks_of(
    folder: pathlib.Path,
) -> tuple[list[pathlib.Path], dict[str, Any]]:
    """Returns the networks of the run in a folder, and options of its data.

    Of a search it is the best network, of several seeds those of the first
    seed. Options have no `"name"` where a run does not say where its data are.
    """
    run = read_run(folder)
    if run["kind"] == "detect":
        raise ValueError(
            "A folder of a run must be that of train, tune or ablate. "
            f'Received: "{folder}", which is one of detect'
        )
    cells = [study.Outcome(**cell) for cell in run["cells"]]
    cells = [cell for cell in cells if cell.finished]
    names = [str(cell.file) for cell in cells if cell.seed == cells[0].seed]
    if run["kind"] == "tune":
        names = ["best.keras"]
    files = [folder / name for name in names if (folder / name).exists()]
    if not files:
        raise ValueError(
            "A folder of a run must hold models. Received: "
            f'"{folder}", where none is finished yet. Run the same command '
            "again to resume it"
        )
    seed, known = next(iter(run["settings"]["data"].items()))
    options = {"seed": cells[0].seed if cells else int(seed)}
    if run.get("source"):
        options |= {"fingerprint": known.get("fingerprint")} | run["source"]
    elif known["name"] in data.EMBEDDED:
        # A run of an earlier version.
        options["name"] = known["name"]
    return files, options


def class_names_beside(paths: Sequence[pathlib.Path], classes: int) -> Any:
    """Returns the class names of the runs that networks belong to."""
    runs = [read_run(folder) for folder in {path.parent for path in paths}]
    found = {tuple(run.get("class_names", ())) for run in runs}
    found = {names for names in found if len(names) == classes}
    if len(found) > 1:
        listed = [_checks.first_few(names) for names in sorted(found)]
        raise ValueError(
            "Models must have the same classes in the same order to be "
            f"compared. Received: {'; '.join(listed)}"
        )
    return found.pop() if found else None
