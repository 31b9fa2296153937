"""Attention layers (SE, CBAM, ECA) for Keras 3, and tools around them."""

import functools
import importlib
import sys
import types

from _cbam_keras_command.backends import (
    choose_backend,
    import_quietly,
    way_to_install,
)

if sys.argv[:1] == ["-m"]:
    # This is imported for `python -m cbam_keras`, which then runs the command.
    import_quietly()

try:
    choose_backend()
    import keras
except ModuleNotFoundError as error:
    error.add_note(way_to_install(error))
    raise

# Registers what networks are trained by, so that they load.
from cbam_keras import optimizers
from cbam_keras._version import __version__
from cbam_keras.convert import load_torch_weights
from cbam_keras.insertion import (
    freeze_batch_norm,
    insert_attention,
    remove_attention,
)
from cbam_keras.layers import (
    BAM,
    CBAM,
    SCSE,
    VARIANTS,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SimAM,
    SpatialAttention,
    SqueezeExcite,
    TripletAttention,
)
from cbam_keras.profiling import profile_model

# Imported on first access, as `cbam_keras.explain`, by their last names.
_LIBRARY = ("explain", "layers", "models", "profiling")
_LABORATORY = ("cli", "data", "report", "study", "tuning")
_MODULES = {name: name for name in (*_LIBRARY, *_LABORATORY)} | {
    "blocks": "models.blocks",
    "comparison": "study.programs.comparison",
    "losses": "models.losses",
    "plotting": "report.plotting",
    "presets": "models.paper",
    "training": "study.programs.training",
}

__all__ = [
    "BAM",
    "CBAM",
    "SCSE",
    "VARIANTS",
    "ChannelAttention",
    "CoordinateAttention",
    "EfficientChannelAttention",
    "GlobalContext",
    "SimAM",
    "SpatialAttention",
    "SqueezeExcite",
    "TripletAttention",
    "freeze_batch_norm",
    "insert_attention",
    "load_torch_weights",
    "profile_model",
    "remove_attention",
]


def _load_part(name, config):
    """Makes an object of `models`."""
    models = importlib.import_module("cbam_keras.models")
    return getattr(models, name).from_config(config)


# Saved models hold objects of these classes. Once their modules are imported,
# Keras finds the classes themselves.
_LOSSES = ("PixelCrossentropy", "PixelIoU")
for _name in (*_LOSSES, "ReverseChannels", "UpsampleLike"):
    _load = functools.partial(_load_part, _name)
    keras.saving.get_custom_objects().setdefault(
        f"cbam_keras>{_name}", types.SimpleNamespace(from_config=_load)
    )


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"cbam_keras.{_MODULES[name]}")
    raise AttributeError(f"module 'cbam_keras' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_MODULES})
