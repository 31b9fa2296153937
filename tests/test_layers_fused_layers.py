"""Fused layers: precision, state, training, and when the formula runs."""

import functools

import keras
import numpy as np
import pytest
from fused_checks import BACKEND, ORDERS, SHAPE, SWAPPED
from layer_checks import (
    COMPILED,
    FAST,
    Doubled,
    DoubledGate,
    Halved,
    assert_all_close,
    assert_equals_reference,
    built,
    call_and_gradients,
    fused_calls,
    model_of,
    random_input,
    randomize,
    single_operations,
)

from cbam_keras import CBAM, ChannelAttention, SpatialAttention

pytestmark = pytest.mark.usefixtures("passes_at_any_size")
every_backend = pytest.mark.every_backend

cbam = functools.partial(CBAM, 4, 3)


def arrays():
    return random_input(SHAPE), random_input(SHAPE, seed=5)


@every_backend
@pytest.mark.half_precision
@pytest.mark.parametrize(
    "policy, order, mode",
    [
        *(("mixed_float16", order, FAST) for order in ORDERS),
        ("mixed_bfloat16", "channel_first", FAST),
        *(("mixed_float16", "spatial_first", mode) for mode in COMPILED),
    ],
)
def test_mixed_precision_is_near_full_precision(policy, order, mode):
    # The error of the formula: it rounds numbers to 11 and 8 bits.
    tolerance = {"mixed_float16": 8e-3, "mixed_bfloat16": 6e-2}[policy]
    options = {"order": order, "spatial_batch_norm": True, **SWAPPED}
    # Values far enough apart that maxima are the same in any precision.
    x = 1.01 ** np.arange(np.prod(SHAPE) // 2) / 10
    x = np.random.default_rng(3).permuted(np.concatenate([x, -x]))
    x = x.reshape(SHAPE).astype("float32")
    weighting = random_input(SHAPE, seed=5)
    full = built(cbam(**options), SHAPE)
    half = built(cbam(**options, dtype=policy), SHAPE)
    with single_operations():
        expected = call_and_gradients(full, x, weighting, True, FAST)
    outputs, gradients = call_and_gradients(half, x, weighting, True, mode)
    assert str(outputs[0].dtype) == policy.removeprefix("mixed_")
    assert_all_close(outputs[:1], expected[0][:1], tolerance, cast=True)
    assert_all_close(
        [*outputs[1:], *gradients], [*expected[0][1:], *expected[1]], tolerance
    )


@every_backend
@pytest.mark.parametrize(
    "frozen", ["spatial_attention", "channel_attention", "all"]
)
def test_frozen_layers_equal_single_operations(frozen):
    layer = built(cbam(spatial_batch_norm=True), SHAPE)
    part = layer if frozen == "all" else getattr(layer, frozen)
    part.trainable = False
    # Sums in another order.
    assert_equals_reference(layer, *arrays(), tolerance=1e-5)


def fitted(jit_compile, run_eagerly=False, **options):
    keras.utils.set_random_seed(1)
    model = model_of(cbam(**options), SHAPE[1:])
    x = random_input((8, *SHAPE[1:]))
    model.compile(
        keras.optimizers.SGD(0.1),
        loss="mse",
        jit_compile=jit_compile,
        run_eagerly=run_eagerly,
    )
    history = model.fit(
        x, x[::-1], batch_size=4, epochs=2, shuffle=False, verbose=0
    )
    return model, [np.array(history.history["loss"]), *model.get_weights()]


# PyTorch's compiler is slow: see test_layers_fused_torch.py.
@every_backend
@pytest.mark.parametrize(
    "jit_compile",
    {
        "tensorflow": [
            pytest.param(False, marks=pytest.mark.exhaustive),
            True,
        ],
        "jax": [True],
        "torch": [False],
    }[BACKEND],
)
def test_fit_equals_single_operations(jit_compile):
    with fused_calls() as calls:
        _, found = fitted(jit_compile, spatial_batch_norm=True)
    assert calls
    with single_operations():
        _, expected = fitted(jit_compile, spatial_batch_norm=True)
    assert_all_close(found, expected, 1e-5)


@every_backend
def test_layers_computed_again_for_the_gradient_train_the_same():
    # Rematerialization in a TensorFlow graph takes no `training`.
    options = {"run_eagerly": BACKEND == "tensorflow"}
    _, expected = fitted(BACKEND == "jax", **options)
    with keras.RematScope(mode="full"), fused_calls() as calls:
        model, found = fitted(BACKEND == "jax", **options)
    assert calls
    assert model.layers[-1]._remat_mode is not None
    assert_all_close(found, expected, 1e-5)


# When the formula runs.


def twice(x):
    return 2.0 * x


class HalvedMaps(CBAM):
    def attention_maps(self, inputs, training=None):
        channel_map, spatial_map = super().attention_maps(inputs, training)
        return 0.5 * channel_map, spatial_map


class Replaced(CBAM):
    """Has a gate of another class."""

    def __init__(self, gate, **kwargs):
        super().__init__(4, 3, **kwargs)
        self.gate = gate

    def build(self, input_shape):
        super().build(input_shape)
        self.channel_attention = self.gate(4, name="channel_attention")
        self.channel_attention.build(input_shape)


@pytest.mark.parametrize(
    "make, fused",
    [
        (functools.partial(ChannelAttention, 4, pool_types=("avg", "lp")), 0),
        pytest.param(
            *(functools.partial(CBAM, 4, 3, channel_pool_types="lse"), 1),
            marks=every_backend,
        ),
        (functools.partial(CBAM, 4, 3, spatial_pool_types=("max", "conv")), 1),
        (functools.partial(CBAM, 4, 3, activation=twice), 1),
        (functools.partial(SpatialAttention, 3, gate_activation=twice), 0),
        (functools.partial(Halved, 4), 0),
        (functools.partial(HalvedMaps, 4, 3, order="parallel"), 0),
        (functools.partial(Replaced, Halved), 1),
        (functools.partial(Replaced, DoubledGate), 1),
        (functools.partial(DoubledGate, 4), 0),
        (functools.partial(Doubled, 4, 3), 1),
    ],
    ids="lp lse conv activation gate map maps map-of-gate call-of-gate "
    "call-of-channel call-of-module".split(),
)
def test_what_the_fast_path_does_not_know_takes_single_operations(make, fused):
    # If only one of two gates is supported, that one is fused by itself.
    with fused_calls() as calls:
        assert_equals_reference(built(make(), SHAPE), *arrays(), tolerance=1e-6)
    assert len(calls) == fused


@every_backend
@pytest.mark.parametrize("is_built", [True, False])
def test_gradients_reach_the_variable_of_an_activation(is_built):
    activation = keras.layers.PReLU(alpha_initializer="ones")
    if is_built:
        activation.build((None, 4))
    layer = CBAM(4, 3, activation=activation)
    x, weighting = arrays()
    layer(x, training=True)
    assert activation.alpha in layer.trainable_variables
    randomize(layer)
    assert_equals_reference(layer, x, weighting, tolerance=1e-5)
    _, found = call_and_gradients(layer, x, weighting, True)
    alpha = layer.trainable_variables.index(activation.alpha)
    assert np.abs(found[1 + alpha]).max() > 0
