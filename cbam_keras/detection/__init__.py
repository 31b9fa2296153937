"""Object detection by KerasHub on networks with attention.

- `pyramid`: `feature_pyramid` and `load_model`.
- `backbone`: `PyramidBackbone`, a class for KerasHub.
- `loading`: `load_data`, which returns a `DetectionData`.
- `records`: images and boxes before batching, checked.
- `scenes`, `coco_folder`, `tfds_objects`: the sources.
- `batches`: batches for `fit`.
- `augmentation`: random changes of images and boxes.
"""

from cbam_keras.detection.augmentation import AUGMENTATIONS
from cbam_keras.detection.loading import EMBEDDED, DetectionData, load_data
from cbam_keras.detection.pyramid import feature_pyramid, load_model

__all__ = [
    "AUGMENTATIONS",
    "EMBEDDED",
    "DetectionData",
    "feature_pyramid",
    "load_data",
    "load_model",
]
