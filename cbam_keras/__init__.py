"""Attention layers (SE, CBAM, ECA) for Keras 3, and tools around them."""

import functools
import importlib
import sys
import types
from types import ModuleType
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    # Type checkers and editors do not run `__getattr__`. The names are said
    # twice since only then is what a module imports also what it offers.
    from cbam_keras import blocks as blocks
    from cbam_keras import cli as cli
    from cbam_keras import comparison as comparison
    from cbam_keras import data as data
    from cbam_keras import explain as explain
    from cbam_keras import losses as losses
    from cbam_keras import models as models
    from cbam_keras import plotting as plotting
    from cbam_keras import presets as presets
    from cbam_keras import report as report
    from cbam_keras import study as study
    from cbam_keras import training as training
    from cbam_keras import tuning as tuning

# Imported on first access, as `cbam_keras.explain`. `_MODULES` has each module
# that is documented, and those imported above.
_MODULES = (
    "blocks",
    "cli",
    "comparison",
    "convert",
    "data",
    "explain",
    "insertion",
    "layers",
    "losses",
    "models",
    "plotting",
    "presets",
    "profiling",
    "report",
    "study",
    "training",
    "tuning",
)

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


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"cbam_keras.{name}")
    raise AttributeError(f"module 'cbam_keras' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_MODULES, "__version__"]
