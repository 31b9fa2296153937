"""Networks from files and output folders."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from cbam_keras import _checks, _files, _inspection, data, plotting, study
from cbam_keras._explanations.images import Images, Size, Source
from cbam_keras.layers import AttentionLayer

ENDINGS = (".keras", ".h5")
# Arguments of `data.load` that a run records.
LOCATION = (
    "data_dir manual_dir validation_fraction group_by_folder image_column "
    "label_column".split()
)
FOLD = ("folds", "fold")


@dataclasses.dataclass(frozen=True)
class Network:
    """A classifier from a file, and the images that it takes.

    `size` is their height and width, and `preprocess` a function of images in
    [0, 255], or `None`. Images are cropped for the size `frame`, which is that
    of the first network.
    """

    name: str
    path: pathlib.Path
    model: keras.Model
    size: Size
    frame: Size
    preprocess: Callable[[np.ndarray], ArrayLike] | None

    @property
    def gated(self) -> bool:
        """Whether it has attention layers."""
        layers = _inspection.layers_within(self.model)
        return any(isinstance(layer, AttentionLayer) for layer in layers)

    def shown(self, images: Images) -> np.ndarray:
        """Returns images, uint8 `(B, H, W, C)`, in its size and colours."""
        seen = images.seen(self.size, self.frame)
        if self.model.inputs[0].shape[-1] == 3:
            return seen
        return plotting.luminance(seen)[..., None].round().astype("uint8")

    def prepare(self, images: Images) -> np.ndarray:
        """Returns images as it takes them."""
        # A copy, since the functions of Keras change arrays in place.
        inputs = self.shown(images).astype("float32")
        if self.preprocess is None:
            return inputs
        try:
            return np.asarray(self.preprocess(inputs))
        # A function of the user may raise anything.
        except Exception as error:
            raise ValueError(
                "`preprocess` must be a function of images (B, H, W, C) in "
                f"[0, 255]. Received: {self.preprocess!r}, which fails for "
                f"{inputs.shape} ({type(error).__name__}: {error})"
            ) from error


def load_networks(
    paths: Sequence[pathlib.Path],
    image_size: int | Size | None,
    default_size: Size,
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
        # A network of another size raises an error.
        sizes = [_checks.height_and_width(image_size)] * len(models)
    fixed = next((size for size in sizes if None not in size), default_size)
    sizes = [(height or fixed[0], width or fixed[1]) for height, width in sizes]
    return [
        Network(name, path, model, size, sizes[0], preprocess)
        for name, path, model, size in zip(
            names, paths, models, sizes, strict=True
        )
    ]


def load_model(path: pathlib.Path) -> keras.Model:
    """Returns the functional model in a file, not compiled."""
    try:
        model = _files.load_model(path)
    # Keras raises errors of many types for a damaged file or another format.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            "A model must be a complete file that keras.saving.load_model "
            f'loads. Received: "{path}" ({reason[0]}). For custom layers, '
            "import the module that registers them with --import MODULE"
        ) from error
    return _inspection.with_graph("model", model)


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

    They are the best network of a search and else those of the first seed,
    those of the last table first.
    """
    try:
        content = study.read_content(folder)
    except study.DAMAGE as error:
        raise ValueError(
            f'"{folder}" must be an output folder or hold images alone. '
            f"Received: one whose results.json cannot be read ({error})"
        ) from error
    results = study.Results.of(folder, content)
    if results.kind == "detect":
        raise ValueError(
            "A folder of a run must be that of train, tune or ablate. "
            f'Received: "{folder}", which is one of detect'
        )
    seed = next((run.seed for run in results.runs), results.seeds[0])
    found = {run.variant: run.file for run in results.runs if run.seed == seed}
    tables = [one.variants for one in reversed(results.comparisons)]
    names = [found.get(name) for table in tables for name in table]
    if results.kind == "tune":
        names = ["best.keras"]
    files = [folder / name for name in dict.fromkeys(names) if name]
    files = [file for file in files if file.exists()]
    if not files:
        raise ValueError(
            "A folder of a run must hold models. Received: "
            f'"{folder}", where none is finished yet. Run the same command '
            "again to resume it"
        )
    described = results.settings["data"]
    known = described.get(str(seed), next(iter(described.values())))
    if source := content.get("source"):
        # Whatever else somebody's run says, as to download, is not obeyed.
        options = {key: source[key] for key in LOCATION if key in source}
        # The test images are those of the fold of these networks.
        options |= {key: known[key] for key in FOLD if key in known}
        seed = known.get("seed", seed)
        fingerprint = known.get("fingerprint")
        return files, Source(source.get("name"), seed, fingerprint, options)
    # Images that were given as arrays have no place.
    is_embedded = results.data in data.EMBEDDED
    return files, Source(results.data if is_embedded else None, seed)
