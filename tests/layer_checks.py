"""What every public layer must do, and helpers on any backend."""

import pathlib

import keras
import numpy as np
from keras import ops

REFERENCE = pathlib.Path(__file__).parent / "reference"


def random_input(shape=(2, 7, 5, 16), dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def randomize(layer, seed=1):
    """Gives every variable of a built layer non-trivial values."""
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        values = rng.normal(size=tuple(variable.shape)) * 0.5
        if "variance" in variable.path:
            values = np.abs(values) + 0.5
        variable.assign(values)
    return layer


def built(layer, shape=(2, 7, 5, 16)):
    layer.build(shape)
    return randomize(layer)


def to_numpy(x):
    return ops.convert_to_numpy(x)


def output(layer, x, **kwargs):
    return to_numpy(layer(x, **kwargs))


def weights_of(layer):
    return [to_numpy(variable) for variable in layer.variables]


def model_of(layer, shape=(7, 5, 16), dtype=None):
    inputs = keras.Input(shape, dtype=dtype)
    return keras.Model(inputs, layer(inputs))


def gradients(layer, x, weighting):
    """Returns d sum(layer(x) * weighting) by the input and each weight.

    Args:
        layer: A built layer.
        x: Array, the input.
        weighting: Array of the shape of the output.

    Returns:
        List of arrays: for `x`, then for `layer.trainable_variables`.
    """
    values = [ops.convert_to_tensor(x, dtype=str(x.dtype))] + [
        ops.convert_to_tensor(to_numpy(variable))
        for variable in layer.trainable_variables
    ]
    rest = [
        ops.convert_to_tensor(to_numpy(variable))
        for variable in layer.non_trainable_variables
    ]
    weighting = ops.convert_to_tensor(weighting)

    def total(x, *trainable):
        y, _ = layer.stateless_call(list(trainable), rest, x)
        return ops.sum(y * ops.cast(weighting, y.dtype))

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(values)
            result = total(*values)
        found = tape.gradient(result, values)
    elif backend == "jax":
        import jax

        found = jax.grad(total, argnums=range(len(values)))(*values)
    else:
        values = [value.detach().requires_grad_() for value in values]
        total(*values).backward()
        found = [value.grad for value in values]
    return [to_numpy(gradient) for gradient in found]


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def stored(name):
    """Returns the arrays of a file, and its weights by PyTorch's names."""
    arrays = dict(np.load(REFERENCE / f"{name}.npz"))
    weights = {
        key[2:]: arrays.pop(key) for key in list(arrays) if key.startswith("w/")
    }
    return arrays, weights
