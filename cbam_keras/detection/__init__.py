"""Object detection by KerasHub on networks with attention.

- `pyramid`: `feature_pyramid` and `load_model`.
- `detector`: subclasses of KerasHub's classes, with workarounds.
- `networks`: detectors by the name of their backbone.
- `loading`: `load_data`, which returns a `DetectionData`.
- `sources`: scenes of digits, folders as COCO's, TensorFlow Datasets.
- `records`: images and boxes before batching, checked.
- `batches`: batches for `fit`, and their augmentation.
- `anchors`: anchors chosen from the boxes.
- `evaluation`: mean average precision.
- `task`: `Detection`, the task of a study.
- `compare`: `compare`, which trains detectors alike, and `estimate`.
- `results`: `DetectionResults`: rows, a verdict, a table.
- `figure`: detections beside the truth.
"""

from cbam_keras.detection.batches import AUGMENTATIONS
from cbam_keras.detection.compare import DEFAULT_RECIPE, compare, estimate
from cbam_keras.detection.loading import EMBEDDED, DetectionData, load_data
from cbam_keras.detection.networks import BACKBONES
from cbam_keras.detection.pyramid import feature_pyramid, load_model
from cbam_keras.detection.records import overlaps
from cbam_keras.detection.results import DetectionResults
from cbam_keras.detection.task import Detection

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
