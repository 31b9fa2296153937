"""Networks that train again, with the values of another one.

Compiling the steps of a small network takes longer than its training. The code
of users may hold anything: their networks are never shared.
"""

import json

import keras

from cbam_keras import _graph

# The training of a larger one takes longer, and each that is kept takes memory.
MOST_PARAMETERS = 1_000_000


class CompiledNetworks:
    """The networks that have been compiled, for one process."""

    def __init__(self) -> None:
        self._networks: dict[str, keras.Model] = {}

    def reuse(
        self, model: keras.Model, variant: str, fingerprint: str
    ) -> keras.Model:
        """Returns a compiled network with the values of `model`, or itself."""
        is_compiled = keras.backend.backend() != "torch"
        if not is_compiled or model.count_params() > MOST_PARAMETERS:
            return model
        # Files hold the names, and data may change the configurations.
        names = [x.name for x in _graph.layers_within(model)]
        paths = [x.path for x in model.variables]
        compiled = model.get_compile_config()
        key = json.dumps([variant, fingerprint, names, paths, compiled])
        earlier = self._networks.setdefault(key, model)
        if earlier is not model:
            values = zip(_variables(earlier), _variables(model), strict=True)
            for variable, other in values:
                variable.assign(other)
        return earlier


def _variables(model):
    """Returns all that a training changes."""
    states = _graph.random_states(model)
    return [*model.weights, *states, *model.optimizer.variables]
