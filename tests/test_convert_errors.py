"""Errors, hints, warnings and reports of `load_torch_weights`."""

import functools

import keras
import numpy as np
import pytest
from convert_checks import (
    OFFICIAL,
    attention_weights,
    error_of,
    official_weights,
    tiny_network,
    tiny_weights,
)
from layer_checks import stored, to_numpy

from cbam_keras import (
    CBAM,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
    models,
)
from cbam_keras.convert import Report, load_torch_weights
from cbam_keras.insertion import insert_attention
from cbam_keras.models import blocks

MISFITS = {
    "missing": (
        lambda: tiny_network(),
        lambda: {k: v for k, v in tiny_weights().items() if k != "bn1.bias"},
        'Missing (1): "bn1.bias". Unused (0). Of another shape (0). Received: '
        "source=<a mapping of 21 entries>.",
    ),
    "unused": (
        lambda: tiny_network(),
        lambda: tiny_weights(extra=np.zeros(1)),
        'Missing (0). Unused (1): "extra". Of another shape (0).',
    ),
    "attention in the file alone": (
        lambda: tiny_network(),
        lambda: tiny_weights() | attention_weights(),
        "The source has attention weights and the model has none: build it "
        'with attention=functools.partial(CBAM, **VARIANTS["official"]).',
    ),
    "attention in the model alone": (
        lambda: tiny_network("cbam"),
        tiny_weights,
        "The source has no attention weights: build the model with "
        "attention=None and call `insert_attention` afterwards.",
    ),
    "the paper's variant": (
        lambda: tiny_network("cbam"),
        lambda: tiny_weights() | attention_weights(),
        "The source has another attention: build the model with "
        'attention=functools.partial(CBAM, **VARIANTS["official"]).',
    ),
    "timm": (
        lambda: tiny_network("cbam"),
        lambda: (
            tiny_weights()
            | {
                f"layer1.0.se.{name}": value
                for name, value in stored("timm_cbam_c64")[1].items()
            }
        ),
        'attention=functools.partial(CBAM, **VARIANTS["timm"]).',
    ),
    "squeeze-and-excitation": (
        lambda: tiny_network("cbam"),
        lambda: (
            tiny_weights()
            | {
                "layer1.0.se.fc1.weight": np.zeros((1, 16)),
                "layer1.0.se.fc1.bias": np.zeros(1),
                "layer1.0.se.fc2.weight": np.zeros((16, 1)),
                "layer1.0.se.fc2.bias": np.zeros(16),
            }
        ),
        'attention="se".',
    ),
    "maps of other kinds": (
        lambda: tiny_network(
            functools.partial(
                CBAM,
                spatial_pool_types=("avg", "lse"),
                spatial_batch_norm=True,
            )
        ),
        lambda: tiny_weights() | attention_weights(),
        'attention=functools.partial(CBAM, **VARIANTS["official"]).',
    ),
    "a learned map": (
        lambda: tiny_network(
            functools.partial(
                CBAM, spatial_pool_types="conv", spatial_batch_norm=True
            )
        ),
        lambda: tiny_weights() | attention_weights(),
        'Missing (2): "stage1_block1_attention/spatial_attention/kernel", '
        '"stage1_block1_attention/spatial_attention/pool_kernel".',
    ),
    "classes": (
        lambda: tiny_network(classes=7),
        tiny_weights,
        "The source has 5 classes: build the model with classes=5, or leave "
        "the classifier out with include_top=False or as it is with "
        "strict=False.",
    ),
    "depth": (
        lambda: tiny_network(depths=(2,)),
        tiny_weights,
        "The source is a network of basic blocks (1), the model of basic "
        "blocks (2).",
    ),
    "block": (
        lambda: tiny_network(block="bottleneck"),
        tiny_weights,
        "The source is a network of basic blocks (1), the model of "
        "bottleneck blocks (1).",
    ),
    "another network": (
        lambda: tiny_network(),
        lambda: {"features.0.weight": np.zeros((8, 3, 3, 3))},
        "The source is a network of no known blocks, the model of basic "
        "blocks (1).",
    ),
    "a network into a block": (
        lambda: single_block(),
        tiny_weights,
        "The source is a network of basic blocks (1), the model of no known "
        "blocks.",
    ),
    "a module into the paper's layer": (
        lambda: CBAM(),
        official_weights,
        'The source is for CBAM(**VARIANTS["official"]).',
    ),
    "a network into a layer": (
        lambda: CBAM(),
        lambda: attention_weights("layer1.0.cbam."),
        "To load one module of a network, pass its entries without their "
        'prefix, such as "layer1.0.cbam.".',
    ),
    "no module": (
        lambda: SqueezeExcite(),
        tiny_weights,
        'Received: the names "conv1.weight", "layer1.0.conv1.weight", ',
    ),
    "an unbuilt spatial gate": (
        lambda: SpatialAttention(data_format="channels_first"),
        lambda: official_weights("spatial_k7"),
        "its weights do not show the number of channels C. Build it first: "
        "layer.build((None, C, None, None))",
    ),
    "an empty mapping": (
        lambda: tiny_network(),
        lambda: {},
        "which contains nothing",
    ),
    "a checkpoint without weights": (
        lambda: tiny_network(),
        lambda: {"epoch": 3, "optimizer": {"lr": 0.1}},
        'a mapping with the keys "epoch" (int), "optimizer" (dict)',
    ),
    "the same names twice": (
        lambda: tiny_network(),
        lambda: {"fc.bias": np.zeros(5), "module.fc.bias": np.zeros(5)},
        "where names differ only by the prefixes of wrappers",
    ),
    "a network of ours without a counterpart": (
        lambda: models.MobileNet(alpha=0.25, input_shape=(32, 32, 3)),
        tiny_weights,
        'Unknown (55): "stem_conv", "stem_bn", "stage1_block1_conv1", ... '
        "Load the weights before",
    ),
    "attention in another place": (
        lambda: insert_attention(
            tiny_network(), OFFICIAL, "stem_relu", identity=False
        ),
        lambda: tiny_weights() | attention_weights(),
        'Unknown (1): "stem_relu_attention".',
    ),
    "attention twice": (
        lambda: insert_attention(
            tiny_network("se"), "se", "block1_bn2", identity=False
        ),
        tiny_weights,
        'Unknown (1): "stage1_block1_bn2_attention".',
    ),
    "attention of others": (
        lambda: tiny_network(keras.layers.LayerNormalization),
        tiny_weights,
        'Unknown (1): "stage1_block1_attention".',
    ),
    "a network of Keras": (
        lambda: keras.applications.MobileNet(
            weights=None, input_shape=(32, 32, 3), alpha=0.25
        ),
        tiny_weights,
        'Unknown (55): "conv1", "conv1_bn", "conv_dw_1", ...',
    ),
    "a layer of Keras": (
        lambda: keras.layers.Dense(2, name="own"),
        tiny_weights,
        "`model_or_layer` must be a residual network of cbam_keras.models, or "
        "a CBAM, ChannelAttention, SpatialAttention or SqueezeExcite layer. "
        'Received: Dense layer "own"',
    ),
}


