"""`Detection`, the task of a study, and `plan`, which makes the study."""

import contextlib
import functools
import io
import os
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cbam_keras import comparison, study
from cbam_keras.comparison import BASELINE, Attentions
from cbam_keras.recipes import Recipe
from examples.detection.detector import (
    build_detector,
    check_backbone,
    compile_detector,
    detect_all,
)
from examples.detection.loading import load, name_of
from examples.detection.pictures import Object

# The first of what COCO measures, in its order: over intersections over union
# from 0.5 to 0.95, at 0.5 (as VOC) and at 0.75.
MEASURES = (
    study.Measure("map", "mAP@[.5,.95]"),
    study.Measure("map50", "mAP@.5"),
    study.Measure("map75", "mAP@.75"),
)


class Detection:
    """Detection of objects, measured by mean average precision.

    `data` and `options` are what `load` takes. See `study.Task`.
    """

    measure, measure_name = MEASURES[0].key, MEASURES[0].heading
    metrics = ("loss", "cls_logits_loss", "bbox_regression_loss")
    measures = MEASURES

    def __init__(self, data: str | os.PathLike, **options: Any):
        self.data, self.options = data, options
        # It names the default output folder.
        self.name = name_of(data)

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
        seeds=study.check_seeds(seeds),
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


def mean_average_precision(
    truth: Sequence[Sequence[Object]],
    detections: Sequence[Sequence[Object]],
    classes: int,
) -> dict[str, float]:
    """Returns the measures of the detections in each image."""
    # pycocotools prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        truth, detections = (
            _as_coco(truth, classes),
            _as_coco(detections, classes),
        )
        evaluation = COCOeval(truth, detections, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    keys = [measure.key for measure in MEASURES]
    return dict(zip(keys, map(float, evaluation.stats), strict=False))


def _as_coco(objects_of_images, classes):
    """Returns the objects in each image as pycocotools has them."""
    annotations = []
    for image, objects in enumerate(objects_of_images):
        for label, (left, top, right, bottom), confidence, _ in objects:
            width, height = float(right - left), float(bottom - top)
            annotations.append(
                {
                    # Ids begin at 1, since 0 would count as no match.
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": [float(left), float(top), width, height],
                    "area": width * height,
                    "iscrowd": int(confidence == 0),
                    "score": confidence,
                }
            )
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(len(objects_of_images))],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
