"""Building blocks of the networks, with the names of all layers.

Each takes and returns symbolic features, see `cbam_keras.models.blocks`.
"""

from cbam_keras.models.blocks import basic_block as basic_block
from cbam_keras.models.blocks import batch_norm as batch_norm
from cbam_keras.models.blocks import bottleneck_block as bottleneck_block
from cbam_keras.models.blocks import conv as conv
from cbam_keras.models.blocks import depthwise_conv as depthwise_conv
from cbam_keras.models.blocks import (
    depthwise_separable_block as depthwise_separable_block,
)
from cbam_keras.models.blocks import (
    inverted_residual_block as inverted_residual_block,
)
from cbam_keras.models.blocks import relu as relu
from cbam_keras.models.blocks import relu6 as relu6
from cbam_keras.models.blocks import stem_block as stem_block
