"""What layers take of the passes: `fused` for their `call`, and `convolve`."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import keras

from cbam_keras import _checks
from cbam_keras.layers._fused import rows
from cbam_keras.layers._fused.operation import attend


def fused(call: Callable[..., Any]) -> Callable[..., Any]:
    """Runs the `call` of an `AttentionLayer` as one operation if possible.

    The gates of the layer, `_gates()`, have what `operation` needs:

    - `pool_types`, and `_pools_positions`: Boolean, whether the gate pools
      over positions and not over channels.
    - `_map_from_pools(pooled, training, mask=None)`: its attention map, given
      one tensor for each entry of `pool_types`.
    """

    @functools.wraps(call)
    def fused_call(
        self, inputs, training=None, mask=None, return_attention_maps=False
    ):
        inputs = self._prepare(inputs)
        if (
            PASSES is None
            or mask is not None
            or return_attention_maps
            or not PASSES.supports(inputs)
            or not can_be_fused(self)
        ):
            return call(self, inputs, training, mask, return_attention_maps)
        formula = functools.partial(call, self)
        return attend(PASSES, self, inputs, training, formula)

    return fused_call


def can_be_fused(layer: keras.layers.Layer) -> bool:
    """Returns whether the operation computes what `call` does."""
    maps_of_both = getattr(layer, "attention_maps", None)
    return is_known(maps_of_both) and all(
        hasattr(gate, "_map_from_pools")
        and set(gate.pool_types) <= {"avg", "max"}
        and is_known(gate.gate_activation)
        and is_known(getattr(gate, "activation", None))
        and is_known(gate.attention_map)
        and is_known(gate.call)
        # A hook may replace the `call` of an instance.
        and "call" not in vars(gate)
        for gate in layer._gates()
    )


def is_known(function: Callable[..., Any] | None) -> bool:
    """Returns whether a function is Keras' or ours, or is `None`."""
    # A user's function may hold variables, which gradients have to reach.
    if isinstance(function, keras.layers.Layer):
        return False
    return function is None or not _checks.is_of_others(function)


def convolve(maps, kernel, dilation_rate):
    """Returns the convolution of maps `(B, .., M)` to one, `(B, .., 1)`."""
    if PASSES is None or isinstance(maps, keras.KerasTensor):
        return rows.convolve(maps, kernel, dilation_rate)
    return PASSES.convolve(maps, kernel, dilation_rate)


# The passes of the backend, or `None`. What compiles a call meets no import.
PASSES = None
if keras.config.backend() in ("tensorflow", "jax", "torch"):
    PASSES = importlib.import_module(
        f"cbam_keras.layers._fused.{keras.config.backend()}_passes"
    )