def single_block():
    inputs = keras.Input((8, 8, 16))
    return keras.Model(inputs, blocks.basic_block(inputs, 16, name="block"))


def built_spatial():
    layer = SpatialAttention()
    layer.build((None, None, None, 16))
    return layer


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_explained(case):
    build, weights, expected = MISFITS[case]
    target = build()
    built = target.built
    assert expected in error_of(target, weights())
    assert target.built == built


def test_other_widths_are_named():
    wide = np.zeros((24, 8, 3, 3), "float32")
    weights = {**tiny_weights(), "layer1.0.conv1.weight": wide}
    found = error_of(tiny_network(), weights)
    assert "The source has stages of width (24,)." in found


def test_nothing_that_fits_is_an_error_without_strict():
    message = error_of(
        tiny_network(), {"features.0.weight": np.zeros(3)}, strict=False
    )
    assert 'Unused (1): "features.0.weight"' in message


@pytest.mark.parametrize(
    "target, source, message",
    [
        ("model", {}, "`model_or_layer` must be a Keras model or layer"),
        (None, 3, "`source` must be the path of a checkpoint or a mapping"),
        (None, None, "Received: source of type NoneType"),
    ],
)
def test_arguments_of_a_wrong_kind(target, source, message):
    target = CBAM() if target is None else target
    with pytest.raises(TypeError, match=message):
        load_torch_weights(target, source)


def test_strict_is_a_boolean():
    with pytest.raises(TypeError, match="`strict` must be True or False"):
        load_torch_weights(CBAM(), {}, strict=1)


def test_network_within_a_model_is_named():
    inputs = keras.Input((8, 8, 3))
    network = tiny_network()
    found = error_of(keras.Model(inputs, network(inputs)), tiny_weights())
    assert f'load_torch_weights(model.get_layer("{network.name}")' in found


