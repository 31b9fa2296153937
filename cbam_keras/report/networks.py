"""Networks from files and output folders, and what runs say of their data."""

import contextlib
import dataclasses
import os
import pathlib
import warnings
from collections.abc import Sequence

import keras
import numpy as np

from cbam_keras import _checks, _files, _graph, data, study
from cbam_keras.explain.figures import luminance
from cbam_keras.layers import AttentionLayer
from cbam_keras.report.images import Images, RunData, Size

ENDINGS = (".keras", ".h5")


@dataclasses.dataclass(frozen=True)
class Network:
    """A classifier from a file, and the size of the images that it takes.

    Images are cropped for the size `frame`, which is that of the first network.
    """

    name: str
    path: pathlib.Path
    model: keras.Model
    size: Size
    frame: Size

    @property
    def has_attention(self) -> bool:
        layers = _graph.layers_within(self.model)
        return any(isinstance(layer, AttentionLayer) for layer in layers)

    def view(self, images: Images) -> np.ndarray:
        """Returns images, uint8 `(B, H, W, C)`, in its size and colors."""
        pixels = images.view(self.size, self.frame)
        if self.model.inputs[0].shape[-1] == 3:
            return pixels
        return luminance(pixels)[..., None].round().astype("uint8")


def load_networks(
    paths: Sequence[pathlib.Path],
    image_size: int | Size | None,
    default_size: Size,
    has_two_classes: bool,
) -> list[Network]:
    """Returns the networks in files.

    With two classes, a single unit is for these, unless it is trained as a
    value.
    Networks that take images of any size get those of `image_size`, else of
    the size of the first network with a fixed one, else of `default_size`.
    """
    names = _make_unique_names(paths)
    models = [_load_classifier(path, has_two_classes) for path in paths]
    sizes = [tuple(model.inputs[0].shape[1:3]) for model in models]
    if image_size is not None:
        # A network of another size raises an error.
        sizes = [_checks.height_and_width(image_size)] * len(models)
    fixed = next((size for size in sizes if None not in size), default_size)
    sizes = [(height or fixed[0], width or fixed[1]) for height, width in sizes]
    return [
        Network(name, path, model, size, sizes[0])
        for name, path, model, size in zip(
            names, paths, models, sizes, strict=True
        )
    ]


def _load_classifier(path, has_two_classes):
    """Returns the model in a file, of images alone and with one output."""
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
    model = _graph.with_graph("model", model)
    inputs = [tuple(x.shape) for x in model.inputs]
    outputs = [tuple(x.shape) for x in model.outputs]
    takes_images = len(inputs) == 1 and len(inputs[0]) == 4
    if not takes_images or inputs[0][3] not in (1, 3) or len(outputs) > 1:
        raise ValueError(
            "A model must take images as its one input, (B, H, W, C) of one "
            "or three channels, and have one output. Received: "
            f'"{path}", which takes {_checks.first_few(inputs)} and returns '
            f"{_checks.first_few(outputs)}. In Python, cbam_keras.explain "
            "takes others too"
        )
    if outputs == [(None, 1)]:
        # The loss tells classes from values, where it can be loaded.
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            model.loss = keras.saving.load_model(path).loss
        meaning = _graph.find_meaning(model, 0, None)
        if has_two_classes and meaning == "unknown":
            model.loss = "binary_crossentropy"
    return model


def _make_unique_names(paths):
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


def find_networks(folder: pathlib.Path) -> tuple[list[pathlib.Path], RunData]:
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
    seed, names = results.first_seed, results.networks()
    files = [folder / x for x in names if (folder / x).exists()]
    if not files:
        raise ValueError(
            "A folder of a run must hold models. Received: "
            f'"{folder}", where none is finished yet. Run the same command '
            "again to resume it"
        )
    source = content.get("source")
    if source is None:
        # Arrays and data frames are in no place.
        return files, RunData(None, seed)
    descriptions = results.settings["data"]
    trained_on = descriptions.get(str(seed), next(iter(descriptions.values())))
    if results.folds is not None:
        # The best network of a search may be of a new seed.
        seed = content.get("best_network", {}).get("seed", seed)
        seed, fold = divmod(seed, results.folds)
        trained_on = {**trained_on, "seed": seed, "fold": fold}
    return files, RunData(
        data.Source.from_description(source),
        seed=trained_on.get("seed", seed),
        fingerprint=trained_on.get("fingerprint"),
        # The test images are those of the fold of these networks.
        folds=trained_on.get("folds"),
        fold=trained_on.get("fold", 0),
    )


def find_class_names(
    models: Sequence[pathlib.Path], classes: int
) -> tuple[str, ...] | None:
    """Returns the class names of the runs that models lie in, if known."""
    orders = set()
    for folder in {path.parent for path in models}:
        # There may be no run.
        with contextlib.suppress(*study.DAMAGE):
            names = study.read_content(folder).get("class_names", ())
            if len(names) == classes:
                orders.add(tuple(names))
    if len(orders) > 1:
        listed = [_checks.first_few(names) for names in sorted(orders)]
        raise ValueError(
            "Models must have the same classes in the same order to be "
            f"compared. Received: {'; '.join(listed)}"
        )
    return orders.pop() if orders else None


def find_scale(models: Sequence[pathlib.Path]) -> data.Scale | None:
    """Returns the scale of the images that models were trained on, if any."""
    scales = set()
    for folder in {path.parent for path in models}:
        with contextlib.suppress(*study.DAMAGE):
            scales.add(data.Scale(*study.read_content(folder)["scale"]))
    if len(scales) > 1:
        raise ValueError(
            "Models must have been trained on images of one scale to be "
            f"compared. Received: {sorted(scales)}"
        )
    return next(iter(scales), None)
