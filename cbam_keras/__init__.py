"""CBAM for Keras: attention layers, networks that carry them, and tools."""

import importlib

# Registers the optimizer, so that networks trained with it load.
from cbam_keras import _optimizer  # noqa: F401
from cbam_keras.convert import load_torch_weights
from cbam_keras.insertion import insert_attention
from cbam_keras.layers import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
)
from cbam_keras.monitor import AttentionMonitor
from cbam_keras.profiling import profile_model

# Reached as `cbam_keras.explain` too, and imported when they are.
_MODULES = {
    "ablation",
    "blocks",
    "comparison",
    "data",
    "explain",
    "layers",
    "models",
    "plotting",
    "presets",
    "profiling",
    "reproduction",
    "training",
    "tuning",
}

__version__ = "0.1.0"

__all__ = [
    "CBAM",
    "VARIANTS",
    "AttentionMonitor",
    "ChannelAttention",
    "SpatialAttention",
    "SqueezeExcite",
    "insert_attention",
    "load_torch_weights",
    "profile_model",
]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"cbam_keras.{name}")
    raise AttributeError(f"module 'cbam_keras' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_MODULES})
