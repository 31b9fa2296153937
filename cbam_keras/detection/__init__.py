"""Object detection by KerasHub on networks with attention.

- `pyramid`: `feature_pyramid` and `load_model`.
- `backbone`: `PyramidBackbone`, a class for KerasHub.
- `loading`: `load_data`, which returns a `DetectionData`.
- `records`: images and boxes before batching, checked.
- `scenes`, `coco_folder`, `tfds_objects`: the sources.
- `batches`: batches for `fit`.
- `augmentation`: random changes of images and boxes.
- `comparing`: `compare`, which trains detectors under equal conditions.
- `plan`: its arguments checked, and its defaults.
- `estimating`: `estimate`: how long it takes.
- `networks`: detectors by the name of their backbone.
- `detector`: KerasHub's detector, with what it does wrong worked around.
- `anchors`: anchors chosen from the boxes.
- `evaluation`: mean average precision.
- `folder`: the output folder.
- `results`: `DetectionResults`: rows, a verdict, a table.
- `figure`: detections beside the truth.
"""

from cbam_keras.detection.augmentation import AUGMENTATIONS
from cbam_keras.detection.comparing import compare
from cbam_keras.detection.estimating import estimate
from cbam_keras.detection.loading import EMBEDDED, DetectionData, load_data
from cbam_keras.detection.networks import BACKBONES
from cbam_keras.detection.plan import DEFAULT_RECIPE
from cbam_keras.detection.pyramid import feature_pyramid, load_model
from cbam_keras.detection.results import DetectionResults
from cbam_keras.detection.scenes import overlaps

__all__ = [
    "AUGMENTATIONS",
    "EMBEDDED",
    "DetectionData",
    "DetectionResults",
    "compare",
    "feature_pyramid",
    "load_data",
    "load_model",
]
