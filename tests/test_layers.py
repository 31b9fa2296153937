"""The contract that every public attention layer keeps."""

import inspect
import json

import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import (
    LAYERS,
    built,
    every_layer,
    gradients,
    model_of,
    output,
    random_input,
    randomize,
    to_numpy,
    weights_of,
)

from cbam_keras import CBAM, ChannelAttention, SpatialAttention, SqueezeExcite

every_backend = pytest.mark.every_backend

# Each layer with its defaults and with options that add weights or states.
VARIED = [
    pytest.param(layer, options, id=f"{layer.__name__}-{label}")
    for layer, label, options in [
        *((layer, "defaults", {}) for layer in LAYERS),
        (ChannelAttention, "lp-lse", {"pool_types": ("lp", "lse")}),
        (ChannelAttention, "no-bias", {"use_bias": False, "hidden_units": 3}),
        (SqueezeExcite, "ratio-4", {"reduction_ratio": 4}),
        (
            SpatialAttention,
            "batch-norm",
            {
                "batch_norm": True,
                "pool_types": ("max", "avg"),
                "kernel_size": 3,
            },
        ),
        (
            SpatialAttention,
            "conv-bias",
            {"pool_types": "conv", "use_bias": True, "dilation_rate": 2},
        ),
        (CBAM, "parallel", {"order": "parallel", "reduction_ratio": 4}),
        (
            CBAM,
            "spatial-first",
            {"order": "spatial_first", "spatial_batch_norm": True},
        ),
        (CBAM, "identity", {"identity_init": True}),
    ]
]
every_variant = pytest.mark.parametrize("layer_class, options", VARIED)


def test_all_four_layers_are_checked():
    assert set(LAYERS) == {
        ChannelAttention,
        SpatialAttention,
        CBAM,
        SqueezeExcite,
    }


@every_variant
def test_config_round_trip_gives_equal_outputs(layer_class, options):
    layer = built(layer_class(**options))
    config = json.loads(json.dumps(layer.get_config()))
    copy = layer_class.from_config(config)
    copy.build((2, 7, 5, 16))
    copy.set_weights(layer.get_weights())
    x = random_input()
    np.testing.assert_array_equal(output(copy, x), output(layer, x))


@every_variant
def test_config_is_the_same_before_and_after_use(layer_class, options):
    layer = layer_class(**options)
    before = layer.get_config()
    layer(random_input())
    assert layer.get_config() == before


@every_layer
def test_config_holds_every_argument(layer_class):
    arguments = set(inspect.signature(layer_class).parameters) - {"kwargs"}
    own = set(layer_class().get_config()) - {"name", "trainable", "dtype"}
    assert own == arguments


@every_variant
def test_keras_file_round_trip_gives_equal_outputs(
    layer_class, options, tmp_path
):
    model = model_of(layer_class(**options))
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = random_input()
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )


@every_backend
@every_variant
def test_symbolic_eager_and_declared_shapes_agree(layer_class, options):
    layer = layer_class(**options)
    symbolic = model_of(layer).output_shape
    assert symbolic == (None, 7, 5, 16)
    assert output(layer, random_input()).shape == (2, 7, 5, 16)
    assert layer.compute_output_shape((2, 7, 5, 16)) == (2, 7, 5, 16)


@every_variant
def test_training_flag_is_taken(layer_class, options):
    layer = built(layer_class(**options))
    assert output(layer, random_input(), training=True).shape == (2, 7, 5, 16)


@every_backend
@pytest.mark.parametrize(
    "shape",
    [(2, 9, 16), (2, 7, 5, 16), (2, 4, 7, 5, 16)],
    ids=["1d", "2d", "3d"],
)
@every_variant
def test_data_formats_agree_in_every_rank(layer_class, options, shape):
    last = built(layer_class(**options, data_format="channels_last"), shape)
    first = layer_class(**options, data_format="channels_first")
    x = random_input(shape)
    moved = np.moveaxis(x, -1, 1)
    first.build(moved.shape)
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(
        np.moveaxis(output(first, moved), 1, -1),
        output(last, x),
        # The order of sums differs: float32 rounding.
        atol=1e-5,
    )


