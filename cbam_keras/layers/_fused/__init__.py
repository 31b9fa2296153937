"""Fused attention: few passes over memory, with a custom gradient.

- `decorator`: `fused`, which a layer puts on its `call`.
- `convolution`: `convolve`, the convolution of the spatial gate.
- `rows`: the same by its rows.
- `operation`: the gates of a layer as one operation, forward and backward.
- `contract`: its formulas, and what a backend supplies for it.
- `tensorflow_passes`, `jax_passes`, `torch_passes`: one backend each.
- `private`: what Keras and backends keep private, with fallbacks.
"""

from cbam_keras.layers._fused.convolution import convolve
from cbam_keras.layers._fused.decorator import fused

__all__ = ["convolve", "fused"]
