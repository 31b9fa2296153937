"""Every argument of every layer has an effect, and bad values are errors."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import (
    LAYERS,
    arguments_of,
    output,
    random_input,
    to_numpy,
)

from cbam_keras import (
    BAM,
    CBAM,
    SCSE,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SimAM,
    SpatialAttention,
    SqueezeExcite,
    TripletAttention,
)
from cbam_keras.layers import attention_layer

# Options with which every argument shows, and another value of each.
BASE = {
    SqueezeExcite: {"reduction_ratio": 2},
    ChannelAttention: {"reduction_ratio": 2},
    SpatialAttention: {"use_bias": True, "batch_norm": True},
    CBAM: {"reduction_ratio": 2, "spatial_batch_norm": True},
    CoordinateAttention: {"reduction_ratio": 2, "min_hidden_units": 1},
    BAM: {"reduction_ratio": 2},
    SCSE: {"reduction_ratio": 2},
    GlobalContext: {"reduction_ratio": 2, "fusion": "multiply"},
}
# These have no effect in layers without biases.
WITHOUT_BIAS = EfficientChannelAttention, TripletAttention
BIAS = {"bias_initializer", "bias_regularizer", "bias_constraint"}
CHANGES = {
    "reduction_ratio": 4,
    "hidden_units": 5,
    "kernel_size": 5,
    "dilation_rate": 2,
    "min_hidden_units": 5,
    "regularization": 1.0,
    "fusion": "add",
    "order": "parallel",
    "pool_types": "max",
    "channel_pool_types": "avg",
    "spatial_pool_types": ("max", "avg"),
    "use_bias": False,
    "spatial_use_bias": True,
    "batch_norm": False,
    "spatial_batch_norm": False,
    "batch_norm_momentum": 0.5,
    "spatial_batch_norm_momentum": 0.9,
    "activation": "tanh",
    "gate_activation": "tanh",
    "identity_init": True,
    "kernel_initializer": "ones",
    "bias_initializer": "ones",
    "kernel_regularizer": "l2",
    "bias_regularizer": "l2",
    "kernel_constraint": "unit_norm",
    "bias_constraint": "non_neg",
    "data_format": "channels_first",
}


@functools.cache
def effect(layer_class, **options):
    """Returns the shapes, output and losses, constraints, averages."""
    keras.utils.set_random_seed(7)
    layer = layer_class(**{**BASE.get(layer_class, {}), **options})
    # One shape for both data formats: no axis tells which is the channels.
    x = random_input((2, 8, 8, 8))
    result = output(layer, x)
    layer(x, training=True)
    constrained = [v for v in layer.variables if v.constraint is not None]
    others = [
        *layer.losses,
        *(variable.constraint(variable.value) for variable in constrained),
        *layer.non_trainable_variables,
    ]
    shapes = [tuple(variable.shape) for variable in layer.variables]
    return shapes, result, [to_numpy(value).tolist() for value in others]


@pytest.mark.parametrize(
    "layer_class, argument",
    [
        (layer_class, argument)
        for layer_class in LAYERS
        for argument in sorted(arguments_of(layer_class))
        if not (layer_class in WITHOUT_BIAS and argument in BIAS)
    ],
)
def test_every_argument_changes_something(layer_class, argument):
    shapes, result, others = effect(layer_class)
    combine = {BAM: "multiply", SCSE: "add"}.get(layer_class, "gates")
    value = {**CHANGES, "combine": combine}[argument]
    changed = effect(layer_class, **{argument: value})
    assert (
        shapes != changed[0]
        or not np.allclose(result, changed[1], atol=1e-6)
        or others != changed[2]
    )


@pytest.mark.parametrize(
    "layer_class, argument, value, error",
    [
        (ChannelAttention, "reduction_ratio", 0, ValueError),
        # Features that belong into a call of the layer.
        (CBAM, "reduction_ratio", np.ones((7, 5, 16)), ValueError),
        (CBAM, "reduction_ratio", 16.0, ValueError),
        (SpatialAttention, "kernel_size", 4, ValueError),
        (CBAM, "kernel_size", (7, 7), ValueError),
        (SpatialAttention, "batch_norm_momentum", 1, ValueError),
        (SpatialAttention, "batch_norm_momentum", "0.9", ValueError),
        (ChannelAttention, "pool_types", (), ValueError),
        (SpatialAttention, "pool_types", ("avg", "avg"), ValueError),
        (CBAM, "channel_pool_types", ("avg", "conv"), ValueError),
        (CBAM, "order", "spatial_frist", ValueError),
        (CBAM, "data_format", "NHWC", ValueError),
        (SimAM, "regularization", 0, ValueError),
        (ChannelAttention, "use_bias", 1, TypeError),
        (CBAM, "identity_init", "yes", TypeError),
    ],
)
def test_bad_values_are_refused_at_once(layer_class, argument, value, error):
    with pytest.raises(error, match=f"`{argument}` must be .*Received: "):
        layer_class(**{argument: value})


@pytest.mark.parametrize(
    "activation, cause",
    [
        ("tanh", "is 0.0 at 0"),
        ("softmax", "is not elementwise"),
        ("glu", "is not elementwise"),
        (keras.layers.Softmax(axis=0), "is not elementwise"),
        (lambda x: 0.5 + x * ops.mean(x), "is not elementwise"),
    ],
    ids=["tanh", "softmax", "glu", "layer", "mean"],
)
def test_a_gate_that_cannot_be_the_identity_is_refused(activation, cause):
    with pytest.raises(ValueError, match=f"power of two.*which {cause}"):
        CBAM(identity_init=True, gate_activation=activation)


def test_a_gate_of_any_elementwise_activation_can_be_the_identity():
    x = random_input()
    for activation in (
        "hard_sigmoid",
        "exponential",
        lambda x: 1 + ops.tanh(x),
    ):
        layer = CBAM(4, identity_init=True, gate_activation=activation)
        np.testing.assert_array_equal(output(layer, x), x)


@pytest.mark.parametrize(
    "layer_class, shape, message",
    [
        (CBAM, (16,), "rank 3, 4 or 5.*Received"),
        (ChannelAttention, (), "rank 2, 3, 4 or 5.*Received"),
        (CoordinateAttention, (7, 16), "rank 4 or 5: .*Received"),
        (TripletAttention, (7, 16), "rank 4: .*Received"),
        (
            SpatialAttention,
            (7, 5, None),
            '"gate" needs a known channel axis.*Received',
        ),
    ],
)
def test_unsuitable_inputs_are_refused(layer_class, shape, message):
    with pytest.raises(ValueError, match=message):
        layer_class(name="gate")(keras.Input(shape))


@pytest.mark.parametrize(
    "layer, hidden",
    [
        (CBAM(64), "1 hidden unit"),
        (SqueezeExcite(32), "2 hidden units"),
        (BAM(100), "1 hidden unit"),
        (SCSE(64), "1 hidden unit"),
        (GlobalContext(64), "2 hidden units"),
    ],
)
def test_a_ratio_that_may_be_channels_is_a_warning_once_a_class(
    layer, hidden, monkeypatch
):
    monkeypatch.setattr(attention_layer, "_WARNED", set())
    message = f"of 64 channels leaves {hidden}. The first argument is the"
    with pytest.warns(UserWarning, match=message):
        layer.build((2, 5, 5, 64))
    # Warnings are errors here.
    type(layer)(64).build((2, 5, 5, 64))


@pytest.mark.parametrize(
    "options, channels", [((16,), 16), ((64,), 1), ((64,), 256), ((32,), 65)]
)
def test_usual_ratios_are_no_warning(options, channels, monkeypatch):
    monkeypatch.setattr(attention_layer, "_WARNED", set())
    CBAM(*options).build((2, 5, 5, channels))
