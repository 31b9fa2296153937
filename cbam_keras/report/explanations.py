"""What networks look at, from the files that `explain` wrote."""

import io
import json
import pathlib
from typing import Any

import numpy as np

from cbam_keras import plotting
from cbam_keras.report.page import Figure, Page, Table

FILE = "explain.json"
# What can still be compared; and images with the attention of every layer.
MAX_IMAGES, MAX_NETWORKS, MAX_ATTENTION = 16, 6, 4
CAPTION = (
    "Grad-CAM of {}. Bright regions increase the score of the class that is "
    "explained: the true one where it is known. P is its probability."
)


def read_content(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what `explain` wrote into a folder."""
    content = json.loads((folder / FILE).read_text("utf-8"))
    return {**content, "kind": "explain"}


def add_explanations(page: Page, folder: pathlib.Path, note: str = "") -> None:
    """Adds the figures of a folder of `explain`, and the predictions.

    Figures that the folder lacks, as that of another run, are drawn from its
    arrays.
    """
    content = read_content(folder)
    names = list(content["models"])[:MAX_NETWORKS]
    page.predictions = _predictions(content["images"], names, note)
    with np.load(folder / "arrays.npz") as file:
        arrays = dict(file)
    page.explanations.append(
        _figure(
            *(folder / "grad_cam.png", CAPTION.format(", ".join(names))),
            lambda: _grad_cam(content["images"], arrays, names),
        )
    )
    for name in names:
        if maps := _attention_maps(arrays, f"{name}/attention/"):
            page.explanations.append(
                _figure(
                    folder / f"attention-{name.replace('/', '-')}.png",
                    f"Attention of each layer of {name} on the first images.",
                    lambda maps=maps: plotting.plot_attention_maps(
                        arrays["images"][:MAX_ATTENTION], maps
                    ),
                )
            )


def _figure(path, caption, draw):
    if path.exists():
        return Figure.read(path, caption)
    with io.BytesIO() as file:
        draw().savefig(file, dpi=100)
        return Figure.of(file.getvalue(), caption)


def _grad_cam(images, arrays, names):
    drawn = slice(min(len(arrays["images"]), MAX_IMAGES))
    return plotting.plot_grad_cam(
        arrays["images"][drawn],
        {name: arrays[f"{name}/heat_maps"][drawn] for name in names},
        probabilities={
            name: [row["models"][name]["probability"] for row in images[drawn]]
            for name in names
        },
        labels=[row["true_class"] or _name(row) for row in images[drawn]],
    )


def _attention_maps(arrays, prefix):
    """Returns channel and spatial maps of the first images by layer."""
    keys = [key for key in arrays if key.startswith(prefix)]
    layers = dict.fromkeys(key.rpartition("/")[0] for key in keys)
    first = {key: arrays[key][:MAX_ATTENTION] for key in keys}
    return {
        layer.removeprefix(prefix): (
            *(first.get(f"{layer}/channel"), first.get(f"{layer}/spatial")),
        )
        for layer in layers
    }


def _predictions(images, names, note):
    """Returns the table of predictions, with the most mistakes first."""
    rows = sorted(
        images,
        key=lambda row: -sum(_is_wrong(row, name) for name in names),
    )[:MAX_IMAGES]
    note += " Mistakes are marked \N{MULTIPLICATION SIGN} and come first."
    if len(images) > len(rows):
        note += f" {len(rows)} of {len(images)} images are listed."
    return Table(
        "Predictions",
        [
            {
                "image": _name(row),
                "true class": row["true_class"] or "",
                **{name: _cell(row, name) for name in names},
            }
            for row in rows
        ],
        note.strip(),
    )


def _name(row):
    return pathlib.PurePath(row["image"]).name


def _is_wrong(row, name):
    predicted = row["models"][name]["predicted_class"]
    return row["true_class"] not in (None, predicted)


def _cell(row, name):
    found = row["models"][name]
    mark = " \N{MULTIPLICATION SIGN}" if _is_wrong(row, name) else ""
    text = f"{found['predicted_class']} ({found['predicted_probability']:.0%})"
    return text + mark
