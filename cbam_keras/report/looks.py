"""Where networks look, image by image, from the files of `explain`."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import plotting
from cbam_keras.report.pictures import Picture, in_color, of_array, with_map

# What is in a page of a few megabytes and can still be compared.
MOST_IMAGES, MOST_MODELS, MOST_LAYERS = 16, 6, 4
# Of all pictures of images together.
MOST_BYTES = 1_200_000


@dataclasses.dataclass
class Seen:
    """What one network makes of an image.

    Attributes:
        model: String, its name.
        says: String, the predicted class and its probability.
        wrong: Boolean, whether that is not the true class.
        picture: `Picture`, the image under its Grad-CAM heat map, or with
            the boxes that it finds.
        spatial: Sequence of `Picture`, the spatial gates of some layers.
        channel: Sequence of tuples of a layer's name, and its channel gates,
            sorted, as the points of a line in a box of 100 x 30.
    """

    model: str
    says: str
    wrong: bool
    picture: Picture
    spatial: Sequence[Picture] = ()
    channel: Sequence[tuple[str, str]] = ()

    @property
    def gates(self) -> bool:
        """Whether it has attention layers."""
        return bool(self.spatial or self.channel)


@dataclasses.dataclass
class Look:
    """An image, and what each network makes of it."""

    name: str
    true_class: str | None
    image: Picture
    seen: list[Seen]

    @property
    def size(self) -> int:
        """Bytes of its pictures."""
        pictures = [self.image]
        for one in self.seen:
            pictures += [one.picture, *one.spatial]
        return sum(len(picture.source) for picture in pictures)


def looks_in(folder: pathlib.Path) -> tuple[list[Look], str]:
    """Returns the images that `explain` has drawn into a folder, and a note.

    Those that most networks get wrong come first.

    Args:
        folder: Path of the output folder of `explain`.
    """
    content = json.loads((folder / "explain.json").read_text("utf-8"))
    with np.load(folder / "arrays.npz") as file:
        arrays = {name: file[name] for name in file.files}
    drawn = len(arrays["images"])
    numbers = sorted(
        range(drawn), key=lambda i: -_mistakes(content["images"][i])
    )
    models = list(content["models"])
    looks: list[Look] = []
    size = 0
    for number in numbers[:MOST_IMAGES]:
        look = _look(content["images"][number], arrays, number, models)
        size += look.size
        if looks and size > MOST_BYTES:
            break
        looks.append(look)
    return looks, _note(content, len(looks), drawn, models)


def _note(content, shown, drawn, models):
    labelled = any(one["true_class"] for one in content["images"])
    note = "Those that most networks get wrong come first. " * labelled
    note += "Bright is what supports the class that is explained: "
    note += "the true one. " if labelled else "the predicted one. "
    if shown < drawn:
        note += (
            f"{shown} of {drawn} images are shown, to keep the page small; "
            "the others are in the folder's figures. "
        )
    if len(models) > MOST_MODELS:
        note += f"{MOST_MODELS} of {len(models)} networks are shown. "
    return note.strip()


def _is_wrong(row, prediction):
    true_class = row["true_class"]
    return true_class not in (None, prediction["predicted_class"])


def _mistakes(row):
    return sum(_is_wrong(row, one) for one in row["models"].values())


def _look(row, arrays, number, models):
    image = in_color(arrays["images"][number])
    true_class = row["true_class"]
    name = pathlib.PurePath(row["image"]).name
    what = f"{name}, true class {true_class}" if true_class else name
    return Look(
        name,
        true_class,
        of_array(image, f"The image {what}", name),
        [
            _seen(row, model, arrays, number, image, what)
            for model in models[:MOST_MODELS]
        ],
    )


def _seen(row, model, arrays, number, image, what):
    own = row["models"][model]
    says = f"{own['predicted_class']} ({own['predicted_probability']:.0%})"
    heat = with_map(
        image, arrays[f"{model}/heat_maps"][number], plotting.heat_colors()
    )
    alt = f"Grad-CAM of {model} on the image {what}; it predicts {says}"
    gates = _gates(arrays, model, number)
    return Seen(
        model,
        says,
        _is_wrong(row, own),
        of_array(heat, alt),
        [
            of_array(_with_gate(image, values), f"{alt}. Gate {layer}", layer)
            for layer, values in gates["spatial"]
        ],
        [(layer, _line(values)) for layer, values in gates["channel"]],
    )


def _gates(arrays, model, number):
    """Returns layers and values of the gates of a few layers, by kind."""
    found: dict[str, list[tuple[str, Any]]] = {"channel": [], "spatial": []}
    prefix = f"{model}/attention/"
    for key, values in arrays.items():
        if key.startswith(prefix):
            layer, _, kind = key.removeprefix(prefix).rpartition("/")
            found[kind].append((layer, values[number]))
    # From the first layer to the last.
    return {
        kind: [pairs[i] for i in _few(len(pairs))]
        for kind, pairs in found.items()
    }


def _few(count):
    return np.unique(
        np.linspace(0, count - 1, min(count, MOST_LAYERS)).round().astype(int)
    )


def _with_gate(image, values):
    colors = plotting.transparent_colors("viridis", 0, 0.7, 0)
    return with_map(image, values / _highest(values), colors)


def _highest(values):
    # Gates that start as the identity, at 1, reach up to 2.
    return 1 if values.max() <= 1.001 else 2


def _line(values):
    values = np.sort(values)[::-1]
    x = np.linspace(0, 100, len(values)) if len(values) > 1 else [50]
    y = 30 - 30 * np.clip(values / _highest(values), 0, 1)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
