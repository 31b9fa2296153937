"""Parameters and multiply-accumulates of any functional model.

- `profile`: `profile_model` and its result.
- `macs`: multiply-accumulates of one call of a layer.
"""

from cbam_keras.profiling.profile import LayerProfile, Profile, profile_model

__all__ = ["profile_model", "Profile", "LayerProfile"]


def __dir__() -> list[str]:
    return __all__
