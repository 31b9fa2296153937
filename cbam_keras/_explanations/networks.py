"""Networks from files and output folders, and the images that they take."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from cbam_keras import _checks, _inspection, data, study
from cbam_keras.layers import AttentionLayer

ENDINGS = (".keras", ".h5")
# Arguments of `data.load` that a run records.
LOCATION = ("data_dir", "manual_dir", "validation_fraction")


@dataclasses.dataclass(frozen=True)
class Source:
    """The dataset to explain, `None` where a run does not say which it was.

    `fingerprint` is that of the data of a run, and `options` are those of
    `data.load`.
    """

    name: str | None
    seed: int
    fingerprint: str | None = None
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Network:
    """A classifier from a file, and the images that it takes.

    `size` is their height and width, and `preprocess` a function of images in
    [0, 255], or `None`.
    """

    name: str
    path: pathlib.Path
    model: keras.Model
    size: tuple[int, int]
    preprocess: Callable[[np.ndarray], ArrayLike] | None

    @property
    def gated(self) -> bool:
        """Whether it has attention layers."""
        layers = _inspection.layers_within(self.model)
        return any(isinstance(layer, AttentionLayer) for layer in layers)

    def in_its_colors(self, images: np.ndarray) -> np.ndarray:
        """Returns RGB images, in grayscale `(B, H, W, 1)` if it takes them."""
        if self.model.inputs[0].shape[-1] == 3:
            return images
        luminance = images @ np.array([[0.299], [0.587], [0.114]])
        return luminance.round().astype("uint8")

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Returns uint8 images `(B, H, W, 3)` of its size as it takes them."""
        # A copy, since the functions of Keras change arrays in place.
        images = self.in_its_colors(images).astype("float32")
        if self.preprocess is not None:
            images = self._preprocessed(images)
        return images

    def _preprocessed(self, images):
        try:
            return np.asarray(self.preprocess(images))
        # Whatever a function of the user raises.
        except Exception as error:
            raise ValueError(
                "`preprocess` must be a function of images (B, H, W, C) in "
                f"[0, 255]. Received: {self.preprocess!r}, which fails for "
                f"{images.shape} ({type(error).__name__}: {error})"
            ) from error


def load_networks(
    paths: Sequence[pathlib.Path],
    image_size: int | None,
    default_size: tuple[int, int],
    preprocess: Callable[[np.ndarray], ArrayLike] | None = None,
) -> list[Network]:
    """Returns the networks in files.

    Networks that take images of any size get those of `image_size`, else of
    the size of the first network with a fixed one, else of `default_size`.
    """
    names = _unique_names(paths)
    models = list(map(load_model, paths))
    for path, model in zip(paths, models, strict=True):
        shapes = [tuple(x.shape) for x in model.inputs]
        if len(shapes) > 1 or len(shapes[0]) != 4 or shapes[0][3] not in (1, 3):
            raise ValueError(
                "A model must take images as its one input, (B, H, W, C) of "
                f'one or three channels. Received: "{path}", which takes '
                f"{_checks.first_few(shapes)}"
            )
    sizes = [tuple(model.inputs[0].shape[1:3]) for model in models]
    if image_size is not None:
        # A network of another one raises an error.
        sizes = [(image_size, image_size)] * len(models)
    fixed = next((size for size in sizes if None not in size), default_size)
    networks = []
    for name, path, model, (height, width) in zip(
        names, paths, models, sizes, strict=True
    ):
        size = height or fixed[0], width or fixed[1]
        networks.append(Network(name, path, model, size, preprocess))
    return networks


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
            "import the module that registers them with --import MODULE"
        ) from error
    _inspection.require_graph("model", model)
    return model


def _unique_names(paths):
    """Returns the stems of files, or their paths where stems repeat."""
    files = [path.resolve() for path in paths]
    for names in (
        [file.stem for file in files],
        [f"{file.parent.name}/{file.stem}" for file in files],
        [file.as_posix() for file in files],
    ):
        if len(set(names)) == len(names):
            return names
    raise ValueError(
        f"Each model must be given once. Received: {_checks.first_few(files)}"
    )


def is_run(folder: pathlib.Path) -> bool:
    """Returns whether a folder is that of a run."""
    return os.path.exists(folder / study.RESULTS)


def networks_of(folder: pathlib.Path) -> tuple[list[pathlib.Path], Source]:
    """Returns the networks of the run in a folder, and its data.

    Of a search it is the best network, of several seeds those of the first
    seed.
    """
    try:
        run = study.read_content(folder)
    except study.DAMAGE as error:
        raise ValueError(
            f'"{folder}" must be an output folder or hold images alone. '
            f"Received: one whose results.json cannot be read ({error})"
        ) from error
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
    first_seed, known = next(iter(run["settings"]["data"].items()))
    seed = cells[0].seed if cells else int(first_seed)
    if source := run.get("source"):
        # What else somebody's run says, as to download, is not obeyed.
        options = {key: source[key] for key in LOCATION if key in source}
        fingerprint = known.get("fingerprint")
        return files, Source(source.get("name"), seed, fingerprint, options)
    # Images that were given as arrays have no place.
    is_embedded = known["name"] in data.EMBEDDED
    return files, Source(known["name"] if is_embedded else None, seed)


def class_names_beside(
    paths: Sequence[pathlib.Path], classes: int
) -> tuple[str, ...] | None:
    """Returns the class names of the runs that networks belong to."""
    known = set()
    for folder in {path.parent for path in paths}:
        try:
            known.add(tuple(study.read_content(folder).get("class_names", ())))
        except study.DAMAGE:
            # That of no run.
            continue
    known = {names for names in known if len(names) == classes}
    if len(known) > 1:
        listed = [_checks.first_few(names) for names in sorted(known)]
        raise ValueError(
            "Models must have the same classes in the same order to be "
            f"compared. Received: {'; '.join(listed)}"
        )
    return known.pop() if known else None
