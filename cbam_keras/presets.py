"""The rows of the paper's Tables 4 and 5, and their networks."""

from cbam_keras.models.paper import PRESETS, Preset, build_preset

__all__ = ["build_preset", "PRESETS", "Preset"]


def __dir__() -> list[str]:
    return __all__
