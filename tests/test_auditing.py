"""What `audit` finds in right, wrong and our own layers."""

import random
import re

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

LINEAR = "There is no activation between the two dense layers"


def missing(parts, texts):
    """Returns the parts that no text has."""
    return [part for part in parts if not any(part in text for text in texts)]


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("kobiso_tensorflow", "linear_perceptron")
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
    assert [text[: len(LINEAR)] for text in result.departures] == linear
    assert result.unchecked == ()


@pytest.mark.parametrize(
    "options, variant, choices",
    [
        ({"mlp_bias": False}, "luuuyi", ["The MLP has no biases."]),
        (
            {"normalize": True, "ratio": 9},
            None,
            ["normalizes before its sigmoid.", "C / r is truncated."],
        ),
        (
            {"ratio": 9, "rounds": True, "kernel_size": 3},
            "paper",
            [
                "The MLP has biases.",
                "C / r is rounded or rounded",
                "convolution is 3 x 3.",
            ],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_right_layers_raise_no_alarm(options, variant, choices):
    result = cbam_keras.audit(copies.Correct(**options))
    assert result.departures == ()
    assert result.variant == variant
    assert missing(choices, result.choices) == []


@pytest.mark.parametrize(
    "options, departures, choices",
    [
        ({"order": "spatial_first"}, ["spatial gate comes before"], []),
        ({"order": "parallel"}, ["in parallel"], []),
        (
            {
                "channel_pool_types": ("avg", "max", "lse"),
                "spatial_pool_types": "max",
            },
            [
                "more than the average and the maximum over positions",
                "by the maximum over channels",
            ],
            [],
        ),
        (
            {"gate_activation": "hard_sigmoid"},
            ["channel gate is not a sigmoid", "spatial gate is not a sigmoid"],
            [],
        ),
        (
            {
                "hidden_units": 6,
                "identity_init": True,
                "data_format": "channels_first",
            },
            [],
            ["1 at rest (2 * sigmoid)", "width of 6 for "],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_our_options_come_out_as_they_are(options, departures, choices):
    result = cbam_keras.audit(CBAM(**options))
    for text, part in zip(result.departures, departures, strict=True):
        assert part in text
    assert missing(choices, result.choices) == []


WRONG = {
    "TwoMLPs": ["one shared MLP"],
    "ReluBeforeSigmoid": ["never below one half: a ReLU precedes"],
    "LeakyActivation": ["the formula of the paper give different outputs"],
    "MoreInBothGates": ["is not a ReLU", "not one convolution"],
    "IdleRatio": [
        "adds its input",
        "The argument `ratio` does nothing",
        "2 units for 38 channels, in place of 5",
    ],
    "ReturnsMap": ["The output has the shape"],
    "ForgetsRatio": [
        "applied to each pooled branch",
        "`get_config` lacks the arguments ratio",
    ],
    "NoSigmoidNorReLU": ["channel gate has no sigmoid", LINEAR],
    "PoolsOneAxis": ["channel map is not the same at all positions"],
    "LayerScale": ["multiplied by `layer_scale` too"],
    "NormInMLP": ["batch normalization outside the spatial gate"],
    "Temperature": ["more parameters than the formula, by 1."],
    "ThreeLayers": ["3 dense layers in place of two"],
    "AverageOfNonzeros": ["(features after a ReLU)"],
    "ClippedFeatures": ["(features 20 times as large)"],
    "WholeForLargeMaps": ["(features of 40 x 44)"],
    "WholeForOneImage": ["(a single image)"],
    "HalfInTraining": ["(training=True)"],
    "NoConfig": ["`from_config(get_config())` fails"],
    "BuiltInCall": ["no trainable kernels"],
    "with_lambda": ["Lambda"],
    "Tutorial": [
        "works for features of 16 x 16 but not for 15 x 13",
        "The channel gate is a ReLU in place of a sigmoid",
        LINEAR,
        "returns 32 maps in place of one",
    ],
}


@pytest.mark.parametrize(
    "name, parts",
    [
        *WRONG.items(),
        pytest.param(
            "CutGradientInFloat32",
            [
                "the output is float32, not float16",
                "cut inside the layer",
            ],
            marks=pytest.mark.every_backend,
        ),
        pytest.param(
            "StaticSize",
            ["Height and width must be known in advance"],
            marks=pytest.mark.skipif(
                keras.backend.backend() != "tensorflow",
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
        (lambda: copies.TorchStorage(ratio=8), "kobiso_keras", 0),
        (lambda: copies.block, "kobiso_keras", 0),
        (lambda: copies.functional, "kobiso_keras", 0),
        (lambda: copies.Subclassed, "kobiso_keras", 0),
        # Its layers keep their dtype.
        (lambda: copies.functional(32), "kobiso_keras", 1),
    ],
    ids=["torch_storage", "tensor_function", "function", "subclass", "model"],
)
def test_right_layers_are_recognized_in_any_form(make, variant, unchecked):
    result = cbam_keras.audit(make())
    assert result.departures == ()
    assert result.variant == variant
    assert len(result.unchecked) == unchecked


def test_a_function_may_fix_the_arguments_of_a_class():
    assert cbam_keras.audit(lambda channels: CBAM(8)).departures == ()


def test_even_window_is_not_centred():
    (text,) = cbam_keras.audit(copies.Correct(8, kernel_size=6)).departures
    assert "not centred" in text


def test_one_gate_alone_lacks_the_other():
    result = cbam_keras.audit(SpatialAttention)
    (text,) = result.departures
    assert "no channel attention" in text
    assert result.variant is None


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
        (lambda: CBAM(), TypeError, "that takes the number of channels"),
        (lambda channels: 3, TypeError, "must return a keras layer"),
        (keras.layers.Conv1D(4, 3), ValueError, "must take features"),
    ],
    ids=["number", "no_channels", "no_layer", "no_gate"],
)
def test_what_is_no_layer_is_refused(layer, error, message):
    with pytest.raises(error, match=message):
        cbam_keras.audit(layer)


def test_prints_as_a_table_with_a_verdict():
    text = str(cbam_keras.audit(copies.AverageOnly))
    assert "Audit of AverageOnly" in text
    assert re.search("departure .*average over positions alone", text)
    assert re.search("choice .*The MLP has biases", text)
    assert text.endswith("One departure was found.")
