"""The search space: what it holds, and which network its values stand for."""

import contextlib
import functools
import re

import pytest
from keras import layers

from cbam_keras import tuning
from cbam_keras.layers import (
    CBAM,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
)

keras_tuner = pytest.importorskip("keras_tuner")

SHAPE = (12, 10, 1)
LAYER = {"reduction_ratio": 16, "kernel_size": 7}


def space_of(**options):
    """Returns a hypermodel and all of its hyperparameters."""
    hypermodel = tuning.CBAMHyperModel(SHAPE, 5, **options)
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    return hypermodel, hp


def defaults(hypermodel):
    """Returns the first point of each kind of attention."""
    points = reversed(hypermodel.points())
    return {values["attention"]: values for values in points}


def test_the_space_is_known_without_building():
    def never(*_):
        raise AssertionError("No network is needed.")

    hypermodel, hp = space_of(model=never)
    assert len(hypermodel.points()) == 14
    names = [own.name for own in hp.space]
    assert names == ["attention", *LAYER]
    # The defaults are no attention, then the layer of the paper.
    assert hp.values == {"attention": "none"}
    assert defaults(hypermodel)["cbam"] == {"attention": "cbam", **LAYER}


def test_hyperparameters_are_there_where_they_matter():
    kinds = ("none", "se", "channel", "spatial", "cbam")
    hypermodel, _ = space_of(attention=kinds)
    first = defaults(hypermodel)
    assert [[*first[kind]][1:] for kind in kinds] == [
        [],
        ["reduction_ratio"],
        ["reduction_ratio"],
        ["kernel_size"],
        [*LAYER],
    ]


def test_each_kind_has_what_its_layer_takes():
    hypermodel, _ = space_of(attention=("none", "eca", "simam"))
    values = defaults(hypermodel)["eca"]
    assert values == {"attention": "eca", "kernel_size": 7}
    options = {"kernel_size": 7, "identity_init": True}
    assert hypermodel.attention_of(values).arguments == options
    values = defaults(hypermodel)["simam"]
    assert values == {"attention": "simam"}
    assert hypermodel.attention_of(values).arguments == {}
    assert hypermodel.unused == ["reduction_ratio"]
    hypermodel, _ = space_of(attention=("none", "simam"))
    assert hypermodel.unused == ["reduction_ratio", "kernel_size"]


@pytest.mark.parametrize(
    ("arm", "kind", "keys"),
    [
        ("se", SqueezeExcite, ["reduction_ratio"]),
        ("channel", ChannelAttention, ["reduction_ratio"]),
        ("spatial", SpatialAttention, ["kernel_size"]),
        ("cbam", CBAM, LAYER),
    ],
)
def test_a_layer_is_that_of_its_values_and_starts_at_one(arm, kind, keys):
    values = {"reduction_ratio": 4, "kernel_size": 3}
    values = {key: values[key] for key in keys}
    hypermodel, hp = space_of(attention=arm, **values)
    layer = hypermodel.attention_for(hp)(name="gate")
    assert type(layer) is kind
    own = layer.get_config()
    assert {key: own[key] for key in keys} == values
    assert layer.identity_init


def test_in_a_narrowed_space_the_nearest_to_the_paper_is_the_default():
    hypermodel, hp = space_of(
        attention=("se", "cbam"),
        reduction_ratio=(2, 8, 64),
        kernel_size=(3, 5, 11),
    )
    assert (
        hypermodel.points()[0]
        == hp.values
        == {
            "attention": "cbam",
            "reduction_ratio": 8,
            "kernel_size": 5,
        }
    )


class Gate(layers.Layer):
    def call(self, inputs):
        return 0.5 * inputs


def test_a_layer_of_ones_own_is_a_kind():
    half = functools.partial(layers.Rescaling, 0.5)
    hypermodel, _ = space_of(attention=("none", Gate, half, "cbam"))
    first = defaults(hypermodel)
    assert {*first} == {"none", "Gate", "Rescaling", "cbam"}
    values = first["Gate"]
    assert values == {"attention": "Gate"}
    model = hypermodel.network(values)
    assert sum(isinstance(layer, Gate) for layer in model.layers) == 3
    # Alone, too: a class is not a function of hyperparameters.
    hypermodel, hp = space_of(attention=Gate)
    assert isinstance(hypermodel.attention_for(hp)(name="gate"), Gate)


def ask_both(hp, own_first, values=(3, 5), scope=None):
    """Asks for our kernel size, and for one of the user."""
    space = tuning.CBAMHyperModel(attention="cbam", kernel_size=(3, 7))
    if own_first:
        own = hp.Choice("kernel_size", [*values])
    with hp.name_scope(scope) if scope else contextlib.nullcontext():
        attention = space.attention_for(hp)
    return attention, own if own_first else hp.Choice("kernel_size", [*values])


def test_a_hyperparameter_of_the_same_name_is_not_mixed_up():
    refused = pytest.raises(keras_tuner.errors.FatalError, match="name_scope")
    with refused:
        ask_both(keras_tuner.HyperParameters(), own_first=True)
    # One that is asked for later is known from the next network on.
    hp = keras_tuner.HyperParameters()
    ask_both(hp, own_first=False)
    with refused:
        ask_both(hp, own_first=False)
    hp = keras_tuner.HyperParameters()
    for own_first in (True, False):
        attention, own = ask_both(hp, own_first, scope="cbam")
        assert (attention.options["kernel_size"], own) == (7, 3)
    ask_both(keras_tuner.HyperParameters(), True, values=(3, 7))


def test_blocks_in_name_scopes_have_attention_of_their_own():
    space = tuning.CBAMHyperModel(attention=("none", "se", "cbam"))

    def attentions(hp):
        in_blocks = []
        for block in ("block1", "block2"):
            with hp.name_scope(block):
                in_blocks.append(space.attention_for(hp))
        return in_blocks

    hp = keras_tuner.HyperParameters()
    assert attentions(hp) == [None, None]
    assert [parameter.name for parameter in hp.space] == [
        f"{block}/{name}"
        for block in ("block1", "block2")
        for name in ("attention", *LAYER)
    ]
    hp.values = {
        "block1/attention": "se",
        "block2/attention": "cbam",
        "block2/reduction_ratio": 8,
        "block2/kernel_size": 3,
    }
    first, second = attentions(hp)
    assert isinstance(first(name="first"), SqueezeExcite)
    layer = second(name="second")
    assert (layer.reduction_ratio, layer.kernel_size) == (8, 3)


class Trial:
    """Stands in for `optuna.Trial`, and chooses by index."""

    def __init__(self, index):
        self.index = index

    def suggest_categorical(self, name, choices):
        return [*choices][self.index]


def test_the_error_for_a_trial_of_optuna_says_what_works():
    space = tuning.CBAMHyperModel()
    with pytest.raises(TypeError, match="Received: hp=.*, a Trial") as caught:
        space.attention_for(Trial(0))
    indented = re.findall(r"^    (.*)$", str(caught.value), re.M)
    recipe = "\n".join(indented)
    attentions = []
    for index in range(14):
        names = {"space": space, "trial": Trial(index)}
        exec(recipe, names)  # noqa: S102
        attentions.append(names["attention"])
    assert attentions == [space.attention_of(x) for x in space.points()]
    assert attentions.count(None) == 1


def test_a_known_network_needs_to_know_the_images():
    with pytest.raises(ValueError, match="input_shape=None, classes=None"):
        tuning.CBAMHyperModel().build(keras_tuner.HyperParameters())
