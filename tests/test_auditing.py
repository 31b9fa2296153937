"""What `audit` finds in right, wrong and our own layers."""

import random

import audit_copies as copies
import keras
import numpy as np
import pytest
from layer_checks import weights_of

import cbam_keras
from cbam_keras import CBAM, VARIANTS, SpatialAttention

# Keras says so when it builds layers that have no `build` of their own.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have a `build:UserWarning"
)

# Other backends trace a model of unknown height and width for certain ones.
IS_TRACED_BY_SIZE = keras.backend.backend() != "tensorflow"
LINEAR = "There is no activation within the MLP."
POOLS = ("avg", "max", "lse")


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("recommended", "linear_perceptron")
        else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in VARIANTS
    ],
)
def test_our_variants_are_recognized(name):
    layer = CBAM(**VARIANTS[name])
    result = cbam_keras.audit(layer)
    assert not layer.built
    assert result.variant == name
    linear = [LINEAR] if name == "linear_perceptron" else []
    assert [*result.departures] == linear
    assert result.unchecked == ()


@pytest.mark.parametrize(
    "layer, variant, departures, choices",
    [
        (copies.TorchStorage(), "luuuyi", [], ["MLP has no biases."]),
        (copies.Normalized(9), None, [], ["normalizes", "C / r is truncated"]),
        (CBAM(9, 3), "paper", [], ["is rounded or rounded", "is 3 x 3."]),
        (copies.Correct(8, 6), None, ["is not centred"], ["is 6 x 6."]),
        (SpatialAttention, None, ["no channel attention"], []),
        (CBAM(order="spatial_first"), None, ["spatial gate comes before"], []),
        (CBAM(order="parallel"), None, ["in parallel"], []),
        (
            CBAM(channel_pool_types=POOLS),
            None,
            ["by the average and the maximum over positions alone"],
            [],
        ),
        (CBAM(spatial_pool_types="max"), None, ["by the maximum over"], []),
        (CBAM(channel_pool_types="avg"), None, ["by the average over"], []),
        (
            CBAM(gate_activation="hard_sigmoid"),
            None,
            ["channel gate is not a sigmoid", "spatial gate is not a sigmoid"],
            [],
        ),
        (CBAM(data_format="channels_first"), "paper", [], []),
        (CBAM(identity_init=True), "paper", [], ["are 1 at rest"]),
        (CBAM(hidden_units=6), "paper", [], ["width of 6 for "]),
    ],
    ids=range(14),
)
def test_departures_are_told_from_choices(layer, variant, departures, choices):
    result = cbam_keras.audit(layer)
    for text, part in zip(result.departures, departures, strict=True):
        assert part in text
    assert [x for x in choices if not any(x in y for y in result.choices)] == []
    assert result.variant == variant


WRONG = {
    "TwoMLPs": ["do not share one MLP"],
    "ReluBeforeSigmoid": ["never below one half: a ReLU precedes"],
    "MoreInBothGates": ["is not a ReLU", "not one convolution"],
    "IdleRatio": [
        "adds its input",
        "The argument `ratio` does nothing",
        "ratio=8 the MLP has a width of 2 for 38 channels, not 5",
    ],
    "ReturnsMap": ["The output has the shape"],
    "ForgetsRatio": [
        "applied to each pooled branch",
        "`get_config` lacks the arguments ratio",
    ],
    "NoSigmoidNorReLU": ["channel gate has no sigmoid", LINEAR],
    "PoolsOneAxis": ["channel map varies between positions"],
    "NormInMLP": ["batch normalization is outside the spatial gate"],
    "ThreeLayers": ["3 dense layers, not two"],
    "OtherwiseForSome": [
        "(features after a ReLU, features 20 times as large, a single image, "
        "training=True, features of 40 x 44)"
    ],
    "NoConfig": ["`from_config(get_config())` fails"],
    "BuiltInCall": ["no trainable kernels"],
    "with_lambda": ["does not load (ValueError: Requested"],
    "Tutorial": [
        "fails for features of 15 x 13, not for 16 x 16",
        "The channel gate is a ReLU in place of a sigmoid",
        LINEAR,
        "There are 32 spatial maps in place of one",
        *["must be known in advance"] * IS_TRACED_BY_SIZE,
    ],
}


@pytest.mark.parametrize(
    "name, parts",
    [
        *WRONG.items(),
        pytest.param(
            "Float32",
            ["With mixed_float16 the output is float32"],
            marks=pytest.mark.every_backend,
        ),
        pytest.param(
            "StaticSize",
            ["Height and width must be known in advance"],
            marks=pytest.mark.skipif(
                IS_TRACED_BY_SIZE,
                reason="other backends trace a model for each size",
            ),
        ),
    ],
)
def test_wrong_copies_are_named_by_each_of_their_mistakes(name, parts):
    made = getattr(copies, name)
    alone = name in ("BuiltInCall", "with_lambda")
    result = cbam_keras.audit(made if alone else made(ratio=8))
    for text, part in zip(result.departures, parts, strict=True):
        assert part in text


@pytest.mark.parametrize(
    "make, variant, unchecked",
    [
        (lambda: copies.block, "kobiso_keras", 0),
        (lambda: copies.functional, "kobiso_keras", 0),
        (lambda: copies.Subclassed, "kobiso_keras", 0),
        # Its layers keep their dtype.
        (lambda: copies.functional(32), "kobiso_keras", 1),
        # Its weights are more than those of the formula.
        (lambda: copies.LayerScale(ratio=8), None, 1),
        (lambda: lambda channels: CBAM(8), "kobiso_keras", 0),
    ],
    ids=range(6),
)
def test_right_layers_are_recognized_in_any_form(make, variant, unchecked):
    result = cbam_keras.audit(make())
    assert result.departures == ()
    assert result.variant == variant
    assert len(result.unchecked) == unchecked


def test_nothing_of_the_users_is_changed():
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = CBAM(8)
    layer.build((None, 5, 7, 16))
    before, config = weights_of(layer), layer.get_config()
    state, drawn = random.getstate(), np.random.get_state()
    cbam_keras.audit(layer)
    for old, new in zip(before, weights_of(layer), strict=True):
        np.testing.assert_array_equal(old, new)
    assert layer.get_config() == config
    assert 16 in layer.input_spec.axes.values()
    assert random.getstate() == state
    np.testing.assert_equal(np.random.get_state(), drawn)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


@pytest.mark.parametrize(
    "layer, error, message",
    [
        (3, TypeError, "`layer` must be a keras layer, or a callable"),
        (lambda: CBAM(), ValueError, "takes 0 positional arguments"),
        (lambda channels: 3, ValueError, "returns 3 in place of a keras layer"),
        (keras.layers.Conv1D(4, 3), ValueError, "must take features"),
    ],
    ids=["number", "no_channels", "no_layer", "no_gate"],
)
def test_what_is_no_layer_is_refused(layer, error, message):
    with pytest.raises(error, match=message):
        cbam_keras.audit(layer)
