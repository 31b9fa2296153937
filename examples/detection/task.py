"""`Detection`, the task of a study, and `plan`, which makes the study."""

import contextlib
import functools
import io
import os
from collections.abc import Sequence
from typing import Any

import keras
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cbam_keras import _checks, models, study
from cbam_keras.layers import attention_layers
from cbam_keras.study import Recipe, comparison
from examples.detection.data import load, name_of
from examples.detection.detector import (
    BACKBONES,
    build_detector,
    detect_all,
)
from examples.detection.pictures import Picture
from examples.detection.retinanet import losses

# The first of what COCO measures, in its order: over intersections over union
# from 0.5 to 0.95, at 0.5 (as VOC) and at 0.75.
MEASURES = (
    study.Measure("map", "mAP@[.5,.95]"),
    study.Measure("map50", "mAP@.5"),
    study.Measure("map75", "mAP@.75"),
)
# Recipes by the weights of the backbone. Pretrained ones would be forgotten at
# this rate, so three of the epochs train only what is new.
RECIPES = {
    None: Recipe(epochs=12, batch_size=16, learning_rate=2e-3),
    "imagenet": Recipe(
        frozen_epochs=3, epochs=9, batch_size=16, learning_rate=2e-3
    ),
}


class Detection(study.Task):
    """Detection of objects, measured by mean average precision.

    `data` and `options` are what `load` takes. See `study.Task`.
    """

    measure, measure_name = MEASURES[0].key, MEASURES[0].heading
    metrics = ("loss", "cls_logits_loss", "bbox_regression_loss")
    measures = MEASURES
    # It names the default output folder.
    name = None

    def __init__(self, data: str | os.PathLike, **options: Any):
        self.data, self.options = data, options
        self.name = name_of(data)

    def load(self, recipe):
        return load(self.data, recipe, **self.options)

    def check(self, model, data):
        """Nothing: `build_detector` builds for the data."""

    def compile(self, model, recipe, data):
        optimizer = recipe.make_optimizer(len(data.train))
        optimizer.global_clipnorm = 10.0
        if any(x.compute_dtype == "float16" for x in model.backbone.layers):
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        sums = losses(len(data.class_names))
        model.compile(optimizer, **sums, auto_scale_loss=False)

    def evaluate(self, model, data):
        return mean_average_precision(
            data.test.pictures,
            detect_all(model, data.test),
            classes=len(data.class_names),
        )


def plan(
    attentions: comparison.Attentions = comparison.DEFAULT,
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
    defaults to one of `RECIPES`; its `frozen_epochs` are for a backbone with
    weights. Returns a study for `study.run`.
    """
    _checks.one_of("weights", weights, RECIPES)
    random = BACKBONES if weights is None else ()
    _checks.one_of("backbone", backbone, [*random, *models.PRETRAINED])
    recipe = recipe or RECIPES[weights]
    layers = attention_layers(attentions)
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
                attention.arguments if attention else {},
            )
            for name, attention in layers.items()
        ],
        seeds=study.check_seeds(seeds),
        recipe=recipe,
        baseline="none" if "none" in layers else None,
        settings={"model": backbone, "weights": weights},
    )


def mean_average_precision(
    truth: Sequence[Picture], detected: Sequence[Picture], classes: int
) -> dict[str, float]:
    """Returns the measures of what is detected in each image."""
    # pycocotools prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        truth, detected = _as_coco(truth, classes), _as_coco(detected, classes)
        evaluation = COCOeval(truth, detected, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    keys = [measure.key for measure in MEASURES]
    return dict(zip(keys, map(float, evaluation.stats), strict=False))


def _as_coco(pictures, classes):
    """Returns the objects in each image as pycocotools has them."""
    annotations = []
    for image, picture in enumerate(pictures):
        objects = picture.boxes, picture.labels, picture.scores
        for box, label, score in zip(*objects, strict=True):
            width, height = map(float, box[2:] - box[:2])
            annotations.append(
                {
                    # Ids begin at 1, since 0 would count as no match.
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": [float(box[0]), float(box[1]), width, height],
                    "area": width * height,
                    "iscrowd": int(score == 0),
                    "score": float(score),
                }
            )
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(len(pictures))],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
