"""`PyramidBackbone` and `Detector`: KerasHub's classes, as we need them.

Imported late, since they subclass classes of KerasHub. Each workaround names
the version in which its reason was seen.
"""

from collections.abc import Mapping
from typing import Any

import keras
import keras_hub
import numpy as np

# What a class is given before anything has been learned (Lin et al., 2017).
PRIOR = 0.01
# Where the loss of a coordinate turns from square to linear.
DELTA = 0.1


@keras.saving.register_keras_serializable(package="cbam_keras")
class PyramidBackbone(keras_hub.models.FeaturePyramidBackbone):
    """Network with `pyramid_outputs`; see `detection.feature_pyramid`.

    Its config holds the network itself, so that it can be loaded whatever the
    network is made of.

    Args:
        network: Functional `keras.Model` that takes images.
        levels: Mapping of `"P3"` and so on to names of its layers.
        dtype: See `keras.Model`. Defaults to `None`.
        **kwargs: See `keras.Model`.
    """

    def __init__(
        self,
        network: keras.Model,
        levels: Mapping[str, str],
        dtype=None,
        **kwargs,
    ):
        maps = {
            level: network.get_layer(levels[level]).output
            for level in sorted(levels)
        }
        super().__init__(
            inputs=network.inputs[0],
            outputs=maps[max(maps)],
            dtype=dtype,
            **kwargs,
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

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["network"], dict):
            config["network"] = keras.saving.deserialize_keras_object(
                config["network"]
            )
        return cls(**config)


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
        # KerasHub 0.32.0 turns what it gets into a `tf.data.Dataset`, also
        # where TensorFlow is not the backend, and takes no `PyDataset`.
        return keras.Model.fit(self, *args, **kwargs)

    def compile_from_config(self, config):
        # KerasHub 0.32.0 does not compile a loaded detector, so that the
        # state of the optimizer is lost.
        config = keras.saving.deserialize_keras_object(config)
        # Keras 3.15.1 does not save `delta`.
        config["loss"]["bbox_regression"] = losses(self.num_classes)["box_loss"]
        keras.Model.compile(self, **config)
        self.optimizer.build(self.trainable_variables)

    def detect(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns boxes as `"xyxy"`, labels and confidence of a batch.

        In place of `predict`: KerasHub 0.32.0 under TensorFlow fails as soon
        as it sees a second batch size.
        """
        outputs = keras.tree.map_structure(
            # Decoding multiplies them by float32.
            lambda x: keras.ops.cast(x, "float32"),
            self(images, training=False),
        )
        decoded = self.decode_predictions(outputs, images)
        # Suppression leaves boxes of no detection at -1.
        return keras.tree.map_structure(
            keras.ops.convert_to_numpy,
            {key: decoded[key] for key in ("boxes", "labels", "confidence")},
        )


def initialize_heads(detector: Detector, seed: int) -> None:
    """Initializes the heads as the paper of RetinaNet does.

    KerasHub 0.32.0 puts the prior on the boxes in place of the classes and
    draws all kernels with a deviation of 0.05, from which the loss begins at
    several hundred.
    """
    rng = np.random.default_rng(seed)
    biases = {
        detector.box_head: 0.0,
        detector.classification_head: float(np.log(PRIOR / (1 - PRIOR))),
    }
    for head, bias in biases.items():
        for layer in [*head.conv_layers, head.prediction_layer]:
            last = layer is head.prediction_layer
            deviation = 0.01
            if not last:
                deviation = np.sqrt(2 / np.prod(layer.kernel.shape[:-1]))
            layer.kernel.assign(rng.normal(0, deviation, layer.kernel.shape))
            layer.bias.assign(np.full(layer.bias.shape, bias if last else 0.0))


def losses(classes: int) -> dict[str, Any]:
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
