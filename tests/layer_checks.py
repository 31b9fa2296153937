"""What every public layer must do, and helpers on any backend."""

import contextlib
import inspect
import pathlib

import keras
import numpy as np
import pytest
from keras import ops

import cbam_keras
from cbam_keras.layers import SHARED_ARGUMENTS, TrainableAttention
from cbam_keras.layers._fused import decorator

LAYERS = [
    getattr(cbam_keras, name)
    for name in cbam_keras.__all__
    if inspect.isclass(getattr(cbam_keras, name))
    and issubclass(getattr(cbam_keras, name), keras.layers.Layer)
]
every_layer = pytest.mark.parametrize("layer_class", LAYERS)

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


def arguments_of(layer_class):
    """Returns the arguments of a layer, of which some are for its base."""
    arguments = {*inspect.signature(layer_class).parameters}
    if issubclass(layer_class, TrainableAttention):
        arguments |= {*SHARED_ARGUMENTS}
        arguments.add("gate_activation")
    return arguments - {"kwargs"}


def built(layer, shape=(2, 7, 5, 16)):
    layer.build(shape)
    return randomize(layer)


def to_numpy(x):
    return ops.convert_to_numpy(x)


def output(layer, x, **kwargs):
    return to_numpy(layer(x, **kwargs))


def weights_of(layer):
    return [to_numpy(variable) for variable in layer.variables]


def model_of(layer, shape=(7, 5, 16)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


def gradients(layer, x, weighting):
    """Returns d sum(layer(x) * weighting) by `x` and each trainable weight."""
    return call_and_gradients(layer, x, weighting)[1]


# How `call_and_gradients` can run a layer on this backend.
MODES = {"tensorflow": ["eager", "graph", "xla"], "jax": ["jit"]}.get(
    keras.backend.backend(), ["eager"]
)
# The mode that is fast for small inputs, and all modes that compile.
FAST, *COMPILED = MODES


def call_and_gradients(layer, x, weighting, training=None, mode="eager"):
    """Returns what a call of a layer gives and changes, and its gradients.

    `weighting` is the cotangent of the output, `mode` one of `MODES`.

    Returns:
        Tuple of two lists of arrays: the output and the new values of
        `layer.non_trainable_variables`; the gradients by `x` and by
        `layer.trainable_variables`.
    """
    values = tensors([x, *layer.trainable_variables])
    rest = tensors(layer.non_trainable_variables)
    weighting = ops.convert_to_tensor(weighting)

    def run(values, rest, weighting):
        def total(values):
            y, state = layer.stateless_call(
                values[1:], rest, values[0], training=training
            )
            return ops.sum(y * ops.cast(weighting, y.dtype)), [y, *state]

        return differentiate(total, values)

    found = compiled(run, mode)(values, rest, weighting)
    return tuple([to_numpy(value) for value in part] for part in found)


def tensors(values):
    """Returns arrays and variables as tensors of their own, in order."""
    arrays = [to_numpy(value) for value in values]
    return [ops.convert_to_tensor(x, dtype=str(x.dtype)) for x in arrays]


def differentiate(function, values, again=False):
    """Returns what a function gives beside a scalar, and its gradients.

    `again` says whether the gradients by `values` are differentiated too.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        found, gradients = jax.value_and_grad(function, has_aux=True)(values)
        return found[1], gradients
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(values)
            total, found = function(values)
        gradients = tape.gradient(total, values, unconnected_gradients="zero")
        return found, gradients
    import torch

    total, found = function([value.requires_grad_() for value in values])
    gradients = torch.autograd.grad(
        total,
        values,
        create_graph=again,
        allow_unused=True,
        materialize_grads=True,
    )
    return found, gradients


def compiled(function, mode):
    if mode == "eager":
        return function
    if mode == "jit":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    xla = mode == "xla"
    return tf.function(function, jit_compile=xla, autograph=False)


@contextlib.contextmanager
def single_operations():
    """Turns the fused operation off, for results to compare with."""

    def attend(passes, layer, x, training, formula):
        return formula(x, training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decorator, "attend", attend)
        yield


@contextlib.contextmanager
def fused_calls():
    """Yields a list, which grows by each call with a custom gradient."""
    calls = []
    custom_vjp = decorator.PASSES.custom_vjp

    def counted(*arguments):
        calls.append(None)
        return custom_vjp(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decorator.PASSES, "custom_vjp", counted)
        yield calls


def assert_equals_reference(
    layer, x, weighting, mode=FAST, tolerance=1e-10, training=True
):
    """Compares a call and its gradients with those of single operations."""
    found = call_and_gradients(layer, x, weighting, training, mode)
    with single_operations():
        expected = call_and_gradients(layer, x, weighting, training, FAST)
    for part, expected_part in zip(found, expected, strict=True):
        assert_all_close(part, expected_part, tolerance)


def assert_close(found, expected, atol=0, rtol=1e-7):
    """Compares arrays or tensors as `np.testing.assert_allclose` does."""
    np.testing.assert_allclose(
        to_numpy(found), to_numpy(expected), rtol=rtol, atol=atol
    )


def assert_all_close(found, expected, tolerance, cast=False):
    """Compares lists of arrays, each by its greatest element, or by 1.

    `cast` allows other dtypes than expected.
    """
    for a, b in zip(found, expected, strict=True):
        assert cast or a.dtype == b.dtype
        a, b = a.astype("float64"), b.astype("float64")
        scale = max(1, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


class Halved(cbam_keras.ChannelAttention):
    """A gate whose method for maps is not that of its base."""

    def attention_map(self, inputs, training=None):
        return 0.5 * super().attention_map(inputs, training)


class Doubled(cbam_keras.CBAM):
    """A module whose call is not that of its base, and returns no maps."""

    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs, training=training)


class DoubledGate(cbam_keras.ChannelAttention):
    """A gate whose call is not that of its base."""

    def call(self, inputs, training=None, return_attention_maps=False):
        outputs = super().call(
            inputs, training, return_attention_maps=return_attention_maps
        )
        return keras.tree.map_structure(lambda x: 2.0 * x, outputs)


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def stored(name):
    """Returns the arrays of a file, and its weights by PyTorch's names."""
    arrays, weights = {}, {}
    for key, value in np.load(REFERENCE / f"{name}.npz").items():
        folder, _, rest = key.partition("/")
        if folder in ("w", "state"):
            weights[rest] = value
        else:
            arrays[key] = value
    return arrays, weights
