"""explain."""

from cbam_keras.explain.attention import attention_maps
from cbam_keras.explain.cam import METHODS, grad_cam
from cbam_keras.explain.classes import class_probabilities
from cbam_keras.explain.pointing import pointing_game
