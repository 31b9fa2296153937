"""Errors, warnings and reports of converted weights."""

import re

import keras
import numpy as np
import pytest
from convert_checks import (
    OFFICIAL,
    attention_weights,
    error_of,
    slot_values,
    tiny_network,
    tiny_weights,
)
from layer_checks import stored

from cbam_keras import (
    BAM,
    CBAM,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    insert_attention,
    load_torch_weights,
)

# The names of timm's squeeze-and-excitation.
SE = {
    "layer1.0.se.fc1.weight": np.ones((1, 16), "float32"),
    "layer1.0.se.fc1.bias": np.ones(1, "float32"),
    "layer1.0.se.fc2.weight": np.ones((16, 1), "float32"),
    "layer1.0.se.fc2.bias": np.ones(16, "float32"),
}


def with_se():
    return tiny_weights() | SE


def built(layer, shape=(None, 8, 8, 16)):
    layer.build(shape)
    return layer


MISFITS = {
    "attention in the file alone": (
        tiny_network,
        lambda: tiny_weights() | attention_weights(),
        "Of another shape (0). Received: source=<a mapping of 31 entries>.\n",
    ),
    "a model that is not built": (
        lambda: keras.Sequential([keras.layers.Conv2D(8, 3)]),
        tiny_weights,
        "must have weights. Build it",
    ),
    "a transposed weight": (
        tiny_network,
        lambda: tiny_weights() | {"fc.weight": np.zeros((16, 5), "float32")},
        '"fc.weight" (expected (5, 16), received (16, 5))',
    ),
    "an unbuilt gate": (
        EfficientChannelAttention,
        lambda: {"conv.weight": np.ones((1, 1, 3), "float32")},
        "shows the number of channels. Build it first, layer.build",
    ),
    "a gate with a weight missing": (
        lambda: built(BAM(combine="multiply")),
        lambda: dict([*slot_values(built(BAM())).items()][1:]),
        'Missing (1): "channel_att.gate_c.gate_c_fc_0.weight" (1, 16). '
        "Unused (0). Of another shape (0). Received: source=<a mapping of 27 "
        "entries>.\n",
    ),
    "a gate with an axis that its module lacks": (
        lambda: built(CoordinateAttention(), (None, 4, 4, 4, 16)),
        lambda: slot_values(built(CoordinateAttention())),
        'Missing (2): "coordinate_attention/excite2_kernel" (16, 8), "coordi',
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_explained(case):
    build, weights, expected = MISFITS[case]
    target = build()
    is_built = target.built
    assert expected in error_of(target, weights()) + "\n"
    assert target.built == is_built


def test_a_classifier_may_be_unused_where_there_is_none():
    model = tiny_network(include_top=False)
    report = load_torch_weights(model, tiny_weights())
    assert report.unused == ("fc.weight", "fc.bias")


def test_an_error_lists_what_is_missing_unused_and_of_another_shape():
    weights = tiny_weights() | {
        "extra": np.zeros(2, "float32"),
        "fc.weight": np.zeros((7, 16), "float32"),
    }
    del weights["bn1.bias"]
    assert (
        'Missing (1): "bn1.bias" (8,). Unused (1): "extra" (2,). Of another '
        'shape (1): "fc.weight" (expected (5, 16), received (7, 16)). '
        "Received: source=<a mapping of 22 entries>."
    ) in error_of(tiny_network(), weights)


def test_your_own_layers_are_unknown():
    base = tiny_network(include_top=False, pooling="avg")
    outputs = keras.layers.Dense(3, name="own")(base.output)
    message = error_of(keras.Model(base.input, outputs), tiny_weights())
    assert 'Unknown (1): "own".' in message
    assert "before adding your own layers" in message


def test_a_second_attention_in_a_block_has_no_counterpart():
    model = tiny_network(CBAM, classifier_activation=None)
    twice = insert_attention(model, after="stage1_block1_bn2")
    message = error_of(twice, tiny_weights() | attention_weights())
    assert 'Unknown (1): "stage1_block1_bn2_attention".' in message


# What weights do not show: a target, weights for it, and words of the message.
DIFFERENCES = {
    "strides in 1x1 convolutions": (
        lambda: tiny_network(
            depths=(1, 1),
            widths=(4, 8),
            block="bottleneck",
            downsample_in="1x1",
        ),
        slot_values,
        '"stage2_block1_conv1".*downsample_in="3x3"',
    ),
    "the authors' CBAM": (
        lambda: OFFICIAL(order="parallel", activation=None, name="gate"),
        lambda target: stored("official_cbam_c32_r16")[1],
        "\"gate\" has order='parallel', activation='linear', unlike",
    ),
    "the authors' BAM": (
        lambda: built(BAM(8, name="gate", identity_init=True)),
        slot_values,
        "identity_init=True, combine='add', unlike .*"
        r"with identity_init=False, combine='multiply'\.",
    ),
    "other pools than those of timm": (
        lambda: tiny_network(ChannelAttention),
        lambda target: with_se(),
        r"pool_types=\('avg', 'max'\).*with pool_types=\('avg',\)",
    ),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_what_computes_something_else_is_refused(case):
    build, make_weights, listed = DIFFERENCES[case]
    target = build()
    weights = make_weights(target)
    assert re.search(listed, error_of(target, weights))
