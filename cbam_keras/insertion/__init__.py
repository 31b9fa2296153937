"""Inserting attention into existing models.

- `insert`: `insert_attention`, `remove_attention` and `freeze_batch_norm`.
- `adoption`: `adopt`, which converts third-party attention.
- `candidates`: the layers after which attention can go, or does by default.
- `core`: `to_core`, attention as layers of Keras alone.
- `copying`: a clone of the model with all weights, verified.
"""

from cbam_keras.insertion.adoption import AdoptReport, adopt
from cbam_keras.insertion.core import to_core
from cbam_keras.insertion.insert import (
    Place,
    Places,
    freeze_batch_norm,
    insert_attention,
    remove_attention,
)
from cbam_keras.recognition.reports import CheckedGate, CheckReport, check
from cbam_keras.recognition.source import check_source

__all__ = [
    "insert_attention",
    "remove_attention",
    "check",
    "check_source",
    "adopt",
    "to_core",
    "freeze_batch_norm",
    "Places",
    "Place",
    "CheckReport",
    "CheckedGate",
    "AdoptReport",
]


def __dir__() -> list[str]:
    return __all__
