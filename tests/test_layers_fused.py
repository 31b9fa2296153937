"""The fused operation equals the formula, with exact and stable gradients."""

import functools

import numpy as np
import pytest
from fused_checks import BACKEND, ORDERS, SHAPE, SWAPPED
from keras import ops
from layer_checks import (
    COMPILED,
    FAST,
    MODES,
    assert_all_close,
    assert_equals_reference,
    built,
    call_and_gradients,
    compiled,
    differentiate,
    fused_calls,
    random_input,
    single_operations,
    tensors,
    to_numpy,
)

from cbam_keras import CBAM, ChannelAttention, SpatialAttention, SqueezeExcite
from cbam_keras.layers._fused import contract, decorator

pytestmark = [
    pytest.mark.every_backend,
    pytest.mark.usefixtures("passes_at_any_size"),
]

float64 = pytest.mark.usefixtures("float64")
AVG = {"channel_pool_types": "avg", "spatial_pool_types": "avg"}
MAX = {"channel_pool_types": "max", "spatial_pool_types": "max"}
FIRST = {"data_format": "channels_first"}
cbam = functools.partial(CBAM, 4, 3)
SPATIAL_FIRST = {"order": "spatial_first"}
PARALLEL = {"order": "parallel"}
NORM = {"spatial_batch_norm": True}
OTHERS = {"activation": "tanh", "gate_activation": "hard_sigmoid"}
IDENTITY = {"identity_init": True, "spatial_use_bias": True}
CHANNEL = functools.partial(ChannelAttention, reduction_ratio=4)
SPATIAL = functools.partial(SpatialAttention, kernel_size=3)
# Wider than the features.
WIDE = functools.partial(SpatialAttention, kernel_size=5)
ODD = (1, 5, 7, 20)
# Layers, their options, and shapes with the channels last, by name.
CASES = {
    "channel first": (cbam, {}, SHAPE),
    "channel first, transposed": (cbam, FIRST, ODD),
    "spatial first": (cbam, SPATIAL_FIRST, ODD),
    "parallel": (cbam, PARALLEL, SHAPE),
    "average pools": (cbam, AVG, SHAPE),
    "maximum pools": (cbam, MAX, SHAPE),
    "maximum pools, transposed": (cbam, MAX | FIRST, SHAPE),
    "batch norm": (cbam, NORM | SWAPPED, SHAPE),
    "batch norm, spatial first": (cbam, NORM | SPATIAL_FIRST | FIRST, SHAPE),
    "no bias": (cbam, {"use_bias": False}, ODD),
    "other activations": (cbam, OTHERS, SHAPE),
    "identity init, spatial bias": (cbam, IDENTITY, SHAPE),
    "one axis": (cbam, SPATIAL_FIRST, (2, 7, 16)),
    "three axes": (cbam, FIRST, (1, 3, 2, 5, 8)),
    "one position": (cbam, {}, (2, 1, 1, 12)),
    "one channel": (cbam, SPATIAL_FIRST, (2, 5, 3, 1)),
    "channel gate": (CHANNEL, {}, SHAPE),
    "spatial gate, wide": (WIDE, {"dilation_rate": 2}, SHAPE),
    "spatial gate, batch norm": (SPATIAL, {"batch_norm": True} | FIRST, SHAPE),
    "squeeze and excite": (SqueezeExcite, {"reduction_ratio": 4}, SHAPE),
}
# The cases that differ most in the passes of compiled code: by the axis of each
# pool, by whether maxima are taken by halves, and by what follows what.
CHOSEN = [
    "channel first, transposed",
    "spatial first",
    "parallel",
    "batch norm",
    "one channel",
]
# Others that are compiled on demand.
ALSO = ["maximum pools, transposed", "no bias", "spatial gate, wide"]


def moved(shape, options):
    """Returns a shape with its channels where the options say they are."""
    if options.get("data_format") == "channels_first":
        return (shape[0], shape[-1], *shape[1:-1])
    return shape


def layer_and_arrays(make, options, shape=SHAPE, dtype="float64"):
    """Returns a built layer, an input, and a gradient by the output."""
    shape = moved(shape, options)
    layer = built(make(**options, dtype=dtype), shape)
    return layer, random_input(shape, "float64"), random_input(shape, seed=5)


@float64
@pytest.mark.parametrize(
    "case, mode",
    [
        *((case, FAST) for case in CASES),
        *((case, mode) for case in CHOSEN for mode in COMPILED),
        *(
            pytest.param(case, mode, marks=pytest.mark.exhaustive)
            for case in ALSO
            for mode in COMPILED
        ),
    ],
)
def test_training_equals_single_operations(case, mode):
    arrays = layer_and_arrays(*CASES[case])
    with fused_calls() as calls:
        assert_equals_reference(*arrays, training=True, mode=mode)
    assert len(calls) == 1


@float64
@pytest.mark.parametrize("values_more, is_fused", [(0, False), (1, True)])
def test_passes_are_used_for_large_features_alone(
    values_more, is_fused, monkeypatch
):
    # PyTorch goes by the values of a batch, the others by those of an image.
    values = np.prod(SHAPE) // 8 if BACKEND == "torch" else np.prod(SHAPE[1:])
    monkeypatch.setattr(contract, "SMALL", values - values_more)
    arrays = layer_and_arrays(cbam, {})
    with fused_calls() as calls:
        call_and_gradients(*arrays, training=True, mode=[FAST, *COMPILED][-1])
    assert bool(calls) is is_fused


