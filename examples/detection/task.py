"""`Detection`, the task of a study, and `plan`, which makes the study."""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from cbam_keras import comparison, study
from cbam_keras.comparison import BASELINE, Attentions
from cbam_keras.recipes import Recipe
from examples.detection.detector import (
    build_detector,
    check_backbone,
    compile_detector,
    detect_all,
)
from examples.detection.loading import load
from examples.detection.precision import mean_average_precision


class Detection:
    """Detection of objects, measured by mean average precision.

    `data` and `options` are what `load` takes. See `study.Task`.
    """

    measure = "map"
    measure_name = "mAP@[.5,.95]"
    metrics = ("loss", "cls_logits_loss", "bbox_regression_loss")
    measures = (
        study.Measure(measure, measure_name),
        study.Measure("map50", "mAP@.5"),
        study.Measure("map75", "mAP@.75"),
    )

    def __init__(self, data: str | os.PathLike, **options: Any):
        self.data, self.options = data, options
        # It names the default output folder.
        self.name = pathlib.Path(data).name

    def load(self, recipe):
        return load(self.data, recipe, **self.options)

    def check(self, model, data):
        """Nothing: `build_detector` builds for the data."""

    def compile(self, model, recipe, data):
        compile_detector(model, recipe, data)

    def evaluate(self, model, data):
        truth = [picture.objects for picture in data.test.pictures]
        detections = detect_all(model, data.test)
        return mean_average_precision(truth, detections, len(data.class_names))


def plan(
    attentions: Attentions = comparison.DEFAULT,
    *,
    backbone: str = "small",
    weights: str | None = None,
    data: str | os.PathLike = "digit_scenes",
    recipe: Recipe | None = None,
    seeds: int | Sequence[int] = 1,
    **options: Any,
) -> study.Study:
    """Plans to train detectors on one backbone without and with attention.

    `attentions`, `weights` and `seeds` are as for `comparison.plan`, `data` and
    `options` as for `load`. `backbone` is `"small"` (a ResNet of two basic
    blocks in each of three stages of 32, 64 and 128 channels), `"resnet18"` and
    so on, `"EfficientNetLite0"` or a network of `keras.applications`. `recipe`
    defaults to `default_recipe(weights)`; its `frozen_epochs` are for a
    backbone with weights. Returns a study for `study.run`.
    """
    check_backbone(backbone, weights)
    recipe = recipe or default_recipe(weights)
    layers = comparison.attention_layers(attentions, backbone, None)
    build = functools.partial(
        build_detector,
        backbone=backbone,
        weights=weights,
        is_frozen=weights is not None and recipe.frozen_epochs > 0,
    )
    return study.Study(
        task=Detection(data, **options),
        variants=[
            study.Variant(
                name,
                functools.partial(build, attention=attention),
                attention.options if attention else {},
            )
            for name, attention in layers.items()
        ],
        seeds=seeds,
        recipe=recipe,
        baseline=BASELINE if BASELINE in layers else None,
        settings={"model": backbone, "weights": weights},
        check=functools.partial(build, attention=None),
    )


def default_recipe(weights: str | None = None) -> Recipe:
    """Returns the recipe for a backbone with weights or not.

    At this rate a backbone would forget what it knows, so that three of the
    epochs train only what is new.
    """
    frozen = 0 if weights is None else 3
    return Recipe(
        frozen_epochs=frozen,
        epochs=12 - frozen,
        batch_size=16,
        learning_rate=2e-3,
    )
