"""Results of explaining images: as tables, JSON and arrays."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _terminal


@dataclasses.dataclass(frozen=True)
class ExplainResults:
    """Results of explaining the predictions of models; prints as tables.

    Attributes:
        names: Sequence of strings, the names of the images.
        class_names: Sequence of strings, or `None` if they are not known.
        labels: Array `(N,)`, the true classes, -1 where unknown.
        boxes: Array `(N, 4)`, in pixels of the drawn images, or `None`.
        images: Array `(D, H, W, C)`, the drawn images, uint8.
        models: Mapping of model names to arrays. For all images, `(N,)`:
            `explained` (the class), `probability` (of that class),
            `predicted`, `predicted_probability`, and with boxes `hit` and
            `energy`. For the drawn images: `heat_maps` `(D, H, W)`,
            `probabilities` `(D, classes)`, `attention/LAYER/channel` and
            `attention/LAYER/spatial`.
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
        """Returns the name of an image's true class, `None` if unknown."""
        label = self.labels[number]
        return self.class_name(label) if label >= 0 else None

    def captions(self) -> list[str]:
        """Returns the label of each drawn image: its true class or its name."""
        return [
            self.true_class(i) or short_name(self.names[i])
            for i in range(len(self.images))
        ]

    def attention_maps(self, model: str, count: int) -> dict[str, tuple]:
        """Returns the maps of the first images, as `plotting` takes them."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for key, maps in self.models[model].items():
            if key.startswith("attention/"):
                layer, _, kind = key.partition("/")[2].rpartition("/")
                found.setdefault(layer, {})[kind] = maps[:count]
        return {
            layer: (maps.get("channel"), maps.get("spatial"))
            for layer, maps in found.items()
        }

    def summary(self) -> dict[str, dict[str, float]]:
        """Returns accuracy, hit rate and energy of each model, where known."""
        labelled = self.labels >= 0
        summary: dict[str, dict[str, float]] = {}
        for model, arrays in self.models.items():
            means = summary[model] = {}
            if labelled.any():
                correct = arrays["predicted"] == self.labels
                means["accuracy"] = float(correct[labelled].mean())
            if self.boxes is not None:
                means["hit_rate"] = float(arrays["hit"].mean())
                means["energy"] = float(arrays["energy"].mean())
        return summary

    def box_fraction(self) -> float:
        """Returns the mean fraction of an image that its box covers."""
        y_min, x_min, y_max, x_max = np.asarray(self.boxes).T
        areas = (y_max - y_min) * (x_max - x_min)
        return float(areas.mean() / np.prod(self.images.shape[1:3]))

    def as_json(self) -> dict[str, Any]:
        """Returns everything but the arrays, as plain values."""
        content: dict[str, Any] = {
            "class_names": list(self.class_names) if self.class_names else None,
            "summary": self.summary(),
            "images": [self._image(i) for i in range(len(self.names))],
        }
        if self.boxes is not None:
            content["box_fraction"] = self.box_fraction()
        return content

    def _image(self, number):
        content: dict[str, Any] = {
            "image": self.names[number],
            "true_class": self.true_class(number),
        }
        if self.boxes is not None:
            content["box"] = self.boxes[number].tolist()
        content["models"] = {
            model: self._prediction(arrays, number)
            for model, arrays in self.models.items()
        }
        return content

    def _prediction(self, arrays, number):
        """Returns what a model predicts for an image, and where it looks."""
        content = {
            "class": self.class_name(arrays["explained"][number]),
            "class_index": int(arrays["explained"][number]),
            "probability": float(arrays["probability"][number]),
            "predicted_class": self.class_name(arrays["predicted"][number]),
            "predicted_class_index": int(arrays["predicted"][number]),
            "predicted_probability": float(
                arrays["predicted_probability"][number]
            ),
        }
        if self.boxes is not None:
            content["hit"] = bool(arrays["hit"][number])
            content["energy"] = float(arrays["energy"][number])
        return content

    def arrays(self) -> dict[str, Any]:
        """Returns the arrays of the drawn images, by name."""
        drawn = len(self.images)
        arrays = {
            "images": self.images,
            "names": np.array(self.names[:drawn]),
            "labels": self.labels[:drawn],
        }
        if self.boxes is not None:
            arrays["boxes"] = self.boxes[:drawn]
        for model, own in self.models.items():
            for key, array in own.items():
                arrays[f"{model}/{key}"] = array[:drawn]
        return arrays

    def __str__(self) -> str:
        tables = [self._predictions_table()]
        if any(self.summary().values()):
            tables.append(self._means_table())
        return "\n\n".join(tables)

    def _predictions_table(self):
        known = (self.labels >= 0).any()
        drawn = len(self.images)
        rows = [
            (
                short_name(self.names[i]),
                *([self.true_class(i) or ""] if known else []),
                *(self._cell(arrays, i) for arrays in self.models.values()),
            )
            for i in range(drawn)
        ]
        more = len(self.names) > drawn
        return _terminal.render(
            {
                "image": "left",
                **({"true class": "left"} if known else {}),
                **{model: "left" for model in self.models},
            },
            [rows],
            title="Probability of the explained class"
            + (f", first {drawn} of {len(self.names)} images" if more else ""),
        )

    def _cell(self, arrays, number):
        row = self._prediction(arrays, number)
        text = f"{row['class']} {row['probability']:.1%}"
        if row["predicted_class_index"] != row["class_index"]:
            text += (
                f" (predicts {row['predicted_class']} "
                f"{row['predicted_probability']:.1%})"
            )
        return text

    def _means_table(self):
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
            (model, *(f"{means[key]:.1%}" for key in columns))
            for model, means in summary.items()
        ]
        if self.boxes is not None:
            chance = f"{self.box_fraction():.1%}"
            last = {"hit_rate": chance, "energy": chance}
            rows.append(
                ("uniform heat", *(last.get(key, "") for key in columns))
            )
        return _terminal.render(
            {
                "model": "left",
                **{text: "right" for text in columns.values()},
            },
            [rows],
            title=f"Means over {len(self.names)} images",
        )


def short_name(name: str) -> str:
    """Returns the name of an image with its own folder alone."""
    return "/".join(pathlib.Path(name).parts[-2:])
