"""Attention layers, for features with one to three spatial axes.

`VARIANTS` holds keyword arguments of `CBAM`, by the name of an implementation.
`CBAM(**VARIANTS["recommended"])` is for training from scratch.
`layer.attention_map(inputs)` returns what the inputs are multiplied by. `CBAM`
and `SCSE` have two maps, and return both by `layer.attention_maps(inputs)`.

- `bam`, `cbam`, `channel_attention`, `coordinate_attention`,
  `efficient_channel_attention`, `global_context`, `scse`, `simam`,
  `spatial_attention`, `squeeze_excite`, `triplet_attention`: one layer each.
- `attention_gate`: the gate of skip connections, which takes two tensors.
- `attention_layer`: their base classes.
- `normalization`: the batch normalization inside gates.
- `pools`: the pools that gates choose from.
- `factory`: layers from a name, class, callable or template; `Attention`.
- `stages`: the stages of a network that get attention.
"""

from cbam_keras.layers.attention_gate import AttentionGate
from cbam_keras.layers.attention_layer import (
    MAPS,
    SHARED_ARGUMENTS,
    AttentionLayer,
    TrainableAttention,
)
from cbam_keras.layers.bam import BAM
from cbam_keras.layers.cbam import CBAM, VARIANTS
from cbam_keras.layers.channel_attention import ChannelAttention
from cbam_keras.layers.coordinate_attention import CoordinateAttention
from cbam_keras.layers.efficient_channel_attention import (
    EfficientChannelAttention,
)
from cbam_keras.layers.factory import (
    ATTENTION,
    ATTENTION_KINDS,
    BASELINE,
    SKIP,
    Attention,
    MakeLayer,
    attention_layers,
    is_on_skips,
    make_attention,
)
from cbam_keras.layers.global_context import GlobalContext
from cbam_keras.layers.scse import SCSE
from cbam_keras.layers.simam import SimAM
from cbam_keras.layers.spatial_attention import SpatialAttention
from cbam_keras.layers.squeeze_excite import SqueezeExcite
from cbam_keras.layers.triplet_attention import TripletAttention

__all__ = [
    "CBAM",
    "ChannelAttention",
    "SpatialAttention",
    "SqueezeExcite",
    "VARIANTS",
    "make_attention",
    "Attention",
    "BAM",
    "CoordinateAttention",
    "EfficientChannelAttention",
    "GlobalContext",
    "SCSE",
    "SimAM",
    "TripletAttention",
    "AttentionGate",
]


def __dir__() -> list[str]:
    return __all__
