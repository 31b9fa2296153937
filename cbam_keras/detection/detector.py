"""KerasHub's RetinaNet on our networks, with workarounds and anchors.

Imported late, since it subclasses classes of KerasHub. Each workaround names
the version in which its reason was seen.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import keras
import keras_hub
import numpy as np

from cbam_keras import _checks
from cbam_keras.detection.batches import Examples, overlaps, scale_of
from cbam_keras.detection.loading import DetectionData
from cbam_keras.detection.pyramid import LARGE, build_backbone
from cbam_keras.recipes import Recipe

# What a class is given before anything has been learned (Lin et al., 2017).
PRIOR = 0.01
# Where the loss of a coordinate turns from square to linear.
DELTA = 0.1
MAX_NORM = 10.0
# Detections below this are left out: a higher one would cut the curve of
# precision over recall.
CONFIDENCE = 0.05

# An anchor learns boxes that it overlaps by this, as RetinaNet.
POSITIVE = 0.5
# Below this fraction of boxes with such an anchor, users are warned.
MIN_COVERAGE = 0.9
SCALES = 3
# Sizes of an anchor that are tried, in strides of its level.
FACTORS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
# Fractions of the boxes that are narrower than the narrowest shape, and wider
# than the widest.
TAILS = (0.02, 0.05, 0.1, 1 / 6)
# Boxes that are looked at, evenly spaced.
MAX_BOXES = 500


@keras.saving.register_keras_serializable(package="cbam_keras")
class PyramidBackbone(keras_hub.models.FeaturePyramidBackbone):
    """Network with `pyramid_outputs`; see `detection.feature_pyramid`."""

    def __init__(self, network, levels: Mapping[str, str], **kwargs):
        if isinstance(network, dict):
            network = keras.saving.deserialize_keras_object(network)
        maps = {
            level: network.get_layer(levels[level]).output
            for level in sorted(levels)
        }
        super().__init__(
            inputs=network.inputs[0], outputs=maps[max(maps)], **kwargs
        )
        self.network = network
        self.levels = dict(levels)
        # What KerasHub's tasks read.
        self.image_shape = tuple(network.inputs[0].shape[1:])
        self.pyramid_outputs = maps

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "levels": self.levels,
        }


@keras.saving.register_keras_serializable(package="cbam_keras")
class Detector(keras_hub.models.RetinaNetObjectDetector):
    """KerasHub's `RetinaNetObjectDetector`; see there for the arguments."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # KerasHub 0.32.0 rounds boxes in half precision, those of several
        # hundred pixels by up to two.
        self.label_encoder.dtype_policy = "float32"
        self.prediction_decoder.dtype_policy = "float32"

    def fit(self, *args, **kwargs):
        # KerasHub's takes no `PyDataset` (0.32.0).
        return keras.Model.fit(self, *args, **kwargs)

    def compile_from_config(self, config):
        # KerasHub 0.32.0 does not compile a loaded detector, so that the
        # state of the optimizer is lost.
        config = keras.saving.deserialize_keras_object(config)
        # Keras 3.15.1 does not save `delta`.
        losses = _losses(self.num_classes)
        config["loss"]["bbox_regression"] = losses["box_loss"]
        keras.Model.compile(self, **config)
        self.optimizer.build(self.trainable_variables)

    def detect(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns boxes as `"xyxy"`, labels and confidence of a batch.

        In place of `predict`, with which KerasHub 0.32.0 fails under
        TensorFlow as soon as it sees a second batch size. No detection has
        the label -1.
        """
        images = keras.ops.convert_to_numpy(images)
        if images.max(initial=0) <= 1 and images.any():
            _checks.warn(
                "`images` must be in [0, 255], as in training. Received: "
                f"images of at most {images.max():g}"
            )
        outputs = {
            # Decoding multiplies them by float32.
            key: keras.ops.cast(output, "float32")
            for key, output in self(images, training=False).items()
        }
        decoded = self.decode_predictions(outputs, images)
        return {
            key: keras.ops.convert_to_numpy(decoded[key])
            for key in ("boxes", "labels", "confidence")
        }


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Arguments of KerasHub's `AnchorGenerator`, and what they cover."""

    min_level: int
    max_level: int
    # In strides, and heights over widths.
    anchor_size: float
    aspect_ratios: tuple[float, ...]
    # The fraction of boxes that overlap an anchor by one half.
    coverage: float = 0.0

    def __str__(self) -> str:
        shapes = ", ".join(f"{ratio:g}" for ratio in self.aspect_ratios)
        return (
            f"Anchors on levels P{self.min_level} to P{self.max_level}, of "
            f"{self.anchor_size:g} strides, height over width {shapes}: "
            f"{self.coverage:.1%} of the boxes overlap one by {POSITIVE} or "
            "more"
        )

    def generator(self) -> Any:
        """Returns KerasHub's layer."""
        return keras_hub.layers.AnchorGenerator(
            "xyxy",
            min_level=self.min_level,
            max_level=self.max_level,
            num_scales=SCALES,
            aspect_ratios=list(self.aspect_ratios),
            anchor_size=self.anchor_size,
        )


def choose_anchors(
    examples: Examples, size: tuple[int, int], min_level: int, max_level: int
) -> Anchors:
    """Returns the anchors that cover most boxes; warns if they are few."""
    boxes = examples.learned["box"] * scale_of(size)
    rows = np.linspace(0, len(boxes) - 1, min(len(boxes), MAX_BOXES))
    boxes = boxes[rows.astype(int)]
    widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
    tried = []
    for tail, factor in itertools.product(TAILS, FACTORS):
        quantiles = np.quantile(heights / widths, [tail, 0.5, 1 - tail])
        ratios = tuple(round(float(ratio), 2) for ratio in quantiles)
        anchors = Anchors(min_level, max_level, factor, ratios)
        levels = anchors.generator()(np.zeros((1, *size, 1), "float32"))
        tiles = np.concatenate([np.asarray(level) for level in levels.values()])
        # In parts, which need less memory.
        parts = np.array_split(boxes, 10)
        best = np.concatenate([overlaps(p, tiles).max(axis=1) for p in parts])
        coverage = float((best >= POSITIVE).mean())
        anchors = dataclasses.replace(anchors, coverage=coverage)
        # Of those that cover nearly as many, the ones that fit best.
        tried.append(((round(coverage, 2), float(best.mean())), anchors))
    _, chosen = max(tried, key=lambda pair: pair[0])
    if chosen.coverage < MIN_COVERAGE:
        _checks.warn(
            f"Only {chosen.coverage:.0%} of the boxes overlap an anchor by "
            f"{POSITIVE} or more, and the others are hardly learned. They may "
            f"be too small for images of {size[0]} x {size[1]} pixels: pass a "
            "larger image_size"
        )
    return chosen


def build_detector(
    backbone: str, attention: Any, images: DetectionData
) -> Detector:
    """Returns a new detector, with the anchors of the images."""
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
    detector: Detector, recipe: Recipe, images: DetectionData
) -> None:
    """Initializes the heads from the recipe's seed, and compiles."""
    _initialize_heads(detector, recipe.seed)
    optimizer = recipe.make_optimizer(len(images.train))
    optimizer.global_clipnorm = MAX_NORM
    if any(x.compute_dtype == "float16" for x in detector.backbone.layers):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    detector.compile(
        optimizer, **_losses(len(images.class_names)), auto_scale_loss=False
    )


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


def _losses(classes):
    """Returns the losses for `compile`, summed as in the paper of RetinaNet.

    Keras' losses are means over the classes and over the four coordinates,
    and Huber's loss over `delta` is smooth L1.
    """
    return {
        "box_loss": keras.losses.Huber(delta=DELTA, reduction="sum"),
        "loss_weights": {
            "bbox_regression": 4 / DELTA,
            "cls_logits": float(classes),
        },
    }
