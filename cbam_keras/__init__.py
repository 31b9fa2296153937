"""CBAM for Keras: attention layers, networks that carry them, and tools."""

import importlib

# Registers the optimizer, so that networks trained with it load.
from cbam_keras import optimizers  # noqa: F401
from cbam_keras.convert import load_torch_weights  # noqa: F401
from cbam_keras.insertion import insert_attention  # noqa: F401
from cbam_keras.layers import (
    CBAM,  # noqa: F401
    VARIANTS,  # noqa: F401
    ChannelAttention,  # noqa: F401
    SpatialAttention,  # noqa: F401
    SqueezeExcite,  # noqa: F401
)
from cbam_keras.monitor import AttentionMonitor  # noqa: F401
from cbam_keras.profiling import profile_model  # noqa: F401

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
