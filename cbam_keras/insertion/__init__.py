"""Inserting attention into existing models.

- `insert`: `insert_attention`.
- `adoption`: `adopt`, attention that somebody else wrote becomes ours.
- `cutting`: the parts of a network that may be such attention.
- `recognition`: what they compute.
- `probes`: random features to compare them with our layers on.
- `candidates`: the layers after which attention can go.
- `default_places`: where it goes by default.
- `core`: `to_core`, attention as layers of Keras alone.
- `copying`: a clone of the model with all weights, verified.
- `folding`: `fold_attention` and `remove_attention`.
- `constant_search`: which gates can be constants, and what that costs.
- `freezing`: `freeze_batch_norm`, for fine-tuning.
"""

from cbam_keras.insertion.adoption import AdoptedGate, AdoptReport, adopt
from cbam_keras.insertion.constant_search import Cost
from cbam_keras.insertion.core import to_core
from cbam_keras.insertion.folding import (
    FoldedGate,
    FoldReport,
    fold_attention,
    remove_attention,
)
from cbam_keras.insertion.freezing import freeze_batch_norm
from cbam_keras.insertion.insert import Place, Places, insert_attention

__all__ = [
    "insert_attention",
    "fold_attention",
    "remove_attention",
    "adopt",
    "to_core",
    "freeze_batch_norm",
    "Places",
    "Place",
    "FoldReport",
    "FoldedGate",
    "Cost",
    "AdoptReport",
    "AdoptedGate",
]
