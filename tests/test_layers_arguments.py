"""Every argument of every layer has an effect, and bad values are errors."""

import inspect
import json

import keras
import numpy as np
import pytest
from layer_checks import (
    LAYERS,
    built,
    every_layer,
    model_of,
    output,
    random_input,
    randomize,
    to_numpy,
)

from cbam_keras import CBAM, ChannelAttention, SpatialAttention, SqueezeExcite

# A value of each argument that differs from the default, and the other
# arguments it needs to show: with a single hidden unit, a ReLU may hide all.
WIDE = {"hidden_units": 8}
CHANGES = {
    ChannelAttention: {
        "reduction_ratio": (4, {}),
        "pool_types": (("avg", "lse"), WIDE),
        "hidden_units": (5, {}),
        "use_bias": (False, WIDE),
        "activation": ("tanh", WIDE),
        "gate_activation": ("tanh", WIDE),
        "identity_init": (True, WIDE),
        "kernel_initializer": ("ones", WIDE),
        "bias_initializer": ("ones", WIDE),
        "kernel_regularizer": ("l2", WIDE),
        "bias_regularizer": ("l2", {**WIDE, "bias_initializer": "ones"}),
        "kernel_constraint": ("unit_norm", WIDE),
        "bias_constraint": (
            "unit_norm",
            {**WIDE, "bias_initializer": "ones"},
        ),
        "data_format": ("channels_first", WIDE),
    },
    SpatialAttention: {
        "kernel_size": (3, {}),
        "pool_types": (("max", "avg"), {}),
        "use_bias": (True, {}),
        "batch_norm": (True, {}),
        "dilation_rate": (2, {}),
        "gate_activation": ("tanh", {}),
        "identity_init": (True, {}),
        "kernel_initializer": ("ones", {}),
        "bias_initializer": ("ones", {"use_bias": True}),
        "kernel_regularizer": ("l2", {}),
        "bias_regularizer": (
            "l2",
            {"use_bias": True, "bias_initializer": "ones"},
        ),
        "kernel_constraint": ("unit_norm", {}),
        "bias_constraint": (
            "non_neg",
            {
                "use_bias": True,
                "bias_initializer": keras.initializers.Constant(-1.0),
            },
        ),
        "data_format": ("channels_first", {}),
    },
}
CHANGES[SqueezeExcite] = {
    name: change
    for name, change in CHANGES[ChannelAttention].items()
    if name != "pool_types"
}
CHANGES[CBAM] = {
    **CHANGES[ChannelAttention],
    "kernel_size": (3, {}),
    "order": ("parallel", WIDE),
    "channel_pool_types": ("avg", WIDE),
    "spatial_pool_types": ("max", {}),
    "spatial_use_bias": (True, {}),
    "spatial_batch_norm": (True, {}),
}
del CHANGES[CBAM]["pool_types"]


def effect(layer_class, options):
    """Returns what a user sees: weights, output, losses, constraints."""
    keras.utils.set_random_seed(7)
    layer = layer_class(**options)
    # One shape for both data formats: no axis tells which is the channels.
    result = output(layer, random_input((2, 8, 8, 8)))
    shapes = [tuple(variable.shape) for variable in layer.variables]
    losses = [float(to_numpy(loss)) for loss in layer.losses]
    return shapes, result, [*losses, *constrained(layer)]


def constrained(layer):
    """Returns what the constraints of a layer make of its weights."""
    return [
        to_numpy(variable.constraint(variable.value)).tolist()
        for variable in layer.variables
        if variable.constraint is not None
    ]


CONSTRAINTS = {
    "kernel_constraint": keras.constraints.MaxNorm(0.01),
    "bias_constraint": keras.constraints.NonNeg(),
}
CONSTRAINED = [
    (ChannelAttention, {}, 4),
    (SqueezeExcite, {}, 4),
    (
        SpatialAttention,
        {"pool_types": ("avg", "conv"), "use_bias": True, "batch_norm": True},
        3,
    ),
    (CBAM, {"spatial_use_bias": True, "spatial_batch_norm": True}, 6),
]


@pytest.mark.every_backend
@pytest.mark.parametrize("layer_class, options, count", CONSTRAINED)
def test_constraints_hold_after_a_training_step(
    layer_class, options, count, tmp_path
):
    model = model_of(layer_class(**options, **CONSTRAINTS))
    randomize(model)
    x = random_input()
    model.compile("sgd", loss="mse")
    model.fit(x, -x, verbose=0)
    found = [v for v in model.variables if v.constraint is not None]
    assert len(found) == count
    for variable in found:
        value = to_numpy(variable)
        if variable.path.endswith("bias"):
            assert value.min() >= 0
        else:
            assert np.sqrt((value**2).sum(0)).max() <= 0.01 + 1e-6
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = [v for v in loaded.variables if v.constraint is not None]
    assert [type(v.constraint) for v in again] == [
        type(v.constraint) for v in found
    ]


