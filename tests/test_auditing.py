"""What `audit` says of our own layers and of those of others."""

import functools
import random

import audit_copies as copies
import keras
import numpy as np
import pytest
from layer_checks import built, weights_of

import cbam_keras
from cbam_keras import CBAM, VARIANTS, SpatialAttention, SqueezeExcite

# Keras says so when it builds layers that have no `build` of their own.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have a `build:UserWarning"
)


@pytest.mark.every_backend
@pytest.mark.parametrize("name", VARIANTS)
def test_our_variants_are_recognized(name):
    layer = CBAM(**VARIANTS[name])
    result = cbam_keras.audit(layer)
    assert not layer.built
    assert result.variant == name
    assert result.departures == ()
    assert result.difference < 1e-5
    assert result.differences[name] == result.difference
    assert result.verdict == f'It equals VARIANTS["{name}"].'


@pytest.mark.parametrize(
    "options",
    [
        {"order": "parallel"},
        {"order": "spatial_first", "spatial_batch_norm": True},
        {"use_bias": False, "spatial_use_bias": True},
        {"spatial_pool_types": ("conv",), "identity_init": True},
        {"spatial_pool_types": ("max",), "channel_pool_types": ("avg",)},
        # The formula of "linear_perceptron", with another ratio.
        {"use_bias": False, "activation": None},
        # A single unit: whether it has a ReLU shows only if it has both signs.
        {"hidden_units": 1, "activation": None, "order": "spatial_first"},
        {"hidden_units": 1, "channel_pool_types": ("max",), "kernel_size": 3},
    ],
    ids=str,
)
def test_other_options_are_named(options):
    result = cbam_keras.audit(CBAM(**options))
    assert result.variant is None
    assert result.departures == ()
    assert result.options == options
    named = ", ".join(f"{x}={value!r}" for x, value in result.options.items())
    assert result.verdict == f"It equals CBAM({named})."


@pytest.mark.parametrize(
    "make, variant, sizes",
    [
        (lambda: copies.block, "kobiso_keras", {}),
        (lambda: copies.functional, "kobiso_keras", {}),
        (lambda: copies.functional(24, size=9), "kobiso_keras", {}),
        (lambda: copies.Subclassed, "kobiso_keras", {}),
        (lambda: copies.Channels, "kobiso_keras", {}),
        (lambda: copies.Channels(48), "kobiso_keras", {}),
        (lambda: lambda channels: CBAM(8), "kobiso_keras", {}),
        (lambda: functools.partial(CBAM, 8), "kobiso_keras", {}),
        # C / r is 7.1.
        (
            lambda: copies.TorchStorage(9, kernel_size=5),
            "luuuyi",
            {"hidden_units": 7, "kernel_size": 5},
        ),
        (lambda: CBAM(data_format="channels_first"), "paper", {}),
        (lambda: CBAM(4, trainable=False), "paper", {"hidden_units": 16}),
        (
            lambda: built(CBAM(dtype="mixed_float16"), (None, 5, 7, 24)),
            "paper",
            {"hidden_units": 2},
        ),
    ],
    ids=range(12),
)
def test_layers_are_recognized_in_any_form(make, variant, sizes):
    result = cbam_keras.audit(make())
    assert result.departures == ()
    assert result.variant == variant
    assert result.options == {**VARIANTS[variant], **sizes}


def test_another_epsilon_is_no_departure():
    result = cbam_keras.audit(copies.Normalized(9))
    assert result.options == {"spatial_batch_norm": True, "hidden_units": 7}
    assert result.departures == ()


@pytest.mark.parametrize(
    "layer, nearest, parts",
    [
        (copies.SigmoidOfEach, "paper", ["the outputs differ by up to"]),
        (
            CBAM(8, gate_activation="hard_sigmoid"),
            "kobiso_keras",
            ["the outputs differ by up to"],
        ),
        (copies.TwoMLPs, "paper", ["has more weights like", "(64, 4)"]),
        (
            copies.Correct(8, kernel_size=6),
            "kobiso_keras",
            ["lacks weights like spatial_attention/kernel (7, 7, 2, 1).", "6"],
        ),
        (SqueezeExcite, "paper", ["lacks weights like spatial_attention/"]),
        (SpatialAttention, "luuuyi", ["channel_attention/excite_kernel (4, 6"]),
        (copies.ReturnsMap, "paper", ["shape (8, 64), not (8, 12, 10, 64)."]),
        (copies.Infinite, "paper", ["Its output is not finite."]),
    ],
    ids=range(8),
)
def test_departures_are_from_the_nearest_variant(layer, nearest, parts):
    result = cbam_keras.audit(layer)
    assert result.variant is None
    assert result.difference > 0.1
    first, *others = result.departures
    assert first == f'The nearest variant is VARIANTS["{nearest}"].'
    assert [part for part in parts if part not in " ".join(others)] == []
    assert result.verdict == " ".join(result.departures)


def test_nothing_of_the_users_is_changed():
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = CBAM(8, trainable=False, dtype="float32")
    layer.build((None, 5, 7, 64))
    before, config = weights_of(layer), layer.get_config()
    state, drawn = random.getstate(), np.random.get_state()
    cbam_keras.audit(layer)
    cbam_keras.audit(lambda channels: layer)
    for old, new in zip(before, weights_of(layer), strict=True):
        np.testing.assert_array_equal(old, new)
    assert layer.get_config() == config
    assert random.getstate() == state
    np.testing.assert_equal(np.random.get_state(), drawn)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


@pytest.mark.parametrize(
    "layer, error, message",
    [
        (3, TypeError, "`layer` must be a keras layer, or a callable"),
        (lambda: CBAM(), ValueError, "takes 0 positional arguments"),
        (lambda channels: 3, ValueError, "returns 3 in place of a layer"),
        (keras.layers.Conv1D(4, 3), ValueError, "must take features"),
    ],
    ids=["number", "no_channels", "no_layer", "signals"],
)
def test_what_is_no_layer_is_refused(layer, error, message):
    with pytest.raises(error, match=message):
        cbam_keras.audit(layer)
