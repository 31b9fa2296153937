"""Converted networks and layers give PyTorch's outputs."""

import functools

import keras
import numpy as np
import pytest
from convert_checks import (
    CHECKPOINT,
    OFFICIAL,
    TIMM,
    assert_equal_values,
    attention_weights,
    official_weights,
    small_network,
    tiny_network,
    tiny_weights,
    values,
)
from layer_checks import channels_last, output, random_input, stored, to_numpy

from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
    models,
)
from cbam_keras.convert import Report, load_torch_weights
from cbam_keras.insertion import insert_attention
from cbam_keras.models import blocks


@pytest.mark.every_backend
@pytest.mark.needs_torch
def test_the_authors_checkpoint_gives_their_outputs():
    pytest.importorskip("torch", reason="PyTorch reads the file")
    model = small_network()
    report = load_torch_weights(model, CHECKPOINT)
    assert len(report.loaded) == len(model.weights) == 179
    assert report == Report(loaded=report.loaded)
    arrays, _ = stored("official_small_cbam_io")
    stages = [
        keras.ops.mean(
            model.get_layer(f"stage{stage}_block2_out").output, axis=(1, 2)
        )
        for stage in (1, 2, 3, 4)
    ]
    found = keras.Model(model.input, [*stages, model.output]).predict(
        channels_last(arrays["input"]), verbose=0
    )
    names = [*(f"layer{stage}" for stage in (1, 2, 3, 4)), "output"]
    for name, value in zip(names, found, strict=True):
        np.testing.assert_allclose(
            value,
            arrays[f"{name}_f64"],
            # The rounding of 17 convolutions.
            atol=5e-5,
            err_msg=name,
        )


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "name, build",
    [
        ("official_cbam_c32_r16", OFFICIAL),
        (
            "official_cbam_c64_r8_avgonly",
            functools.partial(OFFICIAL, 8, channel_pool_types="avg"),
        ),
        ("timm_cbam_c64", TIMM),
        # The order of our maps makes no difference to what is computed.
        (
            "official_cbam_c32_r16",
            functools.partial(OFFICIAL, spatial_pool_types=("avg", "max")),
        ),
        (
            "timm_cbam_c64",
            functools.partial(TIMM, spatial_pool_types=("max", "avg")),
        ),
    ],
    ids=["official", "average", "timm", "official, swapped", "timm, swapped"],
)
def test_a_module_gives_its_outputs(name, build):
    layer = build()
    arrays, weights = stored(name)
    report = load_torch_weights(layer, weights)
    assert len(report.loaded) == len(layer.weights)
    np.testing.assert_allclose(
        output(layer, channels_last(arrays["input"])),
        channels_last(arrays["output_f64"]),
        atol=1e-5,
    )


@pytest.mark.every_backend
@pytest.mark.parametrize("pool_types", [("max", "avg"), ("avg", "max")])
def test_a_spatial_gate_gives_its_outputs(pool_types):
    arrays, weights = stored("official_spatial_k7")
    layer = SpatialAttention(pool_types=pool_types, batch_norm=True)
    layer.build((None, None, None, 16))
    load_torch_weights(layer, weights)
    np.testing.assert_allclose(
        output(layer, channels_last(arrays["input"])),
        channels_last(arrays["output_f64"]),
        atol=1e-5,
    )


@pytest.mark.every_backend
@pytest.mark.parametrize("name", ["anything", "stage1_block1", "a_conv1"])
def test_a_single_block_gives_its_outputs(name):
    arrays, weights = stored("official_basicblock_c64")
    inputs = keras.Input((10, 8, 64))
    outputs = blocks.basic_block(inputs, 64, name=name, attention=OFFICIAL)
    model = keras.Model(inputs, outputs)
    load_torch_weights(model, weights)
    np.testing.assert_allclose(
        model.predict(channels_last(arrays["input"]), verbose=0),
        channels_last(arrays["output_f64"]),
        atol=5e-5,
    )


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "build, name, prefix",
    [
        (ChannelAttention, "official_cbam_c32_r16", "ChannelGate."),
        (
            functools.partial(ChannelAttention, use_bias=False),
            "timm_cbam_c64",
            "channel.",
        ),
        (
            functools.partial(
                SpatialAttention, pool_types=("max", "avg"), batch_norm=True
            ),
            "official_cbam_c32_r16",
            "SpatialGate.",
        ),
        (
            functools.partial(SpatialAttention, batch_norm=True),
            "timm_cbam_c64",
            "spatial.",
        ),
    ],
    ids=["channel", "channel, timm", "spatial", "spatial, timm"],
)
@pytest.mark.parametrize("keep_prefix", [True, False])
def test_a_gate_is_found_in_its_module_and_alone(
    build, name, prefix, keep_prefix
):
    arrays, weights = stored(name)
    channels = arrays["input"].shape[1]
    gate = build()
    gate.build((None, None, None, channels))
    whole = CBAM(**VARIANTS[name.split("_")[0]])
    load_torch_weights(whole, weights)
    load_torch_weights(
        gate,
        {
            key if keep_prefix else key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix)
        },
    )
    x = random_input((2, 7, 5, channels))
    part = whole.channel_attention
    if isinstance(gate, SpatialAttention):
        part = whole.spatial_attention
    np.testing.assert_array_equal(output(gate, x), output(part, x))


