"""Detectors by the name of their backbone: built, and compiled."""

import functools
from typing import Any

import keras
from keras import layers

from cbam_keras import _checks, models
from cbam_keras.detection.loading import DetectionData
from cbam_keras.detection.pyramid import feature_pyramid
from cbam_keras.recipes import Recipe

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
MIN_CELLS = 4
# From this side on the detector is RetinaNet's: levels up to P7, and heads of
# four layers. Below, its heads would be most of the work.
LARGE = 256
MAX_NORM = 10.0
# Detections below this are left out: a higher one would cut the curve of
# precision over recall.
CONFIDENCE = 0.05


def build_backbone(name: str, image_shape: Any, attention: Any) -> keras.Model:
    """Returns a network for images in [0, 255] as a backbone."""
    inputs = keras.Input(image_shape, name="images")
    network = BACKBONES[name](
        include_top=False,
        input_tensor=layers.Rescaling(1 / 255, name="rescale")(inputs),
        attention=attention,
    )
    return feature_pyramid(network)


def levels_for(name: str, image_shape: Any) -> tuple[int, int]:
    """Returns the finest and the coarsest level of a detector."""
    side = min(image_shape[:2])
    backbone = build_backbone(name, image_shape, None)
    levels = [int(level[1]) for level in backbone.pyramid_outputs]
    if side >= LARGE and max(levels) == 5:
        return MIN_LEVEL, 7
    fitting = [
        level
        for level in levels
        if level >= MIN_LEVEL and side / 2**level >= MIN_CELLS
    ]
    if not fitting:
        raise ValueError(
            f"A detector needs images of {MIN_CELLS * 2**MIN_LEVEL} pixels "
            f"or more. Received: images of shape {tuple(image_shape)}"
        )
    return MIN_LEVEL, max(fitting)


def build_detector(
    backbone: str, attention: Any, images: DetectionData
) -> keras.Model:
    """Returns a new detector with the anchors of these images.

    Args:
        backbone: String, a key of `BACKBONES`.
        attention: What `attention=` of a network takes.
        images: A `DetectionData` with anchors.
    """
    keras_hub = _checks.require("keras_hub", extra="detect")
    from cbam_keras.detection.detector import Detector

    shape = images.image_shape
    anchors: Any = images.anchors
    return Detector(
        keras_hub.models.RetinaNetBackbone(
            build_backbone(backbone, shape, attention),
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


def compile_detector(
    detector: Any, recipe: Recipe, images: DetectionData
) -> None:
    """Initializes the heads from the recipe's seed, and compiles."""
    from cbam_keras.detection.detector import initialize_heads, losses

    initialize_heads(detector, recipe.seed)
    optimizer = recipe.make_optimizer(len(images.train))
    optimizer.global_clipnorm = MAX_NORM
    if any(x.compute_dtype == "float16" for x in detector.backbone.layers):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    detector.compile(
        optimizer, **losses(len(images.class_names)), auto_scale_loss=False
    )
