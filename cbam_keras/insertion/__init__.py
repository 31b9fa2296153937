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
- `removal`: `remove_attention`.
- `freezing`: `freeze_batch_norm`, for fine-tuning.
"""

from cbam_keras.insertion.adoption import AdoptedGate, AdoptReport, adopt
from cbam_keras.insertion.core import to_core
from cbam_keras.insertion.freezing import freeze_batch_norm
from cbam_keras.insertion.insert import Place, Places, insert_attention
from cbam_keras.insertion.removal import remove_attention

__all__ = [
    "insert_attention",
    "remove_attention",
    "adopt",
    "to_core",
    "freeze_batch_norm",
    "Places",
    "Place",
    "AdoptReport",
    "AdoptedGate",
]