NETWORKS = {
    "basic": ({"depths": (2, 1), "widths": (8, 16)}, None),
    "bottleneck": (
        {"depths": (1, 2), "widths": (8, 16), "block": "bottleneck"},
        None,
    ),
    "wide": (
        {
            "depths": (1, 1),
            "widths": (8, 16),
            "block": "bottleneck",
            "base_width": 128,
        },
        None,
    ),
    "resnext": (
        {
            "depths": (1, 1),
            "widths": (16, 32),
            "block": "bottleneck",
            "groups": 4,
            "base_width": 16,
        },
        None,
    ),
    "se": ({"depths": (1, 1), "widths": (32, 64), "se": (2, 4)}, "se"),
    "se of other widths": (
        {"depths": (1, 1), "widths": (32, 64), "se": (8, 4)},
        [SqueezeExcite(hidden_units=8), "se"],
    ),
}


@pytest.mark.every_backend
@pytest.mark.needs_torch
@pytest.mark.parametrize("size", [(32, 38), (33, 45)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_the_logits_of_pytorch(name, size):
    pytest.importorskip("torch", reason="PyTorch gives the expected values")
    import torch_reference

    options, attention = NETWORKS[name]
    network = torch_reference.ResNet(**options)
    options = {key: value for key, value in options.items() if key != "se"}
    model = models.ResNet(
        **{"block": "basic", **options},
        stem_width=8,
        classes=5,
        classifier_activation=None,
        input_shape=(*size, 3),
        attention=attention,
    )
    report = load_torch_weights(model, network.state_dict())
    assert len(report.loaded) == len(model.weights)
    images = random_input((2, *size, 3))
    np.testing.assert_allclose(
        model.predict(images, verbose=0),
        torch_reference.logits(network, images),
        atol=1e-5,
    )


def torchvision_models():
    try:
        return pytest.importorskip("torchvision.models", exc_type=ImportError)
    except RuntimeError as error:
        # A build for another PyTorch lacks its own operators.
        pytest.skip(f"torchvision cannot be imported: {error}")


def timm_models():
    try:
        return pytest.importorskip("timm.models", exc_type=ImportError)
    except RuntimeError as error:
        pytest.skip(f"timm cannot be imported: {error}")


def assert_equal_logits(network, model):
    import torch_reference

    torch_reference.randomize(network)
    load_torch_weights(model, network.state_dict())
    images = random_input((2, *model.input_shape[1:]))
    np.testing.assert_allclose(
        model.predict(images, verbose=0),
        torch_reference.logits(network, images),
        atol=1e-5,
    )


PLAIN = {"classifier_activation": None, "input_shape": (40, 35, 3)}


@pytest.mark.needs_torch
@pytest.mark.slow
# Of torchvision's own making.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name, builder",
    [
        ("resnet18", models.ResNet18),
        ("resnet50", models.ResNet50),
        (
            "resnext50_32x4d",
            functools.partial(
                models.ResNet, (3, 4, 6, 3), groups=32, base_width=4
            ),
        ),
    ],
    ids=["resnet18", "resnet50", "resnext50"],
)
def test_networks_of_torchvision_give_their_logits(name, builder):
    network = getattr(torchvision_models(), name)()
    assert_equal_logits(network, builder(**PLAIN))


@pytest.mark.needs_torch
@pytest.mark.slow
# Of timm's own making.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name, builder, attention",
    [
        (
            "seresnet18",
            models.ResNet18,
            [SqueezeExcite(hidden_units=8), "se", "se", "se"],
        ),
        ("seresnet50", models.ResNet50, "se"),
    ],
    ids=["seresnet18", "seresnet50"],
)
def test_networks_of_timm_give_their_logits(name, builder, attention):
    network = timm_models().create_model(name)
    assert_equal_logits(network, builder(attention=attention, **PLAIN))


@pytest.mark.needs_torch
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_network_of_timm_with_cbam_gives_its_logits():
    resnet = timm_models().resnet
    network = resnet.ResNet(
        resnet.BasicBlock, (2, 2, 2, 2), block_args={"attn_layer": "cbam"}
    )
    assert_equal_logits(network, models.ResNet18(attention=TIMM, **PLAIN))