@every_layer
def test_config_keeps_constraints(layer_class):
    config = layer_class(**CONSTRAINTS).get_config()
    copy = layer_class.from_config(json.loads(json.dumps(config)))
    assert copy.kernel_constraint.max_value == 0.01
    assert isinstance(copy.bias_constraint, keras.constraints.NonNeg)
    assert copy.get_config() == config


@every_layer
def test_config_of_a_version_without_constraints_is_taken(layer_class):
    config = layer_class().get_config()
    del config["kernel_constraint"], config["bias_constraint"]
    assert layer_class.from_config(config).kernel_constraint is None


@pytest.mark.parametrize(
    "layer_class, argument",
    [(layer, name) for layer, table in CHANGES.items() for name in table],
)
def test_every_argument_changes_something(layer_class, argument):
    value, others = CHANGES[layer_class][argument]
    shapes, result, losses = effect(layer_class, others)
    changed = effect(layer_class, {**others, argument: value})
    assert (
        shapes != changed[0]
        or not np.allclose(result, changed[1], atol=1e-6)
        or losses != changed[2]
    )


@every_layer
def test_the_table_of_changes_is_complete(layer_class):
    arguments = set(inspect.signature(layer_class).parameters) - {"kwargs"}
    assert arguments == set(CHANGES[layer_class])


BAD_VALUES = [
    *(
        (layer, "reduction_ratio", value, ValueError)
        for layer in (ChannelAttention, SqueezeExcite, CBAM)
        for value in (0, -4, 16.0, True, None, "16")
    ),
    *(
        (layer, "kernel_size", value, ValueError)
        for layer in (SpatialAttention, CBAM)
        for value in (0, 4, -3, 7.0, True, (7, 7), None)
    ),
    *(
        (layer, "hidden_units", value, ValueError)
        for layer in (ChannelAttention, SqueezeExcite, CBAM)
        for value in (0, 2.0, True)
    ),
    *(
        (layer, argument, value, ValueError)
        for layer, argument in (
            (ChannelAttention, "pool_types"),
            (SpatialAttention, "pool_types"),
            (CBAM, "channel_pool_types"),
            (CBAM, "spatial_pool_types"),
        )
        for value in ((), "mean", ("avg", "median"), ("avg", "avg"), None, 3)
    ),
    (ChannelAttention, "pool_types", "conv", ValueError),
    (CBAM, "channel_pool_types", ("avg", "conv"), ValueError),
    *((CBAM, "order", value, ValueError) for value in ("channel", None, 1)),
    *(
        (layer, "data_format", value, ValueError)
        for layer in LAYERS
        for value in ("channel_last", "NHWC")
    ),
    (SpatialAttention, "dilation_rate", 0, ValueError),
    *(
        (layer, argument, value, TypeError)
        for layer, argument in (
            (ChannelAttention, "use_bias"),
            (SpatialAttention, "batch_norm"),
            (SpatialAttention, "use_bias"),
            (CBAM, "spatial_use_bias"),
            (CBAM, "spatial_batch_norm"),
            (CBAM, "identity_init"),
        )
        for value in (1, "yes", None)
    ),
]


@pytest.mark.parametrize("layer_class, argument, value, error", BAD_VALUES)
def test_bad_values_are_refused_at_once(layer_class, argument, value, error):
    with pytest.raises(error, match=f"`{argument}` must be .*Received: "):
        layer_class(**{argument: value})


def test_near_names_are_suggested():
    with pytest.raises(ValueError, match='Did you mean "spatial_first"'):
        CBAM(order="spatial_frist")


def test_unknown_argument_is_refused():
    with pytest.raises((TypeError, ValueError), match="ratio"):
        CBAM(ratio=8)


@pytest.mark.parametrize("shape", [(2, 16), (2, 3, 4, 5, 6, 16)], ids=len)
@every_layer
def test_ranks_out_of_range_are_refused(layer_class, shape):
    with pytest.raises(ValueError, match="rank 3, 4 or 5.*Received"):
        layer_class(name="gate")(keras.Input(shape[1:]))


@every_layer
def test_unknown_channels_are_refused(layer_class):
    with pytest.raises(
        ValueError, match='"gate" needs a known channel axis.*Received'
    ):
        layer_class(name="gate")(keras.Input((7, 5, None)))


@every_layer
def test_another_channel_count_is_refused_later(layer_class):
    layer = built(layer_class())
    with pytest.raises(ValueError, match="expected axis -?[0-9]+ of input"):
        layer(random_input((2, 7, 5, 8)))
