"""Parameters and multiply-accumulates of any functional model.

- `profile`: `profile_model` and what it returns.
- `macs`: multiply-accumulates of each kind of layer.
"""

from cbam_keras.profiling.profile import Profile, Row, profile_model

__all__ = ["Profile", "Row", "profile_model"]
