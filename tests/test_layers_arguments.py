"""Every argument of every layer has an effect, and bad values are errors."""

import functools
import inspect

import keras
import numpy as np
import pytest
from layer_checks import (
    built,
    every_layer,
    model_of,
    output,
    random_input,
    randomize,
    to_numpy,
)

from cbam_keras import (
    CBAM,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
    explain,
    insert_attention,
    profile_model,
)

# A value of each argument that differs from the default, and the other
# arguments it needs to show: with a single hidden unit, a ReLU may hide all.
WIDE = {"hidden_units": 8}
ONES = {"bias_initializer": "ones"}
NEGATIVE = {"bias_initializer": keras.initializers.Constant(-1.0)}


def shared(needed, with_bias):
    return {
        "gate_activation": ("tanh", needed),
        "identity_init": (True, needed),
        "kernel_initializer": ("ones", needed),
        "bias_initializer": ("ones", with_bias),
        "kernel_regularizer": ("l2", needed),
        "bias_regularizer": ("l2", {**with_bias, **ONES}),
        "kernel_constraint": ("unit_norm", needed),
        "bias_constraint": ("non_neg", {**with_bias, **NEGATIVE}),
        "data_format": ("channels_first", needed),
    }


SQUEEZE = {
    **shared(WIDE, WIDE),
    "reduction_ratio": (4, {}),
    "hidden_units": (5, {}),
    "use_bias": (False, WIDE),
    "activation": ("tanh", WIDE),
}
CHANGES = {
    SqueezeExcite: SQUEEZE,
    ChannelAttention: {**SQUEEZE, "pool_types": (("avg", "lse"), WIDE)},
    SpatialAttention: {
        **shared({}, {"use_bias": True}),
        "kernel_size": (3, {}),
        "pool_types": (("max", "avg"), {}),
        "use_bias": (True, {}),
        "batch_norm": (True, {}),
        "batch_norm_momentum": (0.9, {"batch_norm": True}),
        "dilation_rate": (2, {}),
    },
    CBAM: {
        **SQUEEZE,
        "kernel_size": (3, {}),
        "order": ("parallel", WIDE),
        "channel_pool_types": ("avg", WIDE),
        "spatial_pool_types": ("max", {}),
        "spatial_use_bias": (True, {}),
        "spatial_batch_norm": (True, {}),
        "spatial_batch_norm_momentum": (0.9, {"spatial_batch_norm": True}),
    },
}


@functools.cache
def effect(layer_class, **options):
    """Returns what a user sees: weights, output, losses, constraints,
    moving averages."""
    keras.utils.set_random_seed(7)
    layer = layer_class(**options)
    # One shape for both data formats: no axis tells which is the channels.
    x = random_input((2, 8, 8, 8))
    result = output(layer, x)
    layer(x, training=True)
    shapes = [tuple(variable.shape) for variable in layer.variables]
    losses = [float(to_numpy(loss)) for loss in layer.losses]
    constrained = [
        to_numpy(variable.constraint(variable.value)).tolist()
        for variable in layer.variables
        if variable.constraint is not None
    ]
    averages = [to_numpy(v).tolist() for v in layer.non_trainable_variables]
    return shapes, result, [*losses, *constrained, *averages]


@every_layer
def test_every_argument_changes_something(layer_class):
    arguments = set(inspect.signature(layer_class).parameters) - {"kwargs"}
    assert arguments == set(CHANGES[layer_class])

    def is_seen(argument, value, others):
        shapes, result, losses = effect(layer_class, **others)
        changed = effect(layer_class, **{**others, argument: value})
        return (
            shapes != changed[0]
            or not np.allclose(result, changed[1], atol=1e-6)
            or losses != changed[2]
        )

    without_effect = [
        argument
        for argument, (value, others) in CHANGES[layer_class].items()
        if not is_seen(argument, value, others)
    ]
    assert not without_effect


