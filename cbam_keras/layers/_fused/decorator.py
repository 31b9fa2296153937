"""`fused`: runs a layer's `call` as one operation with its own gradient."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import keras

from cbam_keras import _checks
from cbam_keras.layers._fused.operation import attend


def fused(call: Callable[..., Any]) -> Callable[..., Any]:
    """Runs the `call` of an `AttentionLayer` as one operation if possible.

    `call` is the formula of the layer. It runs as written with a mask, where
    the maps are returned, where the backend has no fused passes or they do not
    support the input, and where the operation would not compute what the layer
    does (`can_be_fused`). Either way `inputs` are cast to the layer's
    `compute_dtype` first.

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
    """Returns whether the operation computes what `call` does.

    It does not with pools that it lacks, and where a user's class, function or
    hook takes the place of a part of the formula.
    """
    maps_of_both = getattr(layer, "attention_maps", None)
    return is_of_package(maps_of_both) and all(
        hasattr(gate, "_map_from_pools")
        and set(gate.pool_types) <= {"avg", "max"}
        and is_of_package(gate.gate_activation)
        and is_of_package(getattr(gate, "activation", None))
        and is_of_package(gate.attention_map)
        and is_of_package(gate.call)
        # A hook may replace the `call` of an instance.
        and "call" not in vars(gate)
        for gate in layer._gates()
    )


def is_of_package(function: Callable[..., Any] | None) -> bool:
    """Returns whether a function is Keras' or ours, or is `None`.

    A user's function may hold variables, which gradients have to reach, and so
    may a layer.
    """
    if isinstance(function, keras.layers.Layer):
        return False
    return function is None or not _checks.is_of_others(function)


# The passes of the backend, or `None` if it has none. They are imported once
# and here: what compiles a call should not meet an import.
PASSES = None
if keras.config.backend() in ("tensorflow", "jax", "torch"):
    PASSES = importlib.import_module(
        f"cbam_keras.layers._fused.{keras.config.backend()}_passes"
    )
