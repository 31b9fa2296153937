"""Every argument of every layer has an effect, and is in its files."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import (
    LAYERS,
    arguments_of,
    model_of,
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
    SpatialAttention,
    SqueezeExcite,
    TripletAttention,
)
from cbam_keras.layers import TrainableAttention, attention_layer

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


@pytest.mark.parametrize("layer_class", [CBAM, SCSE])
def test_a_layer_with_two_maps_says_how_to_get_both(layer_class):
    layer = layer_class()
    with pytest.raises(AttributeError, match="Call `attention_maps`"):
        layer.attention_map(random_input())
    assert len(layer.attention_maps(random_input())) == 2


def test_a_gate_of_another_activation_can_be_the_identity():
    x = random_input()
    for activation in (
        "hard_sigmoid",
        "exponential",
        lambda x: 1 + ops.tanh(x),
    ):
        layer = CBAM(4, identity_init=True, gate_activation=activation)
        np.testing.assert_array_equal(output(layer, x), x)


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
    message = f"with 64 channels leaves {hidden}. The first argument is the"
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


# Names and variables of saved layers.


def test_registered_names_are_those_in_the_files_of_users():
    names = [keras.saving.get_registered_name(layer) for layer in LAYERS]
    expected = (
        "BAM CBAM ChannelAttention CoordinateAttention "
        "EfficientChannelAttention GlobalContext SCSE SimAM SpatialAttention "
        "SqueezeExcite TripletAttention"
    ).split()
    assert sorted(names) == [f"cbam_keras>{x}" for x in expected]


@keras.saving.register_keras_serializable("users")
class Sharpened(CBAM):
    """A layer of users, with an argument that no attribute is called like."""

    def __init__(self, power_activation="relu", **options):
        super().__init__(**options)
        self.power = power_activation

    def get_config(self):
        return {**super().get_config(), "power_activation": self.power}


@keras.saving.register_keras_serializable("users")
class Offset(TrainableAttention):
    """A gate of users from the base class, with one weight."""

    def __init__(self, offset=0.0, **options):
        super().__init__(**options)
        self.offset = offset

    def build(self, input_shape):
        self._check_input_shape(input_shape)
        self.bias = self._add_parameter("bias", (1,), last=True)

    def get_config(self):
        return {**super().get_config(), "offset": self.offset}

    def _map(self, x, training, mask):
        return self._gate(x[..., :1] + self.bias + self.offset)


# Keras 3.10 warns of loaded models that are called with an array.
@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
@pytest.mark.parametrize(
    "layer",
    [
        Sharpened("tanh", reduction_ratio=4, kernel_regularizer="l2"),
        Offset(2.0, gate_activation="tanh", bias_initializer="ones"),
    ],
    ids=["of a layer", "of a base class"],
)
def test_classes_of_users_are_saved_with_their_own_arguments(layer, tmp_path):
    model, x = model_of(layer), random_input()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].get_config() == layer.get_config()
    assert type(loaded.layers[-1]) is type(layer)
    np.testing.assert_array_equal(output(loaded, x), output(model, x))


def test_each_class_with_arguments_says_them_in_its_own_config():
    classes = {base for layer in LAYERS for base in layer.__mro__}
    ours = [x for x in classes if x.__module__.startswith("cbam_keras.")]
    assert len(ours) == len(LAYERS) + 2
    assert [x for x in ours if "get_config" not in vars(x)] == []


def prelu():
    activation = keras.layers.PReLU()
    activation.build((None, 1))
    return activation


@pytest.mark.parametrize(
    "saved, loading, message",
    [
        ({"spatial_batch_norm": True}, {}, "no `batch_norm`.* 4 variables"),
        ({}, {"spatial_batch_norm": True}, "expected 4 variables"),
        ({"activation": prelu()}, {}, "no `activation`.* 1 variables"),
    ],
    ids=["norm", "no-norm", "activation"],
)
def test_weights_of_a_variant_with_other_variables_are_refused(
    saved, loading, message, tmp_path
):
    path = tmp_path / "model.weights.h5"
    model_of(CBAM(4, 3, **saved)).save_weights(path)
    with pytest.raises(ValueError, match=message):
        model_of(CBAM(4, 3, **loading)).load_weights(path)
    # The file itself is sound.
    model_of(CBAM(4, 3, **saved)).load_weights(path)
