"""Attention layers, for features with one to three axes of positions.

`VARIANTS` holds arguments of `CBAM` by name. `CBAM(**VARIANTS["recommended"])`
is for training from scratch.

- `cbam`, `channel_attention`, `spatial_attention`, `squeeze_excite`: one layer
  each.
- `attention_layer`: their base classes.
- `pooling_gate`: the base class of those that `_fused` runs.
- `pools`: the pools that gates choose from.
- `factory`: a layer from a name, class, callable or template; `Attention`.
"""

from cbam_keras.layers.attention_layer import AttentionLayer
from cbam_keras.layers.cbam import CBAM, ORDERS, VARIANTS
from cbam_keras.layers.channel_attention import ChannelAttention
from cbam_keras.layers.factory import (
    ATTENTION,
    Attention,
    MakeLayer,
    make_attention,
)
from cbam_keras.layers.pools import POOLS
from cbam_keras.layers.spatial_attention import SpatialAttention
from cbam_keras.layers.squeeze_excite import SqueezeExcite

__all__ = [
    "CBAM",
    "VARIANTS",
    "Attention",
    "ChannelAttention",
    "SpatialAttention",
    "SqueezeExcite",
    "make_attention",
]
