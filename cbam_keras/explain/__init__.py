"""explain."""

from cbam_keras.explain.cam import (
    METHODS,
    attention_maps,
    class_probabilities,
    grad_cam,
    pointing_game,
)
