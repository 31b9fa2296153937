"""From what users write as `attention` to a layer."""

import functools
import pickle

import keras
import networks
import pytest
from insertion_checks import attention_of

import cbam_keras
from cbam_keras import (
    CBAM,
    SCSE,
    VARIANTS,
    SpatialAttention,
    insert_attention,
    models,
)
from cbam_keras.layers import (
    ATTENTION,
    ATTENTION_KINDS,
    Attention,
    make_attention,
)


@pytest.mark.parametrize(
    "attention, kind",
    [
        ("cbam", CBAM),
        (keras.layers.LayerNormalization, keras.layers.LayerNormalization),
        (functools.partial(CBAM, kernel_size=3), CBAM),
        (CBAM(kernel_size=3), CBAM),
        (Attention("cbam", {"kernel_size": 3}), CBAM),
    ],
)
def test_names_classes_callables_and_templates_give_layers(attention, kind):
    layer = make_attention(attention, name="gate")
    assert type(layer) is kind
    assert layer.name == "gate"
    if not isinstance(attention, (str, type)):
        assert layer.kernel_size == 3
    assert make_attention(None, name="gate") is None


@pytest.mark.parametrize("name", ATTENTION)
def test_a_name_is_our_advice_and_a_class_is_the_formula(name):
    layer, formula = make_attention(name), ATTENTION[name]
    assert type(layer) is formula
    # A gate without weights cannot learn to differ from the identity.
    paper = name == "cbam-paper"
    if name != "simam":
        assert layer.identity_init != paper
        assert not make_attention(formula).identity_init
    assert Attention(name)(name="gate").get_config() == {
        **layer.get_config(),
        "name": "gate",
    }


def test_cbam_by_name_is_what_our_experiments_recommend():
    recommended, paper = (
        CBAM(**options, name="gate").get_config()
        for options in (VARIANTS["recommended"], {})
    )
    assert make_attention("cbam", "gate").get_config() == recommended
    for attention in ("cbam-paper", CBAM, CBAM(), Attention("cbam-paper")):
        assert make_attention(attention, "gate").get_config() == paper
    # A gate alone has the normalization of its gate.
    gate = make_attention("spatial").get_config()
    parts = ("batch_norm", "batch_norm_momentum")
    assert [gate[part] for part in parts] == [True, 0.9]
    assert set(ATTENTION_KINDS) == set(ATTENTION) - {"cbam-paper"}


def test_a_name_means_the_same_in_networks_and_in_insertion():
    conv = functools.partial(keras.layers.Conv2D, 4, 3, padding="same")
    plain = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            conv(name="wide"),
            keras.layers.MaxPooling2D(),
            conv(name="conv"),
        ]
    )
    for model in (
        models.UNet(plain, 2, attention="cbam"),
        networks.resnet((1,), attention="cbam"),
        insert_attention(plain, after="conv"),
    ):
        config = attention_of(model)[0].get_config()
        assert VARIANTS["recommended"].items() <= config.items()
    # A name stands for the formula where no identity is asked for.
    changed = insert_attention(plain, "cbam", "conv", identity=False)
    formula = CBAM(name="conv_attention").get_config()
    assert changed.get_layer("conv_attention").get_config() == formula


def test_template_gives_a_fresh_layer_each_time():
    template = CBAM(4)
    template.build((None, 7, 5, 16))
    one, two = (make_attention(template, name=name) for name in "ab")
    assert not one.built
    assert one is not two
    assert make_attention(template).name != template.name


def test_an_attention_is_a_value():
    attention = Attention("cbam", {"reduction_ratio": 4})
    same = pickle.loads(pickle.dumps(attention))
    assert attention == same != Attention("cbam")
    assert len({attention, same}) == 1
    for value in (attention, Attention("cbam-paper"), Attention("se")):
        layer = eval(value.code, {"cbam_keras": cbam_keras})
        expected = value(name=layer.name)
        assert type(layer) is type(expected)
        assert layer.get_config() == expected.get_config()
    assert attention().reduction_ratio == 4 and attention().identity_init
    # What is said comes before what is advised.
    changed = Attention("cbam", {"identity_init": False})
    assert changed.arguments == {
        **VARIANTS["recommended"],
        "identity_init": False,
    }
    # Options that all layers share have a name in their bases alone.
    for kind in ("eca", SpatialAttention, functools.partial(SCSE, 4)):
        assert Attention(kind).takes("kernel_regularizer")
    assert not Attention("se").takes("pool_types")
    assert not Attention("simam").takes("kernel_regularizer")
    wider = attention.with_options({"kernel_size": 3, "pool_types": "max"})
    assert wider.options == {"reduction_ratio": 4, "kernel_size": 3}


@pytest.mark.parametrize(
    "attention, name, code",
    [
        (
            *(Attention("se"), "se"),
            "cbam_keras.SqueezeExcite(identity_init=True)",
        ),
        (Attention(CBAM), "CBAM", "cbam_keras.CBAM()"),
        (
            Attention(functools.partial(CBAM, 8, order="parallel")),
            "CBAM",
            "cbam_keras.CBAM(8, order='parallel')",
        ),
        # Keras' own are where users import them from.
        (Attention(keras.layers.ReLU), "ReLU", "keras.layers.ReLU()"),
        # No code imports a lambda, or writes a function as an argument.
        (Attention(lambda name: CBAM(name=name)), "lambda", ""),
        (Attention("cbam", {"activation": keras.ops.relu}), "cbam", ""),
    ],
)
def test_an_attention_has_a_name_and_a_line_of_code(attention, name, code):
    assert (attention.name, attention.code) == (name, code)
