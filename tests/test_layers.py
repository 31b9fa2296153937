"""The contract that every public attention layer keeps."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import (
    FAST,
    LAYERS,
    Doubled,
    Halved,
    arguments_of,
    assert_all_close,
    assert_close,
    built,
    call_and_gradients,
    every_layer,
    model_of,
    output,
    random_input,
    randomize,
    to_numpy,
    weights_of,
)

from cbam_keras import (
    BAM,
    CBAM,
    SCSE,
    ChannelAttention,
    GlobalContext,
    SimAM,
    SpatialAttention,
)

every_backend = pytest.mark.every_backend
SHAPE = (2, 7, 5, 16)

# Each layer with its defaults and with options that add weights or states.
VARIANTS = {
    **{layer.__name__: (layer, {}) for layer in LAYERS},
    "lp-lse": (
        ChannelAttention,
        {"pool_types": ("lp", "lse"), "use_bias": False, "hidden_units": 3},
    ),
    "gates": (ChannelAttention, {"combine": "gates"}),
    "batch-norm": (
        SpatialAttention,
        {"batch_norm": True, "pool_types": ("max", "avg"), "kernel_size": 3},
    ),
    "conv-bias": (
        SpatialAttention,
        {"pool_types": "conv", "use_bias": True, "dilation_rate": 2},
    ),
    "parallel": (CBAM, {"order": "parallel", "reduction_ratio": 4}),
    "spatial-first": (
        CBAM,
        {"order": "spatial_first", "spatial_batch_norm": True},
    ),
    "identity": (CBAM, {"identity_init": True, "combine": "gates"}),
    # A ReLU may leave none of a few units.
    "BAM": (BAM, {"activation": "sigmoid"}),
    "bam-multiply": (BAM, {"combine": "multiply", "activation": "sigmoid"}),
    "scse-add": (SCSE, {"combine": "add"}),
    "gc-multiply": (GlobalContext, {"fusion": "multiply"}),
}
# The variants of layers with `identity_init`.
TRAINABLE = [name for name in VARIANTS if VARIANTS[name][0] is not SimAM]
every_variant = pytest.mark.parametrize("variant", VARIANTS)
# Options add no operation that a backend computes in a way of its own.
OF_BACKEND = [
    name
    for name in VARIANTS
    if name[0].isupper() or keras.backend.backend() == "tensorflow"
]


def marked(variant, *values):
    """Returns a row that every backend runs if it has no options."""
    marks = every_backend if variant[0].isupper() else ()
    return pytest.param(variant, *values, marks=marks)


every_layer_and_backend = pytest.mark.parametrize(
    "variant", [*map(marked, VARIANTS)]
)


def make(variant, **options):
    layer_class, defaults = VARIANTS[variant]
    return layer_class(**{**defaults, **options})


def model_of_variants(shape, variants=VARIANTS, **options):
    """Returns a model with an output for each variant."""
    inputs = keras.Input(shape)
    return keras.Model(
        inputs,
        {name: make(name, name=name, **options)(inputs) for name in variants},
    )


@every_variant
def test_config_survives_use_and_gives_an_equal_layer(variant):
    layer = make(variant)
    before = layer.get_config()
    built(layer)
    x = random_input()
    expected = output(layer, x)
    config = layer.get_config()
    assert config == before
    arguments = arguments_of(type(layer))
    assert set(config) - {"name", "trainable", "dtype"} == arguments
    assert layer.compute_output_shape(SHAPE) == SHAPE
    copy = type(layer).from_config(json.loads(json.dumps(config)))
    copy.build(SHAPE)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(output(copy, x), expected)


@pytest.mark.parametrize(
    "variant, shape",
    [
        *(marked(name, SHAPE) for name in VARIANTS),
        ("batch-norm", (2, 9, 16)),
        ("parallel", (2, 9, 16)),
        ("lp-lse", (2, 4, 7, 5, 16)),
        ("conv-bias", (2, 4, 7, 5, 16)),
        ("CBAM", (2, 4, 7, 5, 16)),
        ("BAM", (2, 9, 16)),
        ("BAM", (2, 4, 7, 5, 16)),
        ("CoordinateAttention", (2, 4, 7, 5, 16)),
        ("EfficientChannelAttention", (2, 9, 16)),
        ("GlobalContext", (2, 4, 7, 5, 16)),
        ("SimAM", (2, 9, 16)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value) - 2}d",
)
def test_data_formats_agree(variant, shape):
    last = built(make(variant, data_format="channels_last"), shape)
    first = make(variant, data_format="channels_first")
    x = random_input(shape)
    moved = np.moveaxis(x, -1, 1)
    first.build(moved.shape)
    first.set_weights(last.get_weights())
    found = np.moveaxis(output(first, moved), 1, -1)
    # The order of sums differs: float32 rounding.
    assert_close(found, output(last, x), 1e-5)


@every_backend
def test_height_and_width_may_be_unknown():
    model = randomize(model_of_variants((None, None, 16), OF_BACKEND))
    for found in model.output.values():
        assert found.shape == (None, None, None, 16)
    for shape in ((2, 5, 4, 16), SHAPE):
        for found in model(random_input(shape)).values():
            assert found.shape == shape
            assert np.isfinite(to_numpy(found)).all()


@every_layer_and_backend
def test_an_empty_batch_is_computed_and_changes_nothing(variant):
    layer = built(make(variant))
    averages = [to_numpy(v) for v in layer.non_trainable_variables]
    x = random_input((0, *SHAPE[1:]))
    mask = np.ones(x.shape[:-1], "bool")
    (y, *state), gradients = call_and_gradients(layer, x, x, training=True)
    outputs = (
        y,
        output(layer, x, mask=mask),
        model_of(layer).predict_on_batch(x),
    )
    assert [found.shape for found in outputs] == [x.shape] * 3
    assert all(0 in gate_map.shape for gate_map in maps_of(layer, x))
    # NaN would reach all weights.
    assert not any(gradient.any() for gradient in gradients)
    for found, average in zip(state, averages, strict=True):
        assert_close(found, average, rtol=1e-6)


def maps_of(layer, x, **options):
    if hasattr(layer, "attention_maps"):
        return [*layer.attention_maps(x, **options)]
    return [layer.attention_map(x, **options)]


@every_layer_and_backend
def test_a_call_returns_the_maps_it_multiplies_by(variant):
    layer, x = built(make(variant)), random_input()
    mask = np.arange(7)[None, :, None] < [[[6]], [[7]]]
    for options in ({}, {"mask": np.broadcast_to(mask, x.shape[:-1])}):
        outputs, returned = layer(x, return_attention_maps=True, **options)
        is_pair = isinstance(returned, tuple)
        assert is_pair == hasattr(layer, "attention_maps")
        expected = output(layer, x, **options)
        # The fused operation sums in another order.
        assert_all_close([to_numpy(outputs)], [expected], 1e-5)
        maps = [to_numpy(gate_map) for gate_map in keras.tree.flatten(returned)]
        assert_all_close(
            maps, [to_numpy(y) for y in maps_of(layer, x, **options)], 1e-6
        )
    # The formula of a layer with two gates, or one that adds, is its own.
    if type(layer) not in (SCSE, GlobalContext):
        product = functools.reduce(np.multiply, maps, x)
        assert_all_close([to_numpy(outputs)], [product], 1e-5, cast=True)


# Keras 3.10 warns of loaded models that are called with an array.
@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
@every_backend
def test_maps_in_a_model_follow_its_weights(tmp_path):
    inputs = keras.Input(SHAPE[1:])
    # Few options change what a call with maps gives.
    names = [name for name in VARIANTS if name[0].isupper()]
    layers = [make(name) for name in (*names, "spatial-first")]
    outputs = [layer(inputs, return_attention_maps=True) for layer in layers]
    model = keras.Model(inputs, keras.tree.flatten(outputs))
    randomize(model)
    x = random_input()
    losses = ["mse"] * len(model.outputs)
    eagerly = keras.backend.backend() != "jax"
    model.compile("sgd", losses, run_eagerly=eagerly)
    model.train_on_batch(x, [to_numpy(0 * y) for y in model(x)])
    expected = [[layer(x), *maps_of(layer, x)] for layer in layers]
    expected = [to_numpy(y) for y in sum(expected, [])]
    assert [y.shape[1:] for y in expected] == [
        y.shape[1:] for y in model.outputs
    ]
    model.save(tmp_path / "model.keras")
    copies = [
        model,
        keras.saving.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
    ]
    copies[2].set_weights(model.get_weights())
    for copy in copies:
        assert_all_close([to_numpy(y) for y in copy(x)], expected, 1e-5)


def test_maps_are_asked_for_in_a_call_of_the_layer():
    inputs = keras.Input(SHAPE[1:])
    mistakes = (
        ChannelAttention().attention_map,
        SimAM().attention_map,
        CBAM().attention_maps,
        SCSE().attention_maps,
        # Its operations would hold the weights of that moment as constants.
        ChannelAttention().call,
    )
    for method in mistakes:
        with pytest.raises(TypeError, match="return_attention_maps=True"):
            method(inputs)


def test_maps_of_derived_layers():
    inputs, x = keras.Input(SHAPE[1:]), random_input()
    layer = Halved(4)
    outputs = layer(inputs, return_attention_maps=True)
    model = randomize(keras.Model(inputs, outputs))
    gate_map = to_numpy(layer.attention_map(x))
    for found, expected in zip(model(x), (gate_map * x, gate_map), strict=True):
        assert_close(found, expected, rtol=1e-5)
    # One without the argument still gives its output, and its maps by method.
    layer = Doubled(4)
    assert layer(inputs).shape == inputs.shape
    channel, spatial = layer.attention_maps(x)
    product = 2 * x * to_numpy(channel * spatial)
    assert_close(layer(x), product, rtol=1e-4)
    with pytest.raises(TypeError, match="return_attention_maps"):
        layer(x, return_attention_maps=True)


@every_layer
def test_data_format_follows_the_global_setting(layer_class):
    keras.config.set_image_data_format("channels_first")
    layer = layer_class()
    keras.config.set_image_data_format("channels_last")
    assert layer.data_format == "channels_first"
    assert output(layer, random_input((2, 16, 7, 5))).shape == (2, 16, 7, 5)


@pytest.mark.usefixtures("float64")
@every_layer_and_backend
def test_gradients_equal_finite_differences(variant):
    shape = (2, 3, 4, 6)
    layer = built(make(variant, dtype="float64"), shape)
    x = random_input(shape, "float64")
    weighting = random_input(shape, "float64", seed=3)
    # They reach every weight; a softmax has none by the bias of its logits.
    _, (_, *found) = call_and_gradients(layer, x, weighting, False, FAST)
    assert all(
        np.abs(gradient).max() > 0 or "weighting_bias" in variable.path
        for variable, gradient in zip(
            layer.trainable_variables, found, strict=True
        )
    )
    _, found = call_and_gradients(layer, x, weighting, True, FAST)
    rng = np.random.default_rng(4)
    step = 1e-6
    variables = layer.trainable_variables
    values = [x, *(to_numpy(variable) for variable in variables)]

    def total(changed):
        for variable, value in zip(variables, changed[1:], strict=True):
            variable.assign(value)
        y = output(layer, changed[0], training=True)
        return float((y * weighting).sum())

    for index, value in enumerate(values):
        # A random direction through all elements of one array.
        direction = rng.normal(size=value.shape)
        plus, minus = list(values), list(values)
        plus[index] = value + step * direction
        minus[index] = value - step * direction
        expected = (total(plus) - total(minus)) / (2 * step)
        slope = (found[index] * direction).sum()
        # Central differences: error of order step squared plus rounding.
        assert_close(slope, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.half_precision
@pytest.mark.parametrize(
    "variant, policy",
    [
        *(marked(name, "mixed_float16") for name in VARIANTS),
        ("spatial-first", "mixed_bfloat16"),
    ],
)
def test_mixed_precision_keeps_weights_and_is_near_float32(variant, policy):
    exact = built(make(variant))
    half = make(variant, dtype=policy)
    half.build(SHAPE)
    half.set_weights(exact.get_weights())
    x = random_input()
    result, expected = half(x), output(exact, x)
    assert keras.backend.standardize_dtype(result.dtype) == policy[6:]
    assert all(weight.dtype == "float32" for weight in weights_of(half))
    # Input, map and product are rounded to 11 or 8 bits.
    assert_close(ops.cast(result, "float32"), expected, rtol=0.03, atol=0.03)


@every_backend
@pytest.mark.half_precision
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_gates_with_weights_of_float32(policy):
    layer = ChannelAttention(
        pool_types="avg", hidden_units=1, activation=None, dtype=policy
    )
    layer.build((1, 1, 1, 1))
    # In half precision, the first kernel would be 1 and the gate 0.5.
    for variable, value in zip(
        layer.variables, (1 + 2**-12, 1, 0, -1000), strict=True
    ):
        variable.assign(np.full(variable.shape, value))
    x = np.full((1, 1, 1, 1), 1000, "float32")
    gate = 1 / (1 + np.exp(-1000 * 2**-12))
    assert_close(ops.cast(layer(x), "float32"), x * gate, rtol=0.01)


@every_backend
@pytest.mark.half_precision
@pytest.mark.parametrize("variant", ["lp-lse", "conv-bias", "CBAM", "identity"])
def test_large_float16_values_give_finite_gates(variant):
    layer = built(make(variant, dtype="float16"), (1, 32, 32, 16))
    # Their sum and their squares leave the range of float16, twice the gate
    # of `identity_init` does not.
    x = np.full((1, 32, 32, 16), 1.5e4, "float16")
    assert np.isfinite(output(layer, x)).all()


@pytest.mark.half_precision
@pytest.mark.parametrize(
    "variant, policy",
    [
        *((name, "float32") for name in TRAINABLE),
        *(marked(name, "mixed_float16") for name in TRAINABLE),
        ("spatial-first", "mixed_bfloat16"),
    ],
)
def test_identity_init_returns_the_input_exactly(variant, policy):
    layer = make(
        variant, identity_init=True, bias_initializer="ones", dtype=policy
    )
    x = ops.cast(random_input(), policy.removeprefix("mixed_"))
    found, expected = (ops.cast(y, "float32") for y in (layer(x), x))
    np.testing.assert_array_equal(to_numpy(found), to_numpy(expected))


def test_identity_init_trains_away_from_the_identity():
    # Positive features and kernels: no hidden unit is dead from the start.
    model = model_of_variants(
        SHAPE[1:],
        # Kernel and gamma of a normalized map may not both start at zero.
        ["batch-norm", *(name for name in TRAINABLE if name[0].isupper())],
        identity_init=True,
        kernel_initializer=keras.initializers.RandomUniform(0.5, 1.5, seed=1),
    )
    before = model.get_weights()
    x = np.abs(random_input())
    losses = dict.fromkeys(model.output, "mse")
    model.compile(keras.optimizers.Adam(0.01), losses, run_eagerly=True)
    # Some channels are to grow and some to shrink: SCSE takes the larger gate.
    target = 2 * x * (np.arange(16) % 2)
    model.fit(x, dict.fromkeys(losses, target), epochs=3, verbose=0)
    unchanged = [
        variable.path
        for variable, old in zip(model.weights, before, strict=True)
        if np.array_equal(to_numpy(variable), old)
    ]
    assert not unchanged
