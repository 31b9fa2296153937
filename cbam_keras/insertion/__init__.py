"""Inserting attention into existing models.

- `insert`: `insert_attention`.
- `candidates`: the layers after which attention can go.
- `default_places`: where it goes by default.
- `copying`: a clone of the model with all weights, verified.
"""

from cbam_keras.insertion.insert import Place, Places, insert_attention

__all__ = ["Place", "Places", "insert_attention"]