def test_a_classifier_may_be_unused_where_there_is_none():
    model = tiny_network(include_top=False)
    report = load_torch_weights(model, tiny_weights())
    assert report.unused == ("fc.weight", "fc.bias")
    assert not report.missing


def test_what_fits_is_loaded_without_strict():
    weights = tiny_weights(extra=np.zeros(2, "float32")) | {
        "fc.weight": np.zeros((7, 16), "float32"),
        "fc.bias": np.zeros(7, "float32"),
    }
    del weights["bn1.bias"]
    model = tiny_network()
    before = to_numpy(model.get_layer("predictions").kernel)
    report = load_torch_weights(model, weights, strict=False)
    assert report.missing == ("bn1.bias",)
    assert report.unused == ("extra",)
    assert report.mismatched == (
        ("fc.weight", (5, 16), (7, 16)),
        ("fc.bias", (5,), (7,)),
    )
    assert len(report.loaded) == len(model.weights) - 3
    np.testing.assert_array_equal(
        to_numpy(model.get_layer("predictions").kernel), before
    )
    np.testing.assert_array_equal(
        to_numpy(model.get_layer("stem_bn").gamma), weights["bn1.weight"]
    )
    assert str(report).endswith(
        'Missing (1): "bn1.bias". Unused (1): "extra". Of another shape (2): '
        '"fc.weight" (expected (5, 16), received (7, 16)), '
        '"fc.bias" (expected (5,), received (7,)).'
    )


def test_your_own_layers_are_missing_without_strict():
    base = tiny_network(include_top=False, pooling="avg")
    outputs = keras.layers.Dense(3, name="own")(base.output)
    model = keras.Model(base.input, outputs)
    report = load_torch_weights(model, tiny_weights(), strict=False)
    assert report.missing == ("own/kernel", "own/bias")
    message = error_of(model, tiny_weights())
    assert 'Unknown (1): "own".' in message
    assert "before adding your own layers" in message


def test_a_long_report_prints_the_first_few():
    report = Report(loaded=("a", "b", "c", "d"))
    assert str(report) == (
        'Loaded (4): "a", "b", "c", ... Missing (0). Unused (0). '
        "Of another shape (0)."
    )


@pytest.mark.needs_torch
def test_strides_in_1x1_convolutions_are_warned_of():
    pytest.importorskip("torch", reason="PyTorch makes the weights")
    import torch_reference

    options = {"depths": (1, 1), "widths": (8, 16), "block": "bottleneck"}
    weights = torch_reference.ResNet(**options).state_dict()
    model = models.ResNet(
        **options, stem_width=8, classes=5, downsample_in="1x1"
    )
    with pytest.warns(UserWarning, match='downsample_in="3x3"') as caught:
        load_torch_weights(model, weights)
    assert '"stage2_block1_conv1"' in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "options, listed",
    [
        ({"identity_init": True}, "identity_init=True"),
        ({"order": "parallel"}, "order='parallel'"),
        ({"activation": None}, "activation='linear'"),
        ({"gate_activation": "hard_sigmoid"}, "gate_activation='hard_sigmoid'"),
    ],
    ids=["identity", "order", "activation", "gate"],
)
def test_what_no_checkpoint_computes_is_warned_of(options, listed):
    layer = OFFICIAL(**options, name="gate")
    with pytest.warns(UserWarning, match=f'"gate" has {listed},'):
        load_torch_weights(layer, official_weights())


def test_dilation_is_warned_of():
    layer = SpatialAttention(dilation_rate=2, batch_norm=True)
    layer.build((None, None, None, 16))
    with pytest.warns(UserWarning, match="dilation_rate=2"):
        load_torch_weights(layer, official_weights("spatial_k7"))


@pytest.mark.parametrize("attention", ["channel", ChannelAttention])
def test_other_pools_than_those_of_timm_are_warned_of(attention):
    names = attention_weights("layer1.0.se.")
    names = {
        f"layer1.0.se.fc{layer}.{kind}": names[
            f"layer1.0.se.ChannelGate.mlp.{number}.{kind}"
        ]
        for layer, number in ((1, 1), (2, 3))
        for kind in ("weight", "bias")
    }
    weights = {**tiny_weights(), **names}
    with pytest.warns(UserWarning, match='attention="se"') as caught:
        load_torch_weights(tiny_network(attention=attention), weights)
    assert caught[0].filename == __file__