@pytest.mark.every_backend
def test_attention_inserted_later_is_found():
    plain = tiny_network()
    inserted = insert_attention(plain, OFFICIAL, identity=False)
    built_in = tiny_network(OFFICIAL)
    weights = tiny_weights() | attention_weights()
    images = random_input((2, 8, 8, 3))
    found = []
    for model in (inserted, built_in):
        load_torch_weights(model, weights)
        found.append(model.predict(images, verbose=0))
    np.testing.assert_allclose(*found, atol=1e-6)


def test_attention_inserted_into_bottlenecks_is_found():
    plain = tiny_network(block="bottleneck")
    model = insert_attention(plain, OFFICIAL, identity=False)
    weights = attention_weights(channels=64, hidden=4)
    report = load_torch_weights(model, weights, strict=False)
    assert set(report.loaded) == set(weights)
    layer = model.get_layer("stage1_block1_bn3_attention")
    np.testing.assert_array_equal(
        to_numpy(layer.channel_attention.excite_bias),
        weights["layer1.0.cbam.ChannelGate.mlp.3.bias"],
    )


@pytest.mark.every_backend
def test_float64_keeps_its_digits_in_a_float64_layer(float64):
    weights = {
        "fc1.weight": np.random.default_rng(0).normal(size=(2, 16)),
        "fc2.weight": np.random.default_rng(1).normal(size=(16, 2)),
    }
    layer = ChannelAttention(8, use_bias=False, dtype="float64")
    load_torch_weights(layer, weights)
    np.testing.assert_array_equal(
        to_numpy(layer.squeeze_kernel), weights["fc1.weight"].T
    )


@pytest.mark.every_backend
def test_loaded_values_are_copies():
    weights = tiny_weights()
    model = tiny_network()
    load_torch_weights(model, weights)
    before = [value.copy() for value in values(model)]
    for value in weights.values():
        value[...] = 0
    assert_equal_values(values(model), before)


def test_frozen_layers_and_mixed_precision_take_weights():
    weights = tiny_weights()
    keras.config.set_dtype_policy("mixed_float16")
    model = tiny_network()
    model.trainable = False
    load_torch_weights(model, weights)
    kernel = model.get_layer("stage1_block1_conv1").kernel
    assert not model.trainable_variables
    np.testing.assert_array_equal(
        to_numpy(kernel),
        weights["layer1.0.conv1.weight"].transpose(2, 3, 1, 0),
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_layer_is_built_by_the_weights(data_format):
    layer = OFFICIAL(data_format=data_format)
    load_torch_weights(layer, attention_weights("", channels=32, hidden=2))
    assert layer.built
    shape = (2, 32, 7, 5) if data_format == "channels_first" else (2, 7, 5, 32)
    assert tuple(layer(np.zeros(shape, "float32")).shape) == shape


@pytest.mark.every_backend
def test_squeeze_and_excitation_is_loaded():
    rng = np.random.default_rng(0)
    weights = {
        "fc1.weight": rng.normal(size=(2, 16, 1, 1)),
        "fc1.bias": rng.normal(size=2),
        "fc2.weight": rng.normal(size=(16, 2, 1, 1)),
        "fc2.bias": rng.normal(size=16),
    }
    layer = SqueezeExcite(8)
    load_torch_weights(layer, weights)
    x = random_input()
    hidden = np.maximum(
        x.mean((1, 2)) @ weights["fc1.weight"][:, :, 0, 0].T
        + weights["fc1.bias"],
        0,
    )
    logits = hidden @ weights["fc2.weight"][:, :, 0, 0].T + weights["fc2.bias"]
    np.testing.assert_allclose(
        output(layer, x),
        x / (1 + np.exp(-logits[:, None, None])),
        atol=1e-5,
    )


def test_a_bias_of_the_spatial_gate_is_loaded():
    bias = np.array([0.25], "float32")
    layer = OFFICIAL(spatial_use_bias=True)
    load_torch_weights(
        layer,
        official_weights() | {"SpatialGate.spatial.conv.bias": bias},
    )
    np.testing.assert_array_equal(to_numpy(layer.spatial_attention.bias), bias)


def test_one_dimensional_attention_takes_one_dimensional_kernels():
    weights = attention_weights("")
    name = "SpatialGate.spatial.conv.weight"
    weights[name] = weights[name][:, :, 0]
    layer = OFFICIAL()
    layer.build((None, None, 16))
    load_torch_weights(layer, weights)
    np.testing.assert_array_equal(
        to_numpy(layer.spatial_attention.kernel),
        weights[name].transpose(2, 1, 0),
    )
