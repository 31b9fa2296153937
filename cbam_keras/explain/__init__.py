"""Grad-CAM and attention maps: what networks look at.

- `cam`: Grad-CAM and HiResCAM.
- `attention`: the attention maps of every layer.
- `classes`: class probabilities, and the class that is explained.
- `targets`: the feature map that is explained.
- `gradients`: the gradient at an intermediate tensor, on each backend.
- `figures/`: the maps as figures.
"""

from cbam_keras.explain.attention import attention_maps
from cbam_keras.explain.cam import grad_cam
from cbam_keras.explain.classes import class_probabilities
from cbam_keras.explain.gradients import gradient_at

__all__ = ["grad_cam", "attention_maps", "class_probabilities"]


def __dir__() -> list[str]:
    return __all__
