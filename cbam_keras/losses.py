"""A loss and a metric for masks, a class for each pixel, that Keras lacks."""

from cbam_keras.models.losses import PixelCrossentropy, PixelIoU

__all__ = ["PixelCrossentropy", "PixelIoU"]


def __dir__() -> list[str]:
    return __all__