@pytest.mark.parametrize(
    "layer_class, options, count",
    [
        (SpatialAttention, {"pool_types": ("avg", "conv")}, 2),
        (SpatialAttention, {"use_bias": True}, 2),
        (CBAM, {"spatial_use_bias": True, "spatial_batch_norm": True}, 6),
    ],
)
def test_constraints_hold_after_a_training_step(
    layer_class, options, count, tmp_path
):
    for kind in ("kernel_constraint", "bias_constraint"):
        options = {**options, kind: keras.constraints.NonNeg()}
    layer = layer_class(**options)
    model = randomize(model_of(layer))
    x = random_input()
    model.compile("sgd", loss="mse", run_eagerly=True)
    model.fit(x, -x, verbose=0)
    found = [v for v in model.variables if v.constraint is not None]
    assert len(found) == count
    assert all(to_numpy(variable).min() >= 0 for variable in found)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = [v for v in loaded.variables if v.constraint is not None]
    assert [v.path for v in again] == [v.path for v in found]


@pytest.mark.parametrize(
    "layer_class, argument, value, error",
    [
        (ChannelAttention, "reduction_ratio", 0, ValueError),
        (SqueezeExcite, "reduction_ratio", 16.0, ValueError),
        (CBAM, "reduction_ratio", True, ValueError),
        (SpatialAttention, "kernel_size", 4, ValueError),
        (SpatialAttention, "kernel_size", -3, ValueError),
        (CBAM, "kernel_size", (7, 7), ValueError),
        (SpatialAttention, "dilation_rate", 0, ValueError),
        (SpatialAttention, "batch_norm_momentum", 1, ValueError),
        (CBAM, "spatial_batch_norm_momentum", "0.9", ValueError),
        (ChannelAttention, "hidden_units", 0, ValueError),
        (ChannelAttention, "pool_types", (), ValueError),
        (ChannelAttention, "pool_types", "conv", ValueError),
        (SpatialAttention, "pool_types", ("avg", "avg"), ValueError),
        (SpatialAttention, "pool_types", ("avg", "median"), ValueError),
        (CBAM, "channel_pool_types", ("avg", "conv"), ValueError),
        (CBAM, "spatial_pool_types", None, ValueError),
        (CBAM, "order", None, ValueError),
        (ChannelAttention, "data_format", "channel_last", ValueError),
        (CBAM, "data_format", "NHWC", ValueError),
        (ChannelAttention, "use_bias", 1, TypeError),
        (SpatialAttention, "batch_norm", "yes", TypeError),
        (CBAM, "spatial_use_bias", None, TypeError),
        (CBAM, "spatial_batch_norm", 1, TypeError),
        (CBAM, "identity_init", "yes", TypeError),
    ],
)
def test_bad_values_are_refused_at_once(layer_class, argument, value, error):
    with pytest.raises(error, match=f"`{argument}` must be .*Received: "):
        layer_class(**{argument: value})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"order": "spatial_frist"}, 'Did you mean "spatial_first"'),
        ({"ratio": 8}, "ratio"),
        (
            {"identity_init": True, "gate_activation": "tanh"},
            "identity_init.*power of two",
        ),
    ],
    ids=["near-name", "unknown", "no-scale"],
)
def test_errors_tell_what_is_wrong(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        CBAM(**options)


@pytest.mark.parametrize(
    "layer_class, shape, message",
    [
        (CBAM, (16,), "rank 3, 4 or 5.*Received"),
        (ChannelAttention, (3, 4, 5, 6, 16), "rank 3, 4 or 5.*Received"),
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


@every_layer
def test_another_channel_count_is_refused_later(layer_class):
    layer = built(layer_class())
    with pytest.raises(ValueError, match="expected axis -?[0-9]+ of input"):
        layer(random_input((2, 7, 5, 8)))


@pytest.mark.parametrize(
    "use",
    [
        lambda old: CBAM()(old),
        insert_attention,
        profile_model,
        lambda old: explain.grad_cam(old, np.zeros((1, 8, 8, 3))),
        lambda old: explain.attention_maps(old, np.zeros((1, 8, 8, 3))),
    ],
    ids=["layer", "insert", "profile", "grad_cam", "attention_maps"],
)
def test_tensors_and_models_of_keras_2_are_refused(use):
    # Of a class that derives from one of `tf_keras`.
    model = type("Model", (), {"__module__": "tf_keras.src.engine.training"})
    old = type("Mine", (model,), {"__module__": "mine"})()
    with pytest.raises(
        TypeError,
        match="of Keras 2, and Keras 3 is needed. Received: .*mine.Mine",
    ):
        use(old)
