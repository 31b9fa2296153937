"""`fused`: runs a layer's `call` as one operation with its own gradient."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import keras

from cbam_keras._fused.operation import attend


def fused(call: Callable[..., Any]) -> Callable[..., Any]:
    """Runs the `call` of an attention layer as one operation where possible.

    The decorated function is the formula of the layer. It runs as written
    while a model is built from symbolic tensors, with a mask, where the
    backend has no fused passes or they do not support the input, and where the
    layer says that the operation does not compute what it does
    (`_can_be_fused`).

    Either way `inputs` are cast to the layer's `compute_dtype` first.

    Args:
        call: Method `call(self, inputs, training=None, mask=None)` of an
            `AttentionLayer`. `self._gates()` are the gates to apply, in
            order. Two gates pool different axes.

    Returns:
        Method with the same signature.
    """

    @functools.wraps(call)
    def fused_call(self, inputs, training=None, mask=None):
        x = self._prepare(inputs)
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
