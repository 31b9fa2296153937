"""Heat maps and attention maps of Keras models.

- `cam`: Grad-CAM, Grad-CAM++ and HiResCAM.
- `attention`: the gates of every attention layer.
- `classes`: which class, and how probable.
- `pointing`: the fraction of heat inside boxes.
- `targets`: the layer whose features are explained.
- `gradients`: the gradient with respect to a tensor, by backend.
"""

from cbam_keras.explain.attention import attention_maps
from cbam_keras.explain.cam import METHODS, grad_cam
from cbam_keras.explain.classes import class_probabilities
from cbam_keras.explain.pointing import pointing_game

__all__ = [
    "METHODS",
    "attention_maps",
    "class_probabilities",
    "grad_cam",
    "pointing_game",
]
