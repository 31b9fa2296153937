"""From what users write as `attention` to a layer."""

import functools

import keras
import pytest

from cbam_keras import CBAM, ChannelAttention, SpatialAttention, SqueezeExcite
from cbam_keras.layers import make_attention


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
