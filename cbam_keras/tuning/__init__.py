"""Search for the best attention with KerasTuner.

- `search`: `Search`, `search`: what is tried, and how it runs.
- `hypermodel`: `CBAMHyperModel`.
- `space`: points of its space: which come first, and their names.
- `choice`: what is retrained, what is chosen, and the verdict.
"""

from typing import TYPE_CHECKING

from cbam_keras import _checks
from cbam_keras.tuning.search import Search, search

if TYPE_CHECKING:
    from cbam_keras.tuning.hypermodel import CBAMHyperModel

__all__ = ["search", "CBAMHyperModel", "Search"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> type:
    # A subclass of KerasTuner's, which is optional.
    if name == "CBAMHyperModel":
        _checks.require("keras_tuner", extra="tune")
        from cbam_keras.tuning.hypermodel import CBAMHyperModel

        return CBAMHyperModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
