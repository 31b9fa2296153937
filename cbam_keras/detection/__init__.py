"""Object detection by KerasHub on networks with attention.

- `pyramid`: `feature_pyramid` and `load_model`.
- `backbone`: `PyramidBackbone`, a class for KerasHub.
"""

from cbam_keras.detection.pyramid import feature_pyramid, load_model

__all__ = ["feature_pyramid", "load_model"]
