"""Predictions of networks, explained: as a table, plain values and arrays."""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _terminal, plotting
from cbam_keras._explanations.examples import Examples
from cbam_keras._explanations.networks import Network
from cbam_keras.explain import (
    attention_maps,
    class_probabilities,
    grad_cam,
    pointing_game,
)

# Titles of the columns of means.
MEANS = {
    "accuracy": "accuracy",
    "hit_rate": "maximum in the box",
    "energy": "heat in the box",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which images are explained, and how; see `cbam-keras explain --help`.

    Attributes:
        wanted: Name or index of the class to explain, or `None`, which means
            the true class where it is known, else the predicted one.
        layer: Name of the layer, or `None` for the last feature map.
        method: One of `explain.METHODS`.
        head: Name or index of the output, of models with several.
        image_size: Height and width for models that take any, or `None`.
        draw: How many images are drawn and kept as arrays.
        batch_size: Images per batch.
        data: Name of a dataset, or `None`.
        split: Name of the split of the dataset.
        count: How many images of the dataset or of each folder, `None` for
            all.
        seed: Seed of that choice, and of the validation split.
    """

    wanted: str | None = None
    layer: str | None = None
    method: str = "grad_cam"
    head: int | str | None = None
    image_size: int | None = None
    draw: int = 8
    batch_size: int = 32
    data: str | None = None
    split: str = "test"
    count: int | None = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "draw", "image_size", "count"):
            if getattr(self, name) is not None:
                _checks.positive_integer(name, getattr(self, name))
        _checks.seed("seed", self.seed)
        if self.draw > plotting.MAX_ROWS:
            raise ValueError(
                f"`draw` must be at most {plotting.MAX_ROWS}, or the figure "
                f"cannot be read. Received: draw={self.draw}"
            )


@dataclasses.dataclass(frozen=True)
class Explanation(_terminal.Tabular):
    """Predictions of networks, explained. Prints as tables.

    `to_dataframe` has a row for each image and network.

    Attributes:
        content: Dictionary, what `explain.json` holds of the images.
        arrays: Dictionary of arrays of the drawn images, which `arrays.npz`
            holds.
    """

    content: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    def captions(self) -> list[str]:
        """Returns the label of each drawn image: its true class or its name."""
        rows = self.content["images"][: len(self.arrays["images"])]
        return [row["true_class"] or _short(row["image"]) for row in rows]

    def __str__(self) -> str:
        return "\n\n".join(
            _terminal.render(columns, sections, title=title)
            for columns, sections, title in self._tables()
        )

    def _records(self):
        return [
            {"image": row["image"], "true_class": row["true_class"]}
            | {"model": name, **prediction}
            for row in self.content["images"]
            for name, prediction in row["models"].items()
        ]

    def _tables(self):
        rows, drawn = self.content["images"], len(self.arrays["images"])
        summary = self.content["summary"]
        labelled = any(row["true_class"] for row in rows)
        title = "Probability of the explained class"
        if len(rows) > drawn:
            title += f", first {drawn} of {len(rows)} images"
        columns = ["image", *["true class"] * labelled, *summary]
        cells = [
            (
                _short(row["image"]),
                *[row["true_class"] or ""] * labelled,
                *map(_cell, row["models"].values()),
            )
            for row in rows[:drawn]
        ]
        yield dict.fromkeys(columns, "left"), [cells], title
        means = [key for key in MEANS if key in next(iter(summary.values()))]
        if not means:
            return
        cells = [
            (name, *(f"{values[key]:.1%}" for key in means))
            for name, values in summary.items()
        ]
        if "box_fraction" in self.content:
            chance = f"{self.content['box_fraction']:.1%}"
            even = (chance if key != "accuracy" else "" for key in means)
            cells.append(("uniform heat", *even))
        columns = {MEANS[key]: "right" for key in means}
        title = f"Means over {len(rows)} images"
        yield {"model": "left", **columns}, [cells], title


def _cell(prediction):
    text = f"{prediction['class']} {prediction['probability']:.1%}"
    if prediction["predicted_class_index"] != prediction["class_index"]:
        text += (
            f" (predicts {prediction['predicted_class']} "
            f"{prediction['predicted_probability']:.1%})"
        )
    return text


def _short(name):
    """Returns the name of an image with its own folder alone."""
    return "/".join(pathlib.Path(name).parts[-2:])


def explain(
    networks: Sequence[Network],
    examples: Examples,
    class_names: Sequence[str] | None,
    class_index: int | None,
    settings: Settings,
) -> Explanation:
    """Explains the predictions of networks, of which the first one sets sizes.

    The class `class_index` is explained; if it is `None`, the true class
    where it is known, else the predicted one.
    """

    def name_of(index):
        return class_names[index] if class_names else f"class {index}"

    size, draw = networks[0].size, settings.draw
    labels = examples.labels(class_names)
    wanted = labels
    if class_index is not None:
        wanted = np.full_like(labels, class_index)
    rows: list[dict[str, Any]] = [
        {
            "image": name,
            "true_class": name_of(label) if label >= 0 else None,
            "models": {},
        }
        for name, label in zip(examples.names, labels, strict=True)
    ]
    parts = collections.defaultdict(list)
    work = (
        (batch, network)
        for batch in examples.batches(settings.batch_size, size)
        for network in networks
    )
    total = -(-len(examples) // settings.batch_size) * len(networks)
    for batch, network in _terminal.watched(work, total, "Explaining"):
        drawn = max(0, draw - batch.part.start)
        if network is networks[0]:
            images = network.in_its_colors(batch.images(size))
            parts["images"].append(images[:drawn])
            parts["boxes"].append(batch.boxes(size))
        inputs = network.prepare(batch.images(network.size))
        probabilities, heat, predictions = predict(
            network, inputs, wanted[batch.part], settings
        )
        boxes = batch.boxes(network.size)
        if boxes is not None:
            hits, energy = pointing_game(heat, boxes)
            predictions |= {"hit": hits, "energy": energy}
        for i, row in enumerate(rows[batch.part]):
            values = {key: x[i].item() for key, x in predictions.items()}
            explained, predicted = values["explained"], values["predicted"]
            row["models"][network.name] = {
                "class": name_of(explained),
                "class_index": values.pop("explained"),
                "predicted_class": name_of(predicted),
                "predicted_class_index": values.pop("predicted"),
                **values,
            }
        arrays = {**predictions, "probabilities": probabilities}
        arrays["heat_maps"] = _resized(heat[:drawn], size)
        if drawn and network.has_attention:
            arrays |= _gates(network, inputs[:drawn], settings.batch_size)
        for key, array in arrays.items():
            parts[f"{network.name}/{key}"].append(array[:drawn])
    boxes = parts.pop("boxes")
    arrays = {key: np.concatenate(part) for key, part in parts.items()}
    arrays["names"] = np.array(examples.names[:draw])
    arrays["labels"] = labels[:draw]
    content: dict[str, Any] = {
        "class_names": list(class_names) if class_names else None,
        "summary": {x.name: _means(rows, x.name, labels) for x in networks},
        "images": rows,
    }
    if examples.boxes is not None:
        corners = np.concatenate(boxes)
        arrays["boxes"] = corners[:draw]
        for row, box in zip(rows, corners.tolist(), strict=True):
            row["box"] = box
        sides = corners[:, 2:] - corners[:, :2]
        fraction = sides.prod(axis=1).mean() / np.prod(size)
        content["box_fraction"] = float(fraction)
    return Explanation(content, arrays)


def predict(network, inputs, wanted, settings):
    """Returns probabilities, heat maps, and what is predicted and explained.

    `wanted` are the classes to explain, -1 for those predicted.
    """
    options = {"head": settings.head, "batch_size": settings.batch_size}
    probabilities = class_probabilities(network.model, inputs, **options)
    predicted = probabilities.argmax(axis=1)
    explained = np.where(wanted < 0, predicted, wanted)
    heat = grad_cam(
        network.model,
        inputs,
        explained,
        settings.layer,
        method=settings.method,
        **options,
    )
    numbers = np.arange(len(inputs))
    predictions = {
        "explained": explained,
        "probability": probabilities[numbers, explained],
        "predicted": predicted,
        "predicted_probability": probabilities[numbers, predicted],
    }
    return probabilities, heat, predictions


def _gates(network, inputs, batch_size):
    """Returns the attention maps of a network, by layer and kind."""
    maps = attention_maps(network.model, inputs, batch_size=batch_size)
    return {
        f"attention/{layer}/{gate}": array
        for layer, pair in maps.items()
        for gate, array in zip(("channel", "spatial"), pair, strict=True)
        if array is not None
    }


def _means(rows, name, labels):
    """Returns accuracy, hit rate and energy of a network, where known."""
    predictions = [row["models"][name] for row in rows]
    values = {
        "accuracy": [
            prediction["predicted_class_index"] == label
            for prediction, label in zip(predictions, labels, strict=True)
            if label >= 0
        ],
        "hit_rate": [x["hit"] for x in predictions if "hit" in x],
        "energy": [x["energy"] for x in predictions if "energy" in x],
    }
    return {key: float(np.mean(x)) for key, x in values.items() if x}


def _resized(maps, size):
    """Returns heat maps `(B, H, W)` in another size."""
    image = _checks.require("PIL.Image", extra="plot")
    shape = size[::-1]
    bilinear = image.Resampling.BILINEAR
    resized = [image.fromarray(x).resize(shape, bilinear) for x in maps]
    return np.array([np.asarray(x) for x in resized]).reshape(-1, *size)
