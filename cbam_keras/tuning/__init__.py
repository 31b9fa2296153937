"""Search for the best attention with KerasTuner.

- `searching`: `search`.
- `hypermodel`: `CBAMHyperModel`.
- `space`: the hyperparameters.
- `tuner`: what KerasTuner calls for each trial.
- `trial`: one trial, from its values to its score.
- `oracle`: KerasTuner's oracles, saved after each step.
- `algorithms`: random, Hyperband, Bayesian and grid search.
- `results`: results of a search, and its verdict.
- `report`: files and figures of a search.
- `folder`: the output folder.
- `chief`, `client`, `cluster`, `supervisor`: several processes.
"""

from typing import TYPE_CHECKING, Any

from cbam_keras import _checks
from cbam_keras.tuning.cluster import join
from cbam_keras.tuning.results import SearchResults, Trial
from cbam_keras.tuning.searching import RECIPE, default_output, search
from cbam_keras.tuning.supervisor import end_with_supervisor, supervise

if TYPE_CHECKING:
    from cbam_keras.tuning.hypermodel import CBAMHyperModel

__all__ = ["RECIPE", "CBAMHyperModel", "SearchResults", "Trial", "search"]


def __getattr__(name: str) -> Any:
    # A subclass of KerasTuner's, which is optional.
    if name == "CBAMHyperModel":
        _checks.require("keras_tuner", extra="tune")
        from cbam_keras.tuning.hypermodel import CBAMHyperModel

        return CBAMHyperModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
