"""The search space: what it holds, and which network its values stand for."""

import keras
import numpy as np
import pytest
from keras import layers

from cbam_keras import tuning
from cbam_keras.layers import (
    CBAM,
    ORDERS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
)

keras_tuner = pytest.importorskip("keras_tuner")

SHAPE = (12, 10, 1)
# Every dimension open.
WIDE = {
    "reduction_ratio": (4, 8, 16, 32),
    "order": ORDERS,
    "channel_pool_types": ("avg+max", "avg", "max"),
    "spatial_pool_types": ("avg+max", "avg", "max"),
    "stages": True,
    "learning_rate": (0.001, 0.01, 0.03),
}
LAYER = {
    "reduction_ratio": 16,
    "kernel_size": 7,
    "order": "channel_first",
    "channel_pool_types": "avg+max",
    "spatial_pool_types": "avg+max",
}
POOLS = {"pool_types": ("max",)}, {"pool_types": ("conv",)}
OF_CBAM = {
    "reduction_ratio": 4,
    "kernel_size": 3,
    "order": "parallel",
    "channel_pool_types": ("max",),
    "spatial_pool_types": ("conv",),
}
STAGES = {"stage1": True, "stage2": True, "stage3": True}


def space_of(**options):
    """Returns a hypermodel and all of its hyperparameters."""
    hypermodel = tuning.CBAMHyperModel(SHAPE, 5, **options)
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    return hypermodel, hp


def wide_space_of(**options):
    """Returns likewise those of a space in which everything is searched."""
    return space_of(**{**WIDE, **options})


def chosen(hp, **values):
    """Returns the hyperparameters with these values, others by default."""
    hp = hp.copy()
    hp.values = dict(values)
    for own in hp.space:
        if hp.is_active(own) and own.name not in hp.values:
            hp.values[own.name] = own.default
    return hp


def gates(model):
    kinds = (CBAM, ChannelAttention, SpatialAttention)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def test_the_space_is_known_without_building():
    def never(*_):
        raise AssertionError("No network is needed.")

    _, hp = wide_space_of(model=never, stages=3)
    assert [own.name for own in hp.space] == [
        "learning_rate",
        "attention",
        *LAYER,
        *STAGES,
    ]


@pytest.mark.parametrize(
    "arm, own",
    [
        ("none", set()),
        ("se", {"reduction_ratio"}),
        ("channel", {"reduction_ratio", "channel_pool_types"}),
        ("spatial", {"kernel_size", "spatial_pool_types"}),
        ("cbam", set(LAYER)),
    ],
)
def test_hyperparameters_are_there_where_they_matter(arm, own):
    _, hp = wide_space_of(
        attention=("none", "se", "channel", "spatial", "cbam")
    )
    values = set(chosen(hp, attention=arm).values)
    stages = set() if arm == "none" else set(STAGES)
    assert values == {"learning_rate", "attention"} | own | stages


def test_the_default_space_is_cbam_and_two_controls():
    hypermodel, hp = space_of()
    open_dimensions = {
        own.name: set(own.values) for own in hp.space if len(own.values) > 1
    }
    assert open_dimensions == {
        "attention": {"none", "se", "cbam"},
        "reduction_ratio": {2, 4, 8, 16},
        "kernel_size": {3, 5, 7},
    }
    assert hypermodel.layer_options(chosen(hp, attention="se")) == {
        "reduction_ratio": 4,
        "identity_init": True,
    }


def test_ratios_that_are_given_are_those_of_se_as_well():
    hypermodel, hp = space_of(reduction_ratio=(4, 8))
    values = chosen(hp, attention="se", reduction_ratio=8)
    assert hypermodel.layer_options(values)["reduction_ratio"] == 8


