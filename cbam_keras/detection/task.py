"""`Detection`: the task of a study of detectors."""

import dataclasses
import os
from typing import Any

import keras

from cbam_keras import _checks
from cbam_keras.detection.anchors import choose_anchors
from cbam_keras.detection.evaluation import detect_all, evaluate
from cbam_keras.detection.loading import DetectionData, dataset_name, load_data
from cbam_keras.detection.networks import (
    BACKBONES,
    compile_detector,
    levels_for,
)
from cbam_keras.recipes import Recipe

# Arguments of `load_data` that a recipe decides.
BY_RECIPE = ("batch_size", "seed", "augment", "image_size")


class Detection:
    """Detection of objects, measured by mean average precision.

    Args:
        data: What `detection.load_data` takes.
        backbone: String, see `detection.compare`. It decides the levels that
            have anchors.
        **options: Further arguments of `load_data`, as `download=True`,
            except those that a recipe decides.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If KerasHub or pycocotools is missing.
    """

    measure = "map"
    measure_name = "mAP@[.5,.95]"
    metrics = ("loss", "cls_logits_loss", "bbox_regression_loss")

    def __init__(
        self, data: str | os.PathLike, backbone: str = "small", **options: Any
    ):
        self.name = dataset_name(data)
        self.data = data
        self.backbone = _checks.one_of("backbone", backbone, BACKBONES)
        self.options = options
        for key in BY_RECIPE:
            if key in options:
                raise ValueError(
                    f"`{key}` is an option of the recipe, not of the data. "
                    f"Received: data_options={options!r}"
                )
        # Needed only later, but checked before any work.
        for module in ("keras_hub", "pycocotools.cocoeval"):
            _checks.require(module, extra="detect")
        # Of the last seed.
        self.loaded: DetectionData | None = None

    def __getstate__(self):
        # Each process loads the data itself.
        return {**vars(self), "loaded": None}

    def load(self, recipe: Recipe) -> DetectionData:
        by_recipe = {name: getattr(recipe, name) for name in BY_RECIPE}
        loaded = load_data(self.data, **by_recipe, **self.options)
        shape = loaded.image_shape
        anchors = choose_anchors(
            loaded.train.records, shape[:2], *levels_for(self.backbone, shape)
        )
        self.loaded = dataclasses.replace(loaded, anchors=anchors)
        return self.loaded

    def check(self, model: keras.Model, data: DetectionData) -> None:
        classes = len(data.class_names)
        if getattr(model, "num_classes", None) != classes:
            raise ValueError(
                f'A network for the dataset "{data.name}" must be a detector '
                f"of {classes} classes, on a KerasHub backbone. Received: "
                f"{model!r}"
            )

    def compile(
        self, model: keras.Model, recipe: Recipe, data: DetectionData
    ) -> None:
        compile_detector(model, recipe, data)

    def evaluate(
        self, model: keras.Model, data: DetectionData
    ) -> dict[str, float | None]:
        records = data.test.records
        return evaluate(
            records, detect_all(model, data.test), len(data.class_names)
        )
