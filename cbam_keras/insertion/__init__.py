"""Inserting attention into existing models.

- `insert`: `insert_attention`.
- `candidates`: the layers after which attention can go.
- `default_places`: where it goes by default.
- `copying`: a clone of the model with all weights, verified.
- `freezing`: `freeze_batch_norm`, for fine-tuning.
"""

from cbam_keras.insertion.freezing import freeze_batch_norm
from cbam_keras.insertion.insert import Place, Places, insert_attention

__all__ = ["insert_attention", "freeze_batch_norm", "Places", "Place"]