@pytest.mark.parametrize(
    ("arm", "kind", "config"),
    [
        ("se", SqueezeExcite, {"reduction_ratio": 4}),
        ("channel", ChannelAttention, {"reduction_ratio": 4, **POOLS[0]}),
        ("spatial", SpatialAttention, {"kernel_size": 3, **POOLS[1]}),
        ("cbam", CBAM, OF_CBAM),
    ],
)
def test_a_layer_is_that_of_its_values_and_starts_at_one(arm, kind, config):
    hypermodel, hp = space_of(attention=arm, **OF_CBAM)
    layer = hypermodel.attention_for(hp)(name="gate")
    assert type(layer) is kind
    own = layer.get_config()
    assert {key: own[key] for key in config} == config
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 16)).astype("float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x)), x)


def test_gates_may_start_otherwise():
    hypermodel, hp = space_of(attention="cbam", identity_init=False)
    assert not hypermodel.attention_for(hp)(name="gate").identity_init


def test_the_defaults_are_no_attention_then_the_layer_of_the_paper():
    _, hp = wide_space_of()
    assert hp.values == {"learning_rate": 0.01, "attention": "none"}
    assert chosen(hp, attention="cbam").values == {
        "learning_rate": 0.01,
        "attention": "cbam",
        **LAYER,
        **STAGES,
    }


def test_in_a_narrowed_space_the_nearest_to_the_paper_is_the_default():
    _, hp = space_of(
        attention=("se", "cbam"),
        reduction_ratio=(2, 8, 64),
        kernel_size=(3, 5, 11),
        order=("parallel", "spatial_first"),
        learning_rate=(0.1, 0.02),
    )
    values = chosen(hp).values
    assert values["attention"] == "cbam"
    assert values["reduction_ratio"] == 8
    assert values["kernel_size"] == 5
    assert values["order"] == "parallel"
    assert values["learning_rate"] == 0.02


def test_stages_are_switched_one_by_one():
    hypermodel, hp = space_of(attention="se", stages=True)
    model = hypermodel.network(chosen(hp, stage2=False))
    assert [layer.name for layer in gates(model)] == [
        "stage1_block1_attention",
        "stage3_block1_attention",
    ]


@pytest.mark.parametrize(
    "model, count", [("small", 3), ("resnet18", 4), ("resnext50", 4)]
)
def test_the_number_of_stages_is_that_of_the_network(model, count):
    hypermodel, hp = space_of(model=model, attention="se", stages=True)
    names = [own.name for own in hp.space if own.name.startswith("stage")]
    assert names == [f"stage{n}" for n in range(1, count + 1)]


def test_every_stage_of_the_space_is_one_of_the_network():
    hypermodel, hp = space_of(attention=("none", "se"), stages=True)
    assert gates(hypermodel.network(hp)) == []
    found = gates(hypermodel.network(chosen(hp, attention="se")))
    assert {layer.name.split("_")[0] for layer in found} == set(STAGES)


@pytest.mark.parametrize(
    "stages, given",
    [
        (False, "one"),
        (2, ["on", "on"]),
        ((False, True), ["off", "on"]),
        (lambda hp: [hp.Boolean("early"), True], ["off", "on"]),
    ],
    ids=["off", "count", "fixed", "function"],
)
def test_a_function_gets_what_attention_takes(stages, given):
    got = []

    def build(attention):
        got.append(attention)
        return keras.Sequential([keras.Input(SHAPE), layers.Flatten()])

    hypermodel, hp = space_of(model=build, attention="cbam", stages=stages)
    hypermodel.network(hp)
    (attention,) = got
    if given == "one":
        assert isinstance(attention(name="gate"), CBAM)
    else:
        assert [a is not None for a in attention] == [g == "on" for g in given]
        assert isinstance(attention[1](name="gate"), CBAM)


def test_a_fixed_value_is_listed_but_not_searched():
    _, hp = space_of(attention="cbam", kernel_size=5, learning_rate=0.02)
    fixed = {
        own.name: own.value
        for own in hp.space
        if isinstance(own, keras_tuner.engine.hyperparameters.Fixed)
    }
    assert fixed == {
        "attention": "cbam",
        "kernel_size": 5,
        "order": "channel_first",
        "channel_pool_types": "avg+max",
        "spatial_pool_types": "avg+max",
        "learning_rate": 0.02,
    }
    assert hp.values["kernel_size"] == 5


def test_a_function_replaces_a_dimension():
    hypermodel, hp = space_of(
        attention=("none", "cbam"),
        kernel_size=lambda hp: 2 * hp.Int("half", 1, 4) + 1,
        learning_rate=lambda hp: 10.0 ** -hp.Int("digits", 1, 3),
    )
    values = chosen(hp, attention="cbam", half=4, digits=2)
    (layer, *_) = gates(hypermodel.build(values))
    assert layer.kernel_size == 9
    assert hypermodel.learning_rate_for(values) == pytest.approx(0.01)
    assert "half" not in chosen(hp).values
    assert "kernel_size" not in values.values


def test_a_function_replaces_the_kind_of_attention():
    hypermodel, hp = space_of(
        attention=lambda hp: "se" if hp.Boolean("use") else "none"
    )
    assert gates(hypermodel.build(chosen(hp))) == []
    (layer, *_) = gates(hypermodel.build(chosen(hp, use=True)))
    assert isinstance(layer, SqueezeExcite)


def test_pools_are_given_as_tuples_too():
    hypermodel, hp = space_of(
        attention="channel", channel_pool_types=(("avg", "lse"), "lp")
    )
    values = chosen(hp, channel_pool_types="avg+lse")
    (layer, *_) = gates(hypermodel.build(values))
    assert tuple(layer.pool_types) == ("avg", "lse")


def test_it_is_a_hypermodel_of_keras_tuner(tmp_path):
    tuner = keras_tuner.RandomSearch(
        tuning.CBAMHyperModel(SHAPE, 5, attention=("none", "cbam")),
        objective="val_accuracy",
        directory=tmp_path,
        seed=1,
    )
    names = {own.name for own in tuner.oracle.get_space().space}
    assert names == {"attention", *LAYER}
    model = tuner.hypermodel.build(tuner.oracle.get_space())
    assert model.compiled
    assert isinstance(model.optimizer, keras.optimizers.AdamW)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert model.output_shape == (None, 5)


def test_the_loss_fits_a_network_that_ends_in_numbers_of_any_size():
    def build(attention):
        return keras.Sequential([keras.Input(SHAPE), layers.Flatten()])

    hypermodel, hp = space_of(model=build)
    assert hypermodel.build(hp).loss.from_logits


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"model": "resnet19"}, ValueError, 'Did you mean "resnet18"'),
        ({"attention": ()}, ValueError, "`attention` must be one or"),
        ({"reduction_ratio": 0}, ValueError, "`reduction_ratio` must be a"),
        ({"reduction_ratio": (4, 4)}, ValueError, "each at most once"),
        ({"kernel_size": (3, 4)}, ValueError, "`kernel_size` must be an odd"),
        ({"order": "first"}, ValueError, "`order` must be one or several"),
        ({"channel_pool_types": "conv"}, ValueError, "`channel_pool_types`"),
        ({"spatial_pool_types": "avg+conv"}, ValueError, "`spatial_pool_t"),
        ({"spatial_pool_types": 3}, ValueError, '"avg\\+max"'),
        ({"learning_rate": -1.0}, ValueError, "`learning_rate` must be a"),
        ({"identity_init": 1}, TypeError, "`identity_init` must be True"),
        ({"stages": 4}, ValueError, 'Model "tiny" has 3 stages'),
        ({"model": "mobilenet", "stages": 1}, ValueError, "has no stages"),
        ({"model": min, "stages": True}, ValueError, "known by name"),
        ({"stages": (False,) * 3}, ValueError, "attention somewhere"),
        ({"stages": (1, 0, 1)}, TypeError, "must be True or False"),
        ({"classes": 0}, ValueError, "`classes` must be a positive integer"),
    ],
)
def test_wrong_values_are_reported(options, error, message):
    with pytest.raises(error, match=message):
        tuning.CBAMHyperModel(**options)


def test_a_known_network_needs_to_know_the_images():
    with pytest.raises(ValueError, match="input_shape=None, classes=None"):
        tuning.CBAMHyperModel().build(keras_tuner.HyperParameters())
