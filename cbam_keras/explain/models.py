"""Models loaded from files, with the images that they take."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _inspection
from cbam_keras.explain.images import to_grayscale
from cbam_keras.layers import AttentionLayer

ENDINGS = (".keras", ".h5")


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A classifier from a file, and the images that it takes.

    Attributes:
        name: String, unique among the models.
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
    def is_grayscale(self) -> bool:
        return self.channels == 1

    @property
    def has_attention(self) -> bool:
        layers = _inspection.layers_within(self.model)
        return any(isinstance(layer, AttentionLayer) for layer in layers)

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Returns uint8 images `(B, H, W, 3)` of its size as it takes them."""
        if self.is_grayscale:
            images = to_grayscale(images)
        if self.channels_first:
            images = np.moveaxis(images, -1, 1)
        images = images.astype("float32")
        if self.preprocess is None:
            return images
        # A copy, since the functions of Keras change arrays in place.
        prepared = np.asarray(self.preprocess(images.copy()))
        if prepared.shape != images.shape:
            raise ValueError(
                "`preprocess` must return images of the shape it is given. "
                f"Received: {prepared.shape} for {images.shape}"
            )
        return prepared


def load_models(
    paths: Sequence[pathlib.Path],
    image_size: int | None,
    default_size: tuple[int, int],
    preprocess: Callable[[np.ndarray], Any] | None,
) -> list[LoadedModel]:
    """Returns the models of files.

    Args:
        paths: The files.
        image_size: Height and width for models that take images of any size,
            or `None`, which means the size of the first model with a fixed
            one.
        default_size: Height and width if no model has a fixed size.
        preprocess: See `LoadedModel`.
    """
    names = unique_names(paths)
    models = [load_model(path) for path in paths]
    inputs = [
        _image_input(model, path)
        for model, path in zip(models, paths, strict=True)
    ]
    fixed = [shape for shape, *_ in inputs if None not in shape]
    size = fixed[0] if fixed else default_size
    if image_size is not None:
        size = image_size, image_size
        for path, (shape, *_) in zip(paths, inputs, strict=True):
            if None not in shape and shape != size:
                raise ValueError(
                    "`image_size` must be that of the models, or be left out. "
                    f'Received: image_size={image_size}, model "{path}", which '
                    f"takes {shape[0]} x {shape[1]} pixels"
                )
    return [
        LoadedModel(
            name=name,
            path=path,
            model=model,
            size=(shape[0] or size[0], shape[1] or size[1]),
            channels=channels,
            channels_first=first,
            preprocess=preprocess,
        )
        for name, path, model, (shape, channels, first) in zip(
            names, paths, models, inputs, strict=True
        )
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


def _image_input(model, path):
    """Returns size, channels and whether they come first in the input."""
    first = _inspection.input_format(model) == "channels_first"
    shapes = [tuple(x.shape) for x in model.inputs]
    if len(shapes) == 1 and len(shapes[0]) == 4:
        channels = shapes[0][1 if first else 3]
        size = shapes[0][2:] if first else shapes[0][1:3]
        if channels in (1, 3):
            return size, channels, first
    raise ValueError(
        "A model must take images as its one input, (B, H, W, C) of one or "
        f'three channels. Received: "{path}", which takes '
        f"{_checks.first_few(shapes)}"
    )


def unique_names(paths: Sequence[pathlib.Path]) -> list[str]:
    """Returns the stems of files, with their folders where stems are equal."""
    whole = [path.resolve() for path in paths]
    for path, count in collections.Counter(whole).items():
        if count > 1:
            raise ValueError(
                f'Each model must be given once. Received: "{path}" twice'
            )
    stems = collections.Counter(path.with_suffix("") for path in whole)
    parts = [
        # With the ending, where two files of a folder differ in it alone.
        (
            *path.parts[1:-1],
            path.stem if stems[path.with_suffix("")] == 1 else path.name,
        )
        for path in whole
    ]
    depths = [1] * len(parts)
    while True:
        names = ["/".join(p[-d:]) for p, d in zip(parts, depths, strict=True)]
        # As in the names of the figures.
        groups = collections.defaultdict(list)
        for number, name in enumerate(names):
            groups[name.replace("/", "-")].append(number)
        if len(groups) == len(names):
            return names
        for numbers in groups.values():
            deepest = max(depths[number] for number in numbers)
            for number in numbers:
                # Of "a-x" and "a/x" only the latter gets another folder.
                if len(numbers) > 1 and depths[number] == deepest:
                    depths[number] += 1


def class_names_beside(paths: Sequence[pathlib.Path], classes: int) -> Any:
    """Returns the class names in the `results.json` beside a model."""
    for path in paths:
        try:
            content = json.loads((path.parent / "results.json").read_text())
            names = tuple(map(str, content["class_names"]))
        except (OSError, ValueError, KeyError, TypeError):
            # No such file, one of an older version, or of something else.
            continue
        if len(names) == classes:
            return names
    return None
