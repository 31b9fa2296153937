"""`PoolingGate`, the base class of the gates that can be fused."""

from keras import layers

from cbam_keras._fused import fused
from cbam_keras.layers.attention_layer import (
    AttentionLayer,
    TrainableAttention,
)


class PoolingGate(TrainableAttention):
    """A gate that pools the features by `pool_types`, and can be fused.

    A subclass has what the decorator `fused` needs:

    - `_pools_positions`: Boolean, whether it pools over positions and not
      over channels.
    - `_map_from_pools(pooled, training, mask=None)`: its attention map, given
      one tensor for each entry of `pool_types`.
    """

    call = fused(AttentionLayer.call)

    def _gates(self):
        """Returns the gates that `call` applies, in order."""
        return [self]

    def _can_be_fused(self):
        """Returns whether the fused operation computes what `call` does."""
        functions = (
            self.gate_activation,
            getattr(self, "activation", None),
            self.attention_map,
            self.call,
        )
        return (
            set(self.pool_types) <= {"avg", "max"}
            and all(map(is_known, functions))
            # A hook may replace the `call` of an instance.
            and "call" not in vars(self)
        )


def is_known(function):
    """Returns whether a function is Keras' or ours, or is `None`.

    A user's function may hold variables, which gradients have to reach.
    """
    if isinstance(function, layers.Layer):
        return False
    module = getattr(function, "__module__", None) or ""
    return function is None or module.split(".")[0] in ("keras", "cbam_keras")
