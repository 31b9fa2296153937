"""Inserting attention into existing models.

- `insert`: `insert_attention`, `remove_attention` and `freeze_batch_norm`.
- `adoption`: `adopt`, which converts third-party attention.
- `checking`: `check`, whether it computes what its name says.
- `claims`: what names claim, and whether it is so.
- `source`: `check_source`, the same of files of source.
- `finding`: the gates of a model, measured, and what is around them.
- `cutting`: the parts of a network that may be such attention.
- `recognition`: the `cbam_keras` layers that compute and train the same.
- `probes`: features to measure and compare them on.
- `candidates`: the layers after which attention can go, or does by default.
- `core`: `to_core`, attention as layers of Keras alone.
- `copying`: a clone of the model with all weights, verified.
"""

from cbam_keras.insertion.adoption import AdoptReport, adopt
from cbam_keras.insertion.checking import CheckedGate, CheckReport, check
from cbam_keras.insertion.core import to_core
from cbam_keras.insertion.insert import (
    Place,
    Places,
    freeze_batch_norm,
    insert_attention,
    remove_attention,
)
from cbam_keras.insertion.source import check_source

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
