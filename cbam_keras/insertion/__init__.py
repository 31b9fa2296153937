"""Attention put into existing models.

- `insert`: `insert_attention`.
- `candidates`: where attention can go.
- `default_places`: where it goes unless told otherwise.
- `copying`: the copy with all weights, and its proof.
"""

from cbam_keras.insertion.insert import Place, Places, insert_attention

__all__ = ["Place", "Places", "insert_attention"]
