"""From what users write as `attention` to a layer."""

import functools
import pickle

import keras
import pytest

import cbam_keras
from cbam_keras import CBAM, ChannelAttention, SpatialAttention, SqueezeExcite
from cbam_keras.layers import Attention, make_attention


@pytest.mark.parametrize(
    "attention, kind",
    [
        ("cbam", CBAM),
        ("se", SqueezeExcite),
        ("channel", ChannelAttention),
        ("spatial", SpatialAttention),
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


def test_template_gives_a_fresh_layer_each_time():
    template = CBAM(4)
    template.build((None, 7, 5, 16))
    one, two = (make_attention(template, name=name) for name in "ab")
    assert not one.built
    assert one is not two
    assert make_attention(template).name != template.name


@pytest.mark.parametrize(
    "attention, error, message",
    [
        ("cbm", ValueError, '"se".*Received.*Did you mean "cbam"'),
        (3, TypeError, "must be None, a name, a layer class"),
        (lambda name: "gate", TypeError, "a layer.*which gives 'gate'"),
        (lambda name: CBAM(), ValueError, "must give its layer the name"),
    ],
    ids=["unknown", "number", "no-layer", "other-name"],
)
def test_mistakes_are_reported(attention, error, message):
    with pytest.raises(error, match=message):
        make_attention(attention, name="gate")


def test_an_attention_is_a_value():
    attention = Attention("cbam", {"reduction_ratio": 4})
    same = pickle.loads(pickle.dumps(attention))
    assert attention == same != Attention("cbam")
    assert len({attention, same}) == 1
    made = eval(repr(attention), {"cbam_keras": cbam_keras})
    assert type(made) is CBAM and made.reduction_ratio == 4
    wider = attention.with_options({"kernel_size": 3, "pool_types": "max"})
    assert wider.options == {"reduction_ratio": 4, "kernel_size": 3}


@pytest.mark.parametrize(
    "attention, name, code",
    [
        (Attention("se"), "se", "cbam_keras.SqueezeExcite()"),
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


def test_an_attention_of_something_else_is_refused():
    with pytest.raises(ValueError, match='Did you mean "cbam"'):
        Attention("cbm")
    with pytest.raises(TypeError, match="`layer` must be a name, a layer cla"):
        Attention(CBAM())


class Closed(keras.layers.Layer):
    """Takes no arguments of Keras."""

    def __init__(self, width=3):
        super().__init__()
        self.width = width

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class Needy(keras.layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)


@pytest.mark.parametrize(
    "attention, message",
    [
        (Closed, r"takes \*\*kwargs.*Received: the class Closed\(width=3\)"),
        (Closed(), r"takes \*\*kwargs.*Received: the class Closed\(width=3\)"),
        (functools.partial(Closed, 4), r"takes \*\*kwargs.*class Closed"),
        (Needy, "argument: 'width'"),
        (lambda: CBAM(), "unexpected keyword argument 'name'"),
    ],
    ids=["class", "template", "partial", "other-argument", "function"],
)
def test_a_class_without_arguments_of_keras_is_told_to_take_them(
    attention, message
):
    with pytest.raises(TypeError, match=message):
        make_attention(attention, name="gate")