@every_layer
def test_data_format_follows_the_global_setting(layer_class):
    keras.config.set_image_data_format("channels_first")
    layer = layer_class()
    keras.config.set_image_data_format("channels_last")
    assert layer.data_format == "channels_first"
    assert output(layer, random_input((2, 16, 7, 5))).shape == (2, 16, 7, 5)


@every_backend
@every_variant
def test_unknown_sizes_are_taken(layer_class, options):
    model = model_of(layer_class(**options), (None, None, 16))
    randomize(model)
    assert model.output_shape == (None, None, None, 16)
    for_five = model.predict(random_input((2, 5, 4, 16)), verbose=0)
    assert for_five.shape == (2, 5, 4, 16)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 7, 5, 16),
        (2, 1, 5, 16),
        (2, 7, 1, 16),
        pytest.param((1, 1, 1, 16), marks=every_backend),
        pytest.param((2, 7, 5, 1), marks=every_backend),
    ],
    ids=["batch-1", "height-1", "width-1", "all-1", "one-channel"],
)
@every_variant
def test_sizes_of_one_work(layer_class, options, shape):
    layer = built(layer_class(**options), shape)
    result = output(layer, random_input(shape))
    assert result.shape == shape
    assert np.isfinite(result).all()


@every_variant
def test_gradients_reach_every_trainable_weight(layer_class, options):
    layer = built(layer_class(**options))
    x = random_input()
    found = gradients(layer, x, random_input(seed=3))
    assert all(np.abs(gradient).max() > 0 for gradient in found)


# BatchNormalization itself computes in float32 under JAX and PyTorch.
FLOAT64 = [
    parameters
    for parameters in VARIED
    if not {"batch_norm", "spatial_batch_norm"} & set(parameters.values[1])
    or keras.backend.backend() == "tensorflow"
]


@every_backend
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("layer_class, options", FLOAT64)
def test_gradients_equal_finite_differences(layer_class, options):
    shape = (2, 3, 4, 6)
    layer = built(layer_class(**options, dtype="float64"), shape)
    x = random_input(shape, "float64")
    weighting = random_input(shape, "float64", seed=3)
    found = gradients(layer, x, weighting)
    rng = np.random.default_rng(4)
    step = 1e-6
    variables = layer.trainable_variables
    values = [x, *(to_numpy(variable) for variable in variables)]

    def total(changed):
        for variable, value in zip(variables, changed[1:], strict=True):
            variable.assign(value)
        return float((output(layer, changed[0]) * weighting).sum())

    for index, value in enumerate(values):
        # A random direction through all elements of one array.
        direction = rng.normal(size=value.shape)
        plus, minus = list(values), list(values)
        plus[index] = value + step * direction
        minus[index] = value - step * direction
        expected = (total(plus) - total(minus)) / (2 * step)
        # Central differences: error of order step squared plus rounding.
        np.testing.assert_allclose(
            (found[index] * direction).sum(), expected, rtol=1e-5, atol=1e-7
        )


@every_backend
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@every_variant
def test_mixed_precision_keeps_weights_and_is_near_float32(
    layer_class, options, policy
):
    exact = built(layer_class(**options))
    half = layer_class(**options, dtype=policy)
    half.build((2, 7, 5, 16))
    half.set_weights(exact.get_weights())
    x = random_input()
    result = half(x)
    assert keras.backend.standardize_dtype(result.dtype) == policy[6:]
    assert {weight.dtype for weight in weights_of(half)} == {
        np.dtype("float32")
    }
    np.testing.assert_allclose(
        to_numpy(ops.cast(result, "float32")),
        output(exact, x),
        # Input, map and product are rounded to 11 or 8 bits.
        rtol=0.03,
        atol=0.03,
    )


@every_backend
@every_variant
def test_large_float16_values_give_finite_gates(layer_class, options):
    layer = built(layer_class(**options, dtype="float16"), (1, 32, 32, 16))
    # Their sum and their squares leave the range of float16, twice the gate
    # of `identity_init` does not.
    x = np.full((1, 32, 32, 16), 1.5e4, "float16")
    result = output(layer, x)
    assert np.isfinite(result).all()


