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
_PATHS = """
    cli data explain layers models models.blocks models.losses profiling
    report report.plotting study study.programs.comparison
    study.programs.training tuning
""".split()
_MODULES = {path.rpartition(".")[2]: path for path in _PATHS}
_MODULES["presets"] = "models.paper"

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
for _name in "PixelCrossentropy PixelIoU ReverseChannels UpsampleLike".split():
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
