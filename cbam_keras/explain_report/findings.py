"""What models look at, image by image: as tables, JSON and arrays."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _tables


@dataclasses.dataclass(frozen=True)
class Findings:
    """What came of explaining images to models; prints as tables.

    Attributes:
        names: Sequence of strings, the images.
        class_names: Sequence of strings, or `None` where not known.
        labels: Array `(N,)`, the true classes, -1 where unknown.
        boxes: Array `(N, 4)` on the images as drawn, or `None`.
        images: Array `(D, H, W, C)`, those that are drawn, uint8.
        models: Mapping of the name of each model to arrays: `explained`,
            `probability` (of that class), `predicted`,
            `predicted_probability`, and with boxes `hit` and `energy`, `(N,)`
            each; `heat_maps` `(D, H, W)`, `probabilities` `(D, classes)` and
            `attention/LAYER/channel` and `.../spatial` of those drawn.
    """

    names: Sequence[str]
    class_names: Sequence[str] | None
    labels: np.ndarray
    boxes: np.ndarray | None
    images: np.ndarray
    models: Mapping[str, Mapping[str, np.ndarray]]

    def class_name(self, index: int) -> str:
        return self.class_names[index] if self.class_names else f"class {index}"

    def true_class(self, number: int) -> str | None:
        """Returns the name of the true class of an image, if it is known."""
        label = self.labels[number]
        return self.class_name(label) if label >= 0 else None

    def captions(self) -> list[str]:
        """Returns what to write beside each image that is drawn."""
        return [
            self.true_class(i) or short(self.names[i])
            for i in range(len(self.images))
        ]

    def attention(self, model: str, most: int) -> dict[str, tuple]:
        """Returns the maps of the first images, as `plotting` takes them."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for key, maps in self.models[model].items():
            if key.startswith("attention/"):
                layer, _, kind = key.partition("/")[2].rpartition("/")
                found.setdefault(layer, {})[kind] = maps[:most]
        return {
            layer: (maps.get("channel"), maps.get("spatial"))
            for layer, maps in found.items()
        }

    def summary(self) -> dict[str, dict[str, float]]:
        """Returns the means over all images of what is known of each model."""
        labelled = self.labels >= 0
        means: dict[str, dict[str, float]] = {}
        for model, found in self.models.items():
            own = means[model] = {}
            if labelled.any():
                right = found["predicted"] == self.labels
                own["accuracy"] = float(right[labelled].mean())
            if self.boxes is not None:
                own["hit_rate"] = float(found["hit"].mean())
                own["energy"] = float(found["energy"].mean())
        return means

    def share_of_boxes(self) -> float:
        """Returns the mean part of an image that its box covers."""
        y_min, x_min, y_max, x_max = np.asarray(self.boxes).T
        areas = (y_max - y_min) * (x_max - x_min)
        return float(areas.mean() / np.prod(self.images.shape[1:3]))

    def as_json(self) -> dict[str, Any]:
        """Returns all but the arrays, as plain values."""
        content: dict[str, Any] = {
            "class_names": list(self.class_names) if self.class_names else None,
            "summary": self.summary(),
            "images": [self._image(i) for i in range(len(self.names))],
        }
        if self.boxes is not None:
            content["share_of_boxes"] = self.share_of_boxes()
        return content

    def _image(self, number):
        own: dict[str, Any] = {
            "image": self.names[number],
            "true_class": self.true_class(number),
        }
        if self.boxes is not None:
            own["box"] = self.boxes[number].tolist()
        own["models"] = {
            model: self._row(found, number)
            for model, found in self.models.items()
        }
        return own

    def _row(self, found, number):
        row = {
            "class": self.class_name(found["explained"][number]),
            "class_index": int(found["explained"][number]),
            "probability": float(found["probability"][number]),
            "predicted_class": self.class_name(found["predicted"][number]),
            "predicted_class_index": int(found["predicted"][number]),
            "predicted_probability": float(
                found["predicted_probability"][number]
            ),
        }
        if self.boxes is not None:
            row["hit"] = bool(found["hit"][number])
            row["energy"] = float(found["energy"][number])
        return row

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays of the images that are drawn, by name."""
        drawn = len(self.images)
        arrays = {
            "images": self.images,
            "names": np.array(self.names[:drawn]),
            "labels": self.labels[:drawn],
        }
        if self.boxes is not None:
            arrays["boxes"] = self.boxes[:drawn]
        for model, found in self.models.items():
            for key, array in found.items():
                arrays[f"{model}/{key}"] = array[:drawn]
        return arrays

    def __str__(self) -> str:
        texts = [self._classes()]
        if any(self.summary().values()):
            texts.append(self._means())
        return "\n\n".join(texts)

    def _classes(self):
        known = (self.labels >= 0).any()
        drawn = len(self.images)
        rows = [
            (
                short(self.names[i]),
                *([self.true_class(i) or ""] if known else []),
                *(self._cell(found, i) for found in self.models.values()),
            )
            for i in range(drawn)
        ]
        more = len(self.names) > drawn
        return _tables.render(
            {
                "image": "left",
                **({"true class": "left"} if known else {}),
                **{model: "left" for model in self.models},
            },
            [rows],
            title="Probability of the class that is explained"
            + (f", first {drawn} of {len(self.names)} images" if more else ""),
        )

    def _cell(self, found, number):
        row = self._row(found, number)
        text = f"{row['class']} {row['probability']:.1%}"
        if row["predicted_class_index"] != row["class_index"]:
            text += (
                f" (predicts {row['predicted_class']} "
                f"{row['predicted_probability']:.1%})"
            )
        return text

    def _means(self):
        summary = self.summary()
        columns = {
            key: text
            for key, text in {
                "accuracy": "accuracy",
                "hit_rate": "maximum in the box",
                "energy": "heat in the box",
            }.items()
            if key in next(iter(summary.values()))
        }
        rows = [
            (model, *(f"{own[key]:.1%}" for key in columns))
            for model, own in summary.items()
        ]
        if self.boxes is not None:
            chance = f"{self.share_of_boxes():.1%}"
            last = {"hit_rate": chance, "energy": chance}
            rows.append(("even heat", *(last.get(key, "") for key in columns)))
        return _tables.render(
            {
                "model": "left",
                **{text: "right" for text in columns.values()},
            },
            [rows],
            title=f"Means over {len(self.names)} images",
        )


def short(name: str) -> str:
    """Returns the name of an image without the folders above its own."""
    return "/".join(pathlib.Path(name).parts[-2:])
