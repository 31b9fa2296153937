"""CBAM for Keras: attention layers, networks that carry them, and tools."""

from cbam_keras.layers import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
)

__version__ = "0.1.0"

__all__ = [
    "CBAM",
    "VARIANTS",
    "ChannelAttention",
    "SpatialAttention",
    "SqueezeExcite",
]
