"""Object detection by KerasHub, which it needs, on networks with attention.

- `hub`: KerasHub's backbone and detector with workarounds, imported late.
- `pyramid`: `feature_pyramid`, `load_model`, backbones by name.
- `anchors`: anchors chosen by the boxes of a dataset.
- `detector`: detectors built and compiled.
- `loading`: `load_data`: scenes, folders, TensorFlow Datasets.
- `folders`: folders in the layouts of COCO and of Pascal VOC.
- `scenes`: the embedded scenes of digits.
- `batches`: images with objects, and augmented batches of them.
- `evaluation`: mean average precision, and a figure of detections.
- `compare`: `plan`, `compare`, `estimate`, and the task `Detection`.
"""

from cbam_keras.detection.batches import AUGMENTATIONS
from cbam_keras.detection.compare import (
    Detection,
    compare,
    default_recipe,
    estimate,
    plan,
)
from cbam_keras.detection.loading import EMBEDDED, DetectionData, load_data
from cbam_keras.detection.pyramid import (
    BACKBONES,
    feature_pyramid,
    load_model,
)

__all__ = [
    "compare",
    "plan",
    "load_data",
    "feature_pyramid",
    "load_model",
    "DetectionData",
    "AUGMENTATIONS",
    "EMBEDDED",
]
