"""KerasHub's RetinaNet with workarounds, and saved detectors.

Each workaround names the version in which its reason was seen.
"""

import os
import warnings

import keras
import keras_hub
import numpy as np

from cbam_keras import _checks

# Where the loss of a coordinate turns from square to linear.
DELTA = 0.1


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
        box_loss = losses(self.num_classes)["box_loss"]
        config["loss"]["bbox_regression"] = box_loss
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


def losses(classes):
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


def load_detector(path: str | os.PathLike) -> keras.Model:
    """Loads a saved detector or segmenter that holds a `feature_pyramid`.

    `keras.saving.load_model` does the same once `examples.detection` has been
    imported, but warns that KerasHub's tasks are not compiled.

    Args:
        path: Path of a `.keras` file.

    Returns:
        A `keras.Model`. KerasHub's tasks do not load how they were compiled:
        compile it again to train it. A `Detector`, as the example trains them,
        is compiled.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`compile.*was not called")
        warnings.filterwarnings("ignore", "Skipping variable loading")
        return keras.saving.load_model(path)
