"""Search for the best attention with KerasTuner.

- `searching`: `search`.
- `plan`: its arguments, checked.
- `hypermodel`: `CBAMHyperModel`.
- `space`: its hyperparameters.
- `tuner`: runs the trials that the oracle hands out.
- `trial`: one trial, from its values to its outcome.
- `oracle`: KerasTuner's oracle, saved after each step.
- `algorithms`: random, Hyperband, Bayesian and grid search.
- `results`: results of a search.
- `confirmation`: the best trained again from fresh seeds, and the verdict.
- `estimates`: `estimate`: what a search would train, and how long it takes.
- `report`: files and figures of a search.
- `folder`: the output folder.
- `workers`: the processes of a search on one machine.
- `chief`: the process that hands out trials.
- `remote`: the calls between chief and workers.
"""

from typing import TYPE_CHECKING, Any

from cbam_keras import _checks
from cbam_keras.tuning.algorithms import ALGORITHMS
from cbam_keras.tuning.estimates import SearchEstimate, estimate
from cbam_keras.tuning.plan import default_recipe
from cbam_keras.tuning.results import Confirmed, SearchResults, Trial
from cbam_keras.tuning.searching import default_output, search
from cbam_keras.tuning.workers import end_with_starter, join, run_workers

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