@every_backend
@pytest.mark.parametrize("dtype", ["float16", "int32", "float64"])
@every_layer
def test_any_numeric_input_is_cast(layer_class, dtype):
    layer = built(layer_class())
    x = (10 * random_input()).astype(dtype)
    np.testing.assert_allclose(
        output(layer, x), output(layer, x.astype("float32")), atol=1e-6
    )


@every_layer
def test_fewer_channels_than_the_reduction_ratio_work(layer_class):
    x = random_input((2, 7, 5, 3))
    assert output(layer_class(), x).shape == x.shape


@every_backend
@every_variant
def test_compiled_training_step_works(layer_class, options):
    if keras.backend.backend() == "torch":
        pytest.skip("torch.compile takes a minute: see test_layers_cbam.py")
    x = random_input()
    model = model_of(layer_class(**options))
    model.compile("sgd", loss="mse", jit_compile=True)
    history = model.fit(x, x, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    np.testing.assert_allclose(
        model.predict(x, verbose=0),
        output(model, x),
        # Fused operations round differently.
        atol=1e-5,
    )


@every_backend
@every_variant
def test_identity_init_returns_the_input_exactly(layer_class, options):
    options = {**options, "identity_init": True}
    layer = layer_class(**options, bias_initializer="ones")
    x = random_input()
    np.testing.assert_array_equal(output(layer, x), x)


@every_backend
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@every_layer
def test_identity_init_is_exact_in_half_precision(layer_class, policy):
    layer = layer_class(identity_init=True, dtype=policy)
    x = ops.cast(random_input(), policy[6:])
    np.testing.assert_array_equal(
        to_numpy(ops.cast(layer(x), "float32")),
        to_numpy(ops.cast(x, "float32")),
    )


@every_variant
def test_identity_init_trains_away_from_the_identity(layer_class, options):
    # Positive features and kernels: no hidden unit is dead from the start.
    options = {**options, "identity_init": True, "kernel_initializer": "ones"}
    model = model_of(layer_class(**options))
    x = np.abs(random_input())
    model.compile(keras.optimizers.Adam(0.01), loss="mse")
    before = model.get_weights()
    model.fit(x, 2 * x, epochs=3, verbose=0)
    changed = [
        not np.array_equal(old, new)
        for old, new in zip(before, model.get_weights(), strict=True)
    ]
    assert all(changed)


@every_layer
def test_identity_init_refuses_a_gate_without_a_scale(layer_class):
    with pytest.raises(ValueError, match="identity_init.*power of two"):
        layer_class(identity_init=True, gate_activation="tanh")


@every_backend
@every_layer
def test_masks_pass_through(layer_class):
    inputs = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(9, 8, mask_zero=True)(inputs)
    masked = layer_class()(x)
    assert masked._keras_mask is x._keras_mask


@every_backend
@every_layer
def test_two_layers_start_with_different_weights(layer_class):
    one, two = built_fresh(layer_class()), built_fresh(layer_class())
    assert not np.array_equal(one[0], two[0])


@every_backend
@every_layer
def test_the_seed_fixes_the_weights(layer_class):
    keras.utils.set_random_seed(5)
    one = built_fresh(layer_class())
    keras.utils.set_random_seed(5)
    two = built_fresh(layer_class())
    np.testing.assert_array_equal(one[0], two[0])


def built_fresh(layer):
    layer.build((2, 7, 5, 16))
    return weights_of(layer)


@every_layer
def test_variables_are_made_in_build(layer_class):
    layer = layer_class()
    assert not layer.variables
    layer.build((None, None, None, 16))
    made = len(layer.variables)
    layer(random_input())
    assert len(layer.variables) == made > 0


@every_layer
def test_frozen_layer_has_no_trainable_weights(layer_class):
    layer = built(layer_class())
    layer.trainable = False
    assert not layer.trainable_variables
