"""Networks that train again, with the values of another one.

TensorFlow and JAX compile the steps of a network. For a small one that takes
longer than its training, and networks of other seeds differ in values alone.
"""

import json

import keras

from cbam_keras import _graph
from cbam_keras.study.plans.study import Data

# The training of a larger one takes longer, and each that is kept takes memory.
MOST_PARAMETERS = 1_000_000


class CompiledNetworks:
    """The networks that have been compiled, for one process."""

    def __init__(self) -> None:
        self._networks: dict[str, keras.Model] = {}

    def reuse(
        self, model: keras.Model, fingerprint: str, data: Data
    ) -> keras.Model:
        """Returns a network with the layers, values and optimizer of `model`.

        That is one which was compiled before, or else `model` itself.
        """
        if model.count_params() > MOST_PARAMETERS:
            return model
        key = fingerprint + json.dumps(model.get_compile_config())
        earlier = self._networks.setdefault(key, model)
        if earlier is not model:
            values = zip(_variables(earlier), _variables(model), strict=True)
            for variable, other in values:
                variable.assign(other)
            # Code may give a layer values that are no variables.
            images = data.train[0][0]
            both = (earlier, model)
            outputs = [keras.tree.flatten(x(images)) for x in both]
            if not all(map(_is_equal, *outputs)):
                earlier = self._networks[key] = model
        return earlier


def _variables(model):
    """Returns all that a training changes."""
    states = _graph.random_states(model)
    return [*model.weights, *states, *model.optimizer.variables]


def _is_equal(x, y):
    return bool(keras.ops.all(keras.ops.equal(x, y)))
