"""Attention maps applied in few passes over memory, with a custom gradient.

- `apply`: `attend`, which a layer calls in place of its formula.
- `records`: what a forward pass keeps for the gradient.
- `tensorflow_passes`, `jax_passes`, `torch_passes`: the passes of a backend.
"""

from cbam_keras._fused.apply import attend
