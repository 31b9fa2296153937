"""Models of files, as something that images can be shown to."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _inspection
from cbam_keras.explain_report.images import grey
from cbam_keras.layers import AttentionLayer

ENDINGS = (".keras", ".h5")


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model, and what images it takes.

    Attributes:
        name: String, tells it from the others that are looked at.
        path: Path of its file.
        model: `keras.Model` of one input.
        size: Height and width in pixels.
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
    def grey(self) -> bool:
        return self.channels == 1

    @property
    def attends(self) -> bool:
        """Whether it has attention layers."""
        layers = _inspection.layers_within(self.model)
        return any(isinstance(layer, AttentionLayer) for layer in layers)

    def prepared(self, images: np.ndarray) -> np.ndarray:
        """Returns uint8 images `(B, H, W, 3)` of its size as it takes them."""
        if self.grey:
            images = grey(images)
        if self.channels_first:
            images = np.moveaxis(images, -1, 1)
        images = images.astype("float32")
        if self.preprocess is None:
            return images
        # A copy: the functions of Keras change arrays in place.
        changed = np.asarray(self.preprocess(images.copy()))
        if changed.shape != images.shape:
            raise ValueError(
                "`preprocess` must return images of the shape it is given. "
                f"Received: {changed.shape} for {images.shape}"
            )
        return changed


def load(
    paths: Sequence[pathlib.Path],
    side: int | None,
    otherwise: tuple[int, int],
    preprocess: Callable[[np.ndarray], Any] | None,
) -> list[Classifier]:
    """Returns the models of files.

    Args:
        paths: The files.
        side: Height and width for models that take any, or `None`, which
            means those of the first model that has them.
        otherwise: Height and width if none has.
        preprocess: See `Classifier`.
    """
    names = unique_names(paths)
    models = [_loaded(path) for path in paths]
    taken = [
        _takes(model, path) for model, path in zip(models, paths, strict=True)
    ]
    known = [shape for shape, *_ in taken if None not in shape]
    size = known[0] if known else otherwise
    if side is not None:
        size = side, side
        for path, (shape, *_) in zip(paths, taken, strict=True):
            if None not in shape and shape != size:
                raise ValueError(
                    "`image_size` must be that of the models, or be left out. "
                    f'Received: image_size={side}, model "{path}", which '
                    f"takes {shape[0]} x {shape[1]} pixels"
                )
    return [
        Classifier(
            name=name,
            path=path,
            model=model,
            size=(shape[0] or size[0], shape[1] or size[1]),
            channels=channels,
            channels_first=first,
            preprocess=preprocess,
        )
        for name, path, model, (shape, channels, first) in zip(
            names, paths, models, taken, strict=True
        )
    ]


def _loaded(path):
    try:
        model = keras.saving.load_model(path, compile=False)
    # Keras raises many kinds for what is no model, or not a whole one.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            "A model must be a whole file that keras.saving.load_model "
            f'loads. Received: "{path}" ({reason[0]}). Layers of your own '
            "are known once the module that registers them is imported, with "
            "--import MODULE; of a file of weights alone, build the model, "
            "load them, and save it with model.save"
        ) from error
    _inspection.require_graph("model", model)
    return model


def _takes(model, path):
    """Returns the size a model takes, its channels and where they stand."""
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
    """Returns the stems of files, with folders before them where equal."""
    whole = [path.resolve() for path in paths]
    for path, count in collections.Counter(whole).items():
        if count > 1:
            raise ValueError(
                f'Each model must be given once. Received: "{path}" twice'
            )
    stems = collections.Counter(path.with_suffix("") for path in whole)
    parts = [
        # Two files in one folder that differ in the ending alone.
        (
            *path.parts[1:-1],
            path.stem if stems[path.with_suffix("")] == 1 else path.name,
        )
        for path in whole
    ]
    depths = [1] * len(parts)
    while True:
        names = ["/".join(p[-d:]) for p, d in zip(parts, depths, strict=True)]
        # As they are in the names of files.
        groups = collections.defaultdict(list)
        for number, name in enumerate(names):
            groups[name.replace("/", "-")].append(number)
        if len(groups) == len(names):
            return names
        for numbers in groups.values():
            deepest = max(depths[number] for number in numbers)
            for number in numbers:
                # One with a folder gets another, beside one with a hyphen.
                if len(numbers) > 1 and depths[number] == deepest:
                    depths[number] += 1


def names_beside(paths: Sequence[pathlib.Path], classes: int) -> Any:
    """Returns the class names that training wrote beside a model, or `None`."""
    for path in paths:
        try:
            content = json.loads((path.parent / "results.json").read_text())
            names = tuple(map(str, content["class_names"]))
        except (OSError, ValueError, KeyError, TypeError):
            # None there, of an older version, or another file of that name.
            continue
        if len(names) == classes:
            return names
    return None
