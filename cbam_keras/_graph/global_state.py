"""State of Python, NumPy and layers, changed and restored."""

import contextlib
import random
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from cbam_keras import _private


@contextlib.contextmanager
def same_randomness() -> Iterator[None]:
    """Restores the random state that seeds of initializers are drawn from."""
    state_of_python = random.getstate()
    state_of_numpy = np.random.get_state()
    try:
        yield
    finally:
        random.setstate(state_of_python)
        np.random.set_state(state_of_numpy)


def random_states(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the states of random layers, which are in no `.keras` file."""
    ids = {id(variable) for variable in layer.weights}
    return [
        variable
        for variable in layer.variables
        if id(variable) not in ids and "seed_generator" in variable.path
    ]


@contextlib.contextmanager
def attributes(
    layer: keras.Layer, values: Mapping[str, object]
) -> Iterator[None]:
    """Sets attributes of a layer, which hide those of its class.

    Meanwhile the layer runs without rematerialization: Keras would trace it,
    and run it again for the gradient.
    """
    # The public `RematScope` is for layers that are yet to be made.
    values = {**_private.without_rematerialization(), **values}
    before = {x: vars(layer)[x] for x in values if x in vars(layer)}
    try:
        for name, value in values.items():
            setattr(layer, name, value)
        yield
    finally:
        for name in values:
            if name in before:
                setattr(layer, name, before[name])
            else:
                delattr(layer, name)
