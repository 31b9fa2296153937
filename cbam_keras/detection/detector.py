"""RetinaNet of KerasHub: built on a backbone, initialized, compiled."""

from typing import cast

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.detection.anchors import Anchors
from cbam_keras.detection.loading import DetectionData
from cbam_keras.detection.pyramid import LARGE, build_backbone, import_hub
from cbam_keras.layers import MakeLayer
from cbam_keras.recipes import Recipe

# What a class is given before anything has been learned (Lin et al., 2017).
PRIOR = 0.01
MAX_NORM = 10.0
# Detections below this are left out: a higher one would cut the curve of
# precision over recall.
CONFIDENCE = 0.05


def build_detector(
    backbone: str,
    attention: MakeLayer | None,
    images: DetectionData,
    weights: str | None = None,
    is_frozen: bool = False,
) -> keras.Model:
    """Returns a new detector, with the anchors of the images."""
    keras_hub = _checks.require("keras_hub", extra="detect")
    shape = images.image_shape
    # `Detection.load` has chosen them.
    anchors = cast(Anchors, images.anchors)
    detector = import_hub().Detector(
        keras_hub.models.RetinaNetBackbone(
            build_backbone(backbone, shape, attention, weights, is_frozen),
            min_level=anchors.min_level,
            max_level=anchors.max_level,
            use_p5=False,
            image_shape=shape,
        ),
        num_classes=len(images.class_names),
        bounding_box_format="xyxy",
        anchor_generator=anchors.generator(),
        pre_logits_num_conv_layers=4 if min(shape[:2]) >= LARGE else 0,
        preprocessor=None,
        prediction_decoder=keras_hub.layers.NonMaxSuppression(
            bounding_box_format="xyxy",
            from_logits=True,
            confidence_threshold=CONFIDENCE,
        ),
    )
    _initialize_heads(detector, images.seed)
    return detector


def compile_detector(
    detector: keras.Model, recipe: Recipe, images: DetectionData
) -> None:
    """Compiles a detector, as at the start of each stage of a recipe."""
    optimizer = recipe.make_optimizer(len(images.train))
    optimizer.global_clipnorm = MAX_NORM
    if any(x.compute_dtype == "float16" for x in detector.backbone.layers):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    losses = import_hub().losses(len(images.class_names))
    detector.compile(optimizer, **losses, auto_scale_loss=False)


def _initialize_heads(detector, seed):
    """Initializes the heads as the paper of RetinaNet does.

    KerasHub 0.32.0 puts the prior on the boxes in place of the classes and
    draws all kernels with a deviation of 0.05, from which the loss begins at
    several hundred.
    """
    rng = np.random.default_rng(seed)
    for head, bias in (
        (detector.box_head, 0.0),
        (detector.classification_head, float(np.log(PRIOR / (1 - PRIOR)))),
    ):
        for layer in head.conv_layers:
            deviation = np.sqrt(2 / np.prod(layer.kernel.shape[:-1]))
            layer.kernel.assign(rng.normal(0, deviation, layer.kernel.shape))
        last = head.prediction_layer
        last.kernel.assign(rng.normal(0, 0.01, last.kernel.shape))
        last.bias.assign(np.full(last.bias.shape, bias))