def each_order(compiled, modes=COMPILED):
    """Every order in the mode that is fast, and one of them in others."""
    cases = [(order, FAST) for order in ORDERS]
    cases += [(compiled, mode) for mode in modes]
    return pytest.mark.parametrize("order, mode", cases)


@float64
@each_order("spatial_first")
def test_passes_for_other_devices_equal_single_operations(
    order, mode, monkeypatch
):
    # The code for other devices, run on this one.
    monkeypatch.setattr(decorator.PASSES, "_on_cpu", lambda *_: False)
    arrays = layer_and_arrays(cbam, {"order": order})
    assert_equals_reference(*arrays, mode=mode)


@float64
@each_order("spatial_first", COMPILED[-1:])
def test_gradients_of_inference_equal_single_operations(order, mode):
    # Explanations take gradients by operations with gradients of their own.
    options = {"order": order, "spatial_batch_norm": True}
    if order == "spatial_first":
        options |= FIRST
    arrays = layer_and_arrays(cbam, options)
    with fused_calls() as calls:
        assert_equals_reference(*arrays, training=False, mode=mode)
    assert not calls


def tied():
    """Returns an input with many equal maxima, as integers and ReLUs give."""
    x = np.round(random_input(SHAPE, "float64"))
    x[1] = 0.0
    x[1, ..., :8] = 0.5
    return x


def gate(axes, **options):
    if axes == (1, 2):
        # An activation that is never flat, so that each maximum counts.
        return ChannelAttention(4, activation="sigmoid", **options)
    return SpatialAttention(3, **options)


@float64
@pytest.mark.parametrize("mode", dict.fromkeys([FAST, MODES[-1]]))
@pytest.mark.parametrize(
    "axes", [(1, 2), (3,)], ids=["channel gate", "spatial gate"]
)
def test_one_of_equal_maxima_has_all_of_the_gradient(axes, mode):
    x, weighting = tied(), random_input(SHAPE, "float64", seed=5)
    layer = built(gate(axes, pool_types="max", dtype="float64"), SHAPE)
    _, gradients = call_and_gradients(layer, x, weighting, True, mode)
    with single_operations():
        _, shared = call_and_gradients(layer, x, weighting, True, FAST)
    assert_all_close(
        [gradients[0].sum(axes), *gradients[1:]],
        [shared[0].sum(axes), *shared[1:]],
        1e-10,
    )
    through_maximum = gradients[0] - weighting * to_numpy(
        layer.attention_map(x)
    )
    greatest = x == x.max(axes, keepdims=True)
    found = np.abs(through_maximum) > 1e-10
    assert not (found & ~greatest).any()
    expected = np.abs(through_maximum.sum(axes)) > 1e-10
    assert (expected & (greatest.sum(axes) > 1)).any()
    np.testing.assert_array_equal(found.sum(axes), expected)


@each_order("channel_first")
def test_nan_spreads_in_place_of_an_error(order, mode):
    # Then the loss shows that training diverged, as with any layer.
    layer, x = built(cbam(order=order), SHAPE), random_input(SHAPE)
    x[0, 1, 2, 3] = np.nan
    outputs, gradients = call_and_gradients(
        layer, x, random_input(SHAPE, seed=5), True, mode
    )
    assert np.isnan(outputs[0][0]).any()
    assert np.isnan(gradients[0][0]).any()
    # The other image keeps its values.
    assert np.isfinite(outputs[0][1]).all()
    assert np.isfinite(gradients[0][1]).all()


def second_order(layer, x, weighting):
    """Returns a function of `x` and the weights, and their arrays.

    It gives the sum of all squared gradients, and the gradients of that.
    """
    rest = tensors(layer.non_trainable_variables)
    weighting = ops.convert_to_tensor(weighting)

    def total(values):
        y, _ = layer.stateless_call(values[1:], rest, values[0], training=True)
        # The sum is not linear in `y`, so that its gradient is differentiated.
        return ops.sum(y * y * ops.cast(weighting, y.dtype)), []

    def squares(values):
        _, found = differentiate(total, values, again=True)
        penalty = sum(ops.sum(gradient**2) for gradient in found)
        return penalty, penalty

    def run(arrays):
        penalty, gradients = call(tensors(arrays))
        return to_numpy(penalty), [to_numpy(value) for value in gradients]

    call = compiled(functools.partial(differentiate, squares), FAST)
    return run, [to_numpy(value) for value in (x, *layer.trainable_variables)]


@float64
@pytest.mark.parametrize(
    "make, options",
    [
        (cbam, {"order": "spatial_first", **FIRST}),
        (cbam, {"order": "parallel", "activation": "sigmoid"}),
        (cbam, {"spatial_batch_norm": True, **AVG}),
        (ChannelAttention, {"reduction_ratio": 4}),
    ],
    ids=["transposed", "parallel", "batch-norm", "channel"],
)
def test_second_derivatives(make, options):
    # A gradient penalty is derived by central differences.
    with fused_calls() as calls:
        run, arrays = second_order(*layer_and_arrays(make, options))
        _, gradients = run(arrays)
    assert calls
    rng, step = np.random.default_rng(4), 1e-5
    for index, gradient in enumerate(gradients):
        direction = rng.normal(size=gradient.shape)
        penalties = []
        for sign in (1, -1):
            moved = list(arrays)
            moved[index] = arrays[index] + sign * step * direction
            penalties.append(run(moved)[0])
        np.testing.assert_allclose(
            (gradient * direction).sum(),
            (penalties[0] - penalties[1]) / (2 * step),
            rtol=1e-6,
            atol=1e-6 * penalties[0],
        )
