"""What `audit` finds in right, wrong and our own layers."""

import random

import audit_copies as copies
import keras
import numpy as np
import pytest
from layer_checks import weights_of

import cbam_keras
from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
)

pytestmark = [
    pytest.mark.every_backend,
    # Keras builds layers that have no `build` of their own, and says so.
    pytest.mark.filterwarnings("ignore:.*does not have a `build:UserWarning"),
]

LINEAR = "There is no activation between the two dense layers"


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_our_variants_are_recognized(name):
    result = cbam_keras.audit(CBAM(**VARIANTS[name]))
    assert result.variant == name
    linear = [LINEAR] if name == "linear_perceptron" else []
    assert [text[: len(LINEAR)] for text in result.departures] == linear
    assert result.unchecked == ()


@pytest.mark.parametrize(
    "options, variant, choice",
    [
        ({}, "paper", "The MLP has biases."),
        ({"mlp_bias": False}, "luuuyi", "The MLP has no biases."),
        ({"conv_bias": True}, "kobiso_tensorflow", "convolution has a bias."),
        ({"normalize": True}, None, "normalizes before its sigmoid."),
        ({"normalize": True, "mlp_bias": False}, "timm", "normalizes before"),
        ({"ratio": 10}, "paper", "C / r is truncated."),
        ({"ratio": 10, "rounds": True}, "paper", "width of 3 for 32 channels"),
        ({"ratio": 8}, "kobiso_keras", "width of 4 for 32 channels."),
        ({"ratio": 40}, "paper", "width of 2 for 80 channels."),
        ({"kernel_size": 3}, "paper", "convolution is 3 x 3."),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_right_layers_raise_no_alarm(options, variant, choice):
    result = cbam_keras.audit(copies.Correct(**options))
    assert result.departures == ()
    assert result.variant == variant
    assert any(choice in text for text in result.choices)


@pytest.mark.parametrize(
    "options, departure, choice",
    [
        ({"order": "spatial_first"}, "spatial gate comes before", None),
        ({"order": "parallel"}, "in parallel", None),
        ({"channel_pool_types": "avg"}, "by the average over positions", None),
        ({"channel_pool_types": "max"}, "by the maximum over positions", None),
        ({"spatial_pool_types": "max"}, "by the maximum over channels", None),
        (
            {"channel_pool_types": ("avg", "max", "lse")},
            "more than the average and the maximum over positions",
            None,
        ),
        (
            {"spatial_pool_types": "conv"},
            "The spatial gate depends on more than",
            None,
        ),
        ({"identity_init": True}, None, "1 at rest (2 * sigmoid)"),
        ({"spatial_batch_norm": True}, None, "normalizes before"),
        ({"gate_activation": "hard_sigmoid"}, "is not a sigmoid", None),
        ({"hidden_units": 6}, None, "width of 6 for 32"),
        ({"data_format": "channels_first"}, None, "The MLP has biases."),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_our_options_come_out_as_they_are(options, departure, choice):
    result = cbam_keras.audit(CBAM(**options))
    assert bool(result.departures) == (departure is not None)
    assert any((departure or "") in text for text in result.departures) or (
        departure is None
    )
    assert any((choice or "") in text for text in result.choices)


WRONG = {
    "SigmoidPerBranch": "applied to each pooled branch",
    "TwoMLPs": "one shared MLP",
    "ConcatenatedPools": "one shared MLP",
    "AverageOnly": "by the average over positions alone",
    "ReluBeforeSigmoid": "never below one half: a ReLU precedes",
    "ReluOnLastDense": "never below one half: a ReLU precedes",
    "TanhGate": "The channel gate is not a sigmoid",
    "SoftmaxGate": "The channel gate is not a sigmoid",
    "LinearMLP": LINEAR,
    "SmoothActivation": "is not a ReLU",
    "LeakyActivation": "the formula of the paper give different outputs",
    "GlobalSpatialPools": "no spatial attention",
    "NoSpatial": "no spatial attention",
    "NoChannel": "no channel attention",
    "SpatialMaximumOnly": "by the maximum over channels alone",
    "MapPerChannel": "returns 32 maps in place of one",
    "TwoConvolutions": "not one convolution",
    "SpatialFirst": "spatial gate comes before the channel gate",
    "Parallel": "in parallel",
    "AddsInput": "adds its input",
    "IdleRatio": "The argument `ratio` does nothing",
    "IdleKernelSize": "The argument `kernel_size` does nothing",
    "RatioAsUnits": "8 units for 32 channels, in place of 4",
    "CutGradient": "cut inside the layer",
    "FixedDtype": "the output is float32, not float16",
    "StaticSize": "Height and width must be known",
    "ReturnsMap": "The output has the shape",
    "ForgetsRatio": "`get_config` lacks the arguments ratio",
    "NoConfig": "cannot be copied by `from_config(get_config())`",
    "BuiltInCall": "no trainable kernels",
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_wrong_copies_are_named_by_what_is_wrong(name):
    made = getattr(copies, name)
    result = cbam_keras.audit(made if name == "BuiltInCall" else made(ratio=8))
    others = [text for text in result.departures if WRONG[name] not in text]
    assert len(others) < len(result.departures)
    # An argument of a gate that is not there has no effect.
    assert all("does nothing" in text or "unit" in text for text in others)
