"""Detectors by the name of their backbone, compiled for training."""

import functools
import importlib
from typing import Any

import keras
from keras import layers

from cbam_keras import _checks, models, training
from cbam_keras.detection.anchors import Anchors
from cbam_keras.detection.loading import DetectionData
from cbam_keras.detection.pyramid import feature_pyramid

BACKBONES: dict[str, Any] = {
    # Of 0.7 million parameters, for scenes of 64 pixels.
    "small": functools.partial(
        models.ResNet,
        (2, 2, 2),
        block="basic",
        widths=(32, 64, 128),
        stem_width=32,
    ),
    "resnet18": models.ResNet18,
    "resnet34": models.ResNet34,
    "resnet50": models.ResNet50,
    "resnet101": models.ResNet101,
    "resnet152": models.ResNet152,
    "wideresnet18": models.WideResNet18,
    "resnext50": models.ResNeXt50,
    "resnext101": models.ResNeXt101,
    "mobilenet": models.MobileNet,
}
MIN_LEVEL = 3
# The coarsest feature map has at least so many rows and columns.
FEWEST_CELLS = 4
# From this side on the detector is RetinaNet's: levels up to P7, and heads of
# four layers. Below, its heads would be most of the work.
LARGE = 256
MOST_NORM = 10.0
# Detections below this are left out: fewer would cut the curve of precision
# over recall.
CONFIDENCE = 0.05


def build_backbone(name: str, image_shape, attention) -> keras.Model:
    """Returns a network for images in [0, 255] as a backbone."""
    inputs = keras.Input(image_shape, name="images")
    network = BACKBONES[name](
        include_top=False,
        input_tensor=layers.Rescaling(1 / 255, name="rescale")(inputs),
        attention=attention,
    )
    return feature_pyramid(network)


def levels_for(image_shape, backbone: keras.Model) -> tuple[int, int]:
    """Returns the finest and the coarsest level of a detector."""
    side = min(image_shape[:2])
    found = [int(level[1]) for level in backbone.pyramid_outputs]
    if side >= LARGE and max(found) == 5:
        return MIN_LEVEL, 7
    fitting = [
        level
        for level in found
        if level >= MIN_LEVEL and side / 2**level >= FEWEST_CELLS
    ]
    if not fitting:
        raise ValueError(
            f"A detector needs images of {FEWEST_CELLS * 2**MIN_LEVEL} pixels "
            f"or more. Received: images of shape {tuple(image_shape)}"
        )
    return MIN_LEVEL, max(fitting)


def build_detector(
    backbone: str,
    images: DetectionData,
    attention: Any,
    anchors: Anchors,
    recipe: training.Recipe,
) -> keras.Model:
    """Returns a new detector, initialized from the recipe's seed, compiled."""
    keras_hub = _checks.require("keras_hub", extra="detect")
    own = importlib.import_module("cbam_keras.detection.detector")

    def build():
        encoder = build_backbone(backbone, images.image_shape, attention)
        return own.Detector(
            keras_hub.models.RetinaNetBackbone(
                encoder,
                min_level=anchors.min_level,
                max_level=anchors.max_level,
                use_p5=False,
                image_shape=images.image_shape,
            ),
            num_classes=len(images.class_names),
            bounding_box_format="xyxy",
            anchor_generator=anchors.generator(),
            pre_logits_num_conv_layers=(
                4 if min(images.image_shape[:2]) >= LARGE else 0
            ),
            preprocessor=None,
            prediction_decoder=keras_hub.layers.NonMaxSuppression(
                bounding_box_format="xyxy",
                from_logits=True,
                confidence_threshold=CONFIDENCE,
            ),
        )

    detector = training.build_seeded(build, recipe)
    own.initialize_heads(detector, recipe.seed)
    optimizer = recipe.make_optimizer(len(images.train))
    optimizer.global_clipnorm = MOST_NORM
    if any(x.compute_dtype == "float16" for x in detector.backbone.layers):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    detector.compile(
        optimizer,
        **own.losses(len(images.class_names)),
        auto_scale_loss=False,
    )
    return detector
