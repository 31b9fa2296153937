"""Search for the best attention with KerasTuner.

- `search`: `search`, and its arguments, checked.
- `hypermodel`: `CBAMHyperModel`.
- `space`: points of its space: listed, drawn, named.
- `tuner`: trials, trained once each; KerasTuner's oracles and loop.
- `processes`: several processes on one machine.
- `results`: results of a search.
- `report`: its files, the best trained again from fresh seeds, the verdict.
- `estimate`: what a search would train, and how long it takes.
"""

from typing import TYPE_CHECKING, Any

from cbam_keras import _checks
from cbam_keras.tuning.estimate import SearchEstimate, estimate
from cbam_keras.tuning.results import Confirmed, SearchResults, Trial
from cbam_keras.tuning.search import (
    ALGORITHMS,
    default_output,
    default_recipe,
    search,
)

if TYPE_CHECKING:
    from cbam_keras.tuning.hypermodel import CBAMHyperModel

__all__ = [
    "CBAMHyperModel",
    "Confirmed",
    "SearchResults",
    "Trial",
    "search",
]


def __getattr__(name: str) -> Any:
    # A subclass of KerasTuner's, which is optional.
    if name == "CBAMHyperModel":
        _checks.require("keras_tuner", extra="tune")
        from cbam_keras.tuning.hypermodel import CBAMHyperModel

        return CBAMHyperModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
