"""`fused`: runs a layer's `call` as one operation with its own gradient."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import keras

from cbam_keras._fused.operation import attend


def fused(call: Callable[..., Any]) -> Callable[..., Any]:
    """Runs the `call` of an `AttentionLayer` as one operation if possible.

    `call` is the formula of the layer. It runs as written while a model is
    built from symbolic tensors, with a mask, for a map alone, where the
    backend has no fused passes or they do not support the input, and where the
    operation would not compute what the layer does (`_can_be_fused`). Either
    way `inputs` are cast to the layer's `compute_dtype` first.
    """

    @functools.wraps(call)
    def fused_call(self, inputs, training=None, mask=None, map_only=None):
        x = self._prepare(inputs)
        if map_only:
            return call(self, x, training, mask, map_only)
        if (
            PASSES is None
            or mask is not None
            or isinstance(x, keras.KerasTensor)
            or not PASSES.supports(x)
            or not self._can_be_fused()
        ):
            return call(self, x, training, mask)
        formula = functools.partial(call, self)
        return attend(PASSES, self, x, training, formula)

    return fused_call


# The passes of the backend, or `None` if it has none. Imported once and here:
# what compiles a call should not meet an import.
PASSES = None

if keras.config.backend() in ("tensorflow", "jax", "torch"):
    PASSES = importlib.import_module(
        f"cbam_keras._fused.{keras.config.backend()}_passes"
    )
