"""RetinaNet of KerasHub on a network with attention: built, compiled, used."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable

import keras
import keras_hub
import numpy as np

from cbam_keras import _checks, models
from cbam_keras._terminal import show_progress
from cbam_keras.layers import MakeLayer
from examples.detection.data import DetectionData
from examples.detection.pictures import Batches, Picture, overlaps, scale_of
from examples.detection.pyramid import feature_pyramid
from examples.detection.retinanet import Detector

BACKBONES: dict[str, Callable[..., keras.Model]] = {
    # It has 0.7 million parameters, for scenes of 64 pixels.
    "small": functools.partial(
        models.ResNet,
        (2, 2, 2),
        block="basic",
        widths=(32, 64, 128),
        stem_width=32,
    ),
    **models.BUILDERS,
}
# Images of this side or more get RetinaNet's own detector: levels up to P7, and
# heads of four layers, which would be most of the work for smaller images.
LARGE = 256
# The finest level of a detector, and how many rows and columns the coarsest
# one has at least.
MIN_LEVEL, MIN_CELLS = 3, 4
# Each class has this probability before anything is learned (Lin et al., 2017).
PRIOR = 0.01
# Detections below this are left out: a higher one would cut the curve of
# precision over recall.
CONFIDENCE = 0.05
# An anchor learns boxes that it overlaps by this, as RetinaNet.
POSITIVE = 0.5
# Below this fraction of boxes with such an anchor, users are warned.
MIN_COVERAGE = 0.9
# These sizes of an anchor are tried, in strides of its level.
FACTORS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
# These fractions of the boxes may be narrower than the narrowest shape, and
# wider than the widest.
TAILS = (0.02, 0.05, 0.1, 1 / 6)
# The fit is measured on so many boxes, evenly spaced.
MAX_BOXES = 500


def build_detector(
    data: DetectionData,
    backbone: str,
    attention: MakeLayer | None,
    weights: str | None = None,
    is_frozen: bool = False,
) -> keras.Model:
    """Returns a new detector, with anchors for the training boxes."""
    shape = data.image_shape
    if backbone in models.PRETRAINED:
        network = models.pretrained(
            backbone, weights, shape, attention, is_frozen
        )
    else:
        inputs = keras.Input(shape, name="images")
        scaled = keras.layers.Rescaling(1 / 255, name="rescale")(inputs)
        network = BACKBONES[backbone](
            include_top=False, input_tensor=scaled, attention=attention
        )
    encoder = feature_pyramid(network)
    max_level = _coarsest_level(encoder, shape)
    # What follows the coarsest level would be counted and never be trained.
    levels = {
        level: layer
        for level, layer in encoder.levels.items()
        if MIN_LEVEL <= int(level[1]) <= max_level
    }
    encoder = feature_pyramid(network, levels)
    detector = Detector(
        keras_hub.models.RetinaNetBackbone(
            encoder,
            min_level=MIN_LEVEL,
            max_level=max_level,
            use_p5=False,
            image_shape=shape,
        ),
        num_classes=len(data.class_names),
        bounding_box_format="xyxy",
        anchor_generator=keras_hub.layers.AnchorGenerator(
            "xyxy", **choose_anchors(data.train, MIN_LEVEL, max_level)
        ),
        pre_logits_num_conv_layers=4 if min(shape[:2]) >= LARGE else 0,
        preprocessor=None,
        prediction_decoder=keras_hub.layers.NonMaxSuppression(
            bounding_box_format="xyxy",
            from_logits=True,
            confidence_threshold=CONFIDENCE,
        ),
    )
    _initialize_heads(detector, data.train.seed)
    return detector


# All networks of a seed have the same anchors.
@functools.lru_cache(maxsize=1)
def choose_anchors(
    batches: Batches, min_level: int, max_level: int
) -> dict[str, object]:
    """Returns arguments of `AnchorGenerator` that cover most boxes.

    KerasHub's own cover less than half of the digits in the scenes. Warns if
    few boxes are covered.
    """
    height, width = batches.size
    boxes = np.concatenate(batches.boxes) * scale_of(batches.size)
    rows = np.linspace(0, len(boxes) - 1, min(len(boxes), MAX_BOXES))
    boxes = boxes[rows.astype(int)]
    widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
    candidates = []
    for tail, factor in itertools.product(TAILS, FACTORS):
        quantiles = np.quantile(heights / widths, [tail, 0.5, 1 - tail])
        arguments = {
            "min_level": min_level,
            "max_level": max_level,
            "num_scales": 3,
            # Heights over widths.
            "aspect_ratios": [round(float(ratio), 2) for ratio in quantiles],
            "anchor_size": factor,
        }
        generator = keras_hub.layers.AnchorGenerator("xyxy", **arguments)
        levels = generator(np.zeros((1, height, width, 1), "float32"))
        tiles = keras.ops.concatenate(list(levels.values()))
        tiles = keras.ops.convert_to_numpy(tiles)
        # Parts of the boxes need less memory than all at once.
        parts = np.array_split(boxes, 10)
        best = np.concatenate([overlaps(x, tiles).max(axis=1) for x in parts])
        coverage = float((best >= POSITIVE).mean())
        # Several anchors cover nearly as many; those that fit best win.
        fit = round(coverage, 2), float(best.mean())
        candidates.append((fit, coverage, arguments))
    _, coverage, arguments = max(candidates, key=lambda candidate: candidate[0])
    if coverage < MIN_COVERAGE:
        _checks.warn(
            f"Only {coverage:.0%} of the boxes overlap an anchor by {POSITIVE} "
            "or more, and the others are hardly learned. They may be too small "
            f"for images of {height} x {width} pixels: pass a larger image_size"
        )
    return arguments


def detect_all(detector: keras.Model, batches: Batches) -> list[Picture]:
    """Returns the pictures with what is detected in place of the truth."""
    detected = []
    count = len(batches.pictures)
    starts = range(0, count, batches.batch_size)
    for start in show_progress(starts, len(starts), "Detecting"):
        # The last batch is filled, so that all have one shape.
        rows = np.arange(start, start + batches.batch_size) % count
        outputs = detector.detect(batches.images(rows))
        for number, row in enumerate(rows):
            picture = batches.pictures[row]
            scale = scale_of(picture.size) / scale_of(batches.size)
            is_object = outputs["labels"][number] >= 0
            detected.append(
                dataclasses.replace(
                    picture,
                    boxes=outputs["boxes"][number][is_object] * scale,
                    labels=outputs["labels"][number][is_object],
                    scores=outputs["confidence"][number][is_object],
                )
            )
    return detected[:count]


def _coarsest_level(encoder, image_shape):
    """Returns the coarsest level of a detector."""
    side = min(image_shape[:2])
    coarsest = max(int(level[1]) for level in encoder.pyramid_outputs)
    if side >= LARGE and coarsest == 5:
        return 7
    if side < MIN_CELLS * 2**MIN_LEVEL:
        raise ValueError(
            f"A detector needs images of {MIN_CELLS * 2**MIN_LEVEL} pixels "
            f"or more. Received: images of shape {image_shape}"
        )
    return min(coarsest, int(math.log2(side / MIN_CELLS)))


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
