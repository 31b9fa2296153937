"""Weights of PyTorch: converted networks and layers give PyTorch's outputs."""

import functools
import os
import pathlib
import pickle
import re
import sys

import keras
import numpy as np
import pytest
from layer_checks import output, random_input, to_numpy

from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
    blocks,
    models,
)
from cbam_keras.convert import Report, load_torch_weights
from cbam_keras.insertion import insert_attention

REFERENCE = pathlib.Path(__file__).parent / "reference"
CHECKPOINT = REFERENCE / "official_small_cbam.pth.tar"
OFFICIAL = functools.partial(CBAM, **VARIANTS["official"])
TIMM = functools.partial(CBAM, **VARIANTS["timm"])


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def stored(name):
    """Returns the arrays of a file, and its weights by PyTorch's names."""
    arrays = dict(np.load(REFERENCE / f"{name}.npz"))
    weights = {
        key[2:]: arrays.pop(key) for key in list(arrays) if key.startswith("w/")
    }
    return arrays, weights


def official_weights(part="cbam_c32_r16"):
    return stored(f"official_{part}")[1]


def small_network(attention=OFFICIAL, **options):
    """Returns the network of the stored checkpoint, or one like it."""
    return models.ResNet(
        **{
            "depths": (2, 2, 2, 2),
            "block": "basic",
            "widths": (16, 32, 64, 128),
            "stem": "small",
            "classes": 10,
            "classifier_activation": None,
            "attention": attention,
            **options,
        }
    )


def tiny_network(attention=None, **options):
    """Returns a network of one stage, of the smallest sizes."""
    return models.ResNet(
        **{
            "depths": (1,),
            "block": "basic",
            "widths": (16,),
            "stem_width": 8,
            "stem": "small",
            "input_shape": (8, 8, 3),
            "classes": 5,
            "attention": attention,
            **options,
        }
    )


def tiny_weights(**options):
    """Returns random weights for `tiny_network()`, by PyTorch's names."""
    rng = np.random.default_rng(0)
    shapes = {
        "conv1.weight": (8, 3, 3, 3),
        "layer1.0.conv1.weight": (16, 8, 3, 3),
        "layer1.0.conv2.weight": (16, 16, 3, 3),
        "layer1.0.downsample.0.weight": (16, 8, 1, 1),
        "fc.weight": (5, 16),
        "fc.bias": (5,),
    }
    for name, size in (
        ("bn1", 8),
        ("layer1.0.bn1", 16),
        ("layer1.0.bn2", 16),
        ("layer1.0.downsample.1", 16),
    ):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (size,)
    return {
        name: rng.uniform(0.1, 1, shape).astype("float32")
        for name, shape in shapes.items()
    } | options


def attention_weights(prefix="layer1.0.cbam.", channels=16, hidden=1):
    """Returns random weights of the authors' module."""
    rng = np.random.default_rng(1)
    shapes = {
        "ChannelGate.mlp.1.weight": (hidden, channels),
        "ChannelGate.mlp.1.bias": (hidden,),
        "ChannelGate.mlp.3.weight": (channels, hidden),
        "ChannelGate.mlp.3.bias": (channels,),
        "SpatialGate.spatial.conv.weight": (1, 2, 7, 7),
        "SpatialGate.spatial.bn.weight": (1,),
        "SpatialGate.spatial.bn.bias": (1,),
        "SpatialGate.spatial.bn.running_mean": (1,),
        "SpatialGate.spatial.bn.running_var": (1,),
    }
    return {
        prefix + name: rng.uniform(0.1, 1, shape).astype("float32")
        for name, shape in shapes.items()
    }


def values(target):
    return [to_numpy(variable) for variable in target.weights]


def assert_equal_values(first, second):
    for x, y in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, y)


def error_of(target, source, **options):
    """Returns the message that a source is refused with, nothing loaded."""
    before = values(target)
    with pytest.raises(ValueError) as caught:
        load_torch_weights(target, source, **options)
    assert_equal_values(values(target), before)
    return str(caught.value)


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


@pytest.mark.parametrize("size", [(32, 38), (33, 45)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_the_logits_of_pytorch(name, size):
    pytest.importorskip("torch", reason="PyTorch is the judge here")
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_network_of_timm_with_cbam_gives_its_logits():
    resnet = timm_models().resnet
    network = resnet.ResNet(
        resnet.BasicBlock, (2, 2, 2, 2), block_args={"attn_layer": "cbam"}
    )
    assert_equal_logits(network, models.ResNet18(attention=TIMM, **PLAIN))


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


@pytest.mark.parametrize(
    "rename",
    [
        "module.{}",
        "_orig_mod.{}",
        "_orig_mod.module.{}",
        "module._orig_mod.{}",
        "model.{}",
    ],
)
def test_what_wrappers_add_to_names_is_left_out(rename):
    weights = tiny_weights()
    model = tiny_network()
    report = load_torch_weights(
        model, {rename.format(name): value for name, value in weights.items()}
    )
    assert set(report.loaded) == set(weights)
    np.testing.assert_array_equal(
        to_numpy(model.get_layer("predictions").bias), weights["fc.bias"]
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"model_state_dict": weights, "loss": np.zeros(())},
        lambda weights: {"model": {"state_dict": weights}},
        lambda weights: {"model": weights, "model_ema": {}},
        lambda weights: (
            weights
            | {
                "bn1.num_batches_tracked": np.array(7),
                "n_averaged": np.array(3),
            }
        ),
    ],
    ids=["state_dict", "model_state_dict", "nested", "ema", "counters"],
)
def test_usual_checkpoints_are_unwrapped(wrap):
    weights = tiny_weights()
    report = load_torch_weights(tiny_network(), wrap(weights))
    assert set(report.loaded) == set(weights)
    assert not report.unused


def write(path, weights, legacy=False):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    if path.suffix == ".safetensors":
        safetensors = pytest.importorskip(
            "safetensors.torch", reason="safetensors writes the file"
        )
        safetensors.save_file(tensors, path)
    else:
        torch.save(
            {"state_dict": tensors, "epoch": 1, "best": torch.tensor(1.0)},
            path,
            _use_new_zipfile_serialization=not legacy,
        )
    return path


@pytest.mark.parametrize(
    "name, legacy",
    [
        ("weights.pth", False),
        ("weights.pth", True),
        ("model_best.pth.tar", False),
        ("model_best.pth.tar", True),
        ("weights.bin", False),
        ("weights.safetensors", False),
    ],
)
def test_files_of_every_format_are_read(tmp_path, name, legacy):
    weights = tiny_weights()
    path = write(tmp_path / name, weights, legacy)
    from_file, from_arrays = tiny_network(), tiny_network()
    report = load_torch_weights(from_file, path)
    load_torch_weights(from_arrays, weights)
    assert set(report.loaded) == set(weights)
    assert_equal_values(values(from_file), values(from_arrays))


def test_arrays_need_no_pytorch(monkeypatch):
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch is the backend")
    monkeypatch.setitem(sys.modules, "torch", None)
    weights = tiny_weights()
    assert set(load_torch_weights(tiny_network(), weights).loaded) == set(
        weights
    )


def test_a_file_names_the_extra_when_pytorch_is_absent(monkeypatch):
    layer = CBAM()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"cbam_keras\[torch\]"):
        load_torch_weights(layer, CHECKPOINT)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_floats_of_other_widths_are_converted(kind):
    torch = pytest.importorskip("torch", reason="NumPy has no bfloat16")
    weights = {
        name: torch.tensor(value).to(getattr(torch, kind))
        for name, value in tiny_weights().items()
    }
    model = tiny_network()
    load_torch_weights(model, weights)
    np.testing.assert_array_equal(
        to_numpy(model.get_layer("predictions").bias),
        weights["fc.bias"].float().numpy(),
    )


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


def test_a_classifier_may_be_left_over_where_there_is_none():
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


def test_layers_of_ones_own_are_missing_without_strict():
    base = tiny_network(include_top=False, pooling="avg")
    outputs = keras.layers.Dense(3, name="own")(base.output)
    model = keras.Model(base.input, outputs)
    report = load_torch_weights(model, tiny_weights(), strict=False)
    assert report.missing == ("own/kernel", "own/bias")
    message = error_of(model, tiny_weights())
    assert 'Unknown (1): "own".' in message
    assert "before adding layers of your own" in message


def test_a_long_report_prints_the_first_few():
    report = Report(loaded=("a", "b", "c", "d"))
    assert str(report) == (
        'Loaded (4): "a", "b", "c", ... Missing (0). Unused (0). '
        "Of another shape (0)."
    )


# What does not fit, and the advice that the error ends with.
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
        "The source is a network of basic blocks (1), the model one of basic "
        "blocks (2).",
    ),
    "block": (
        lambda: tiny_network(block="bottleneck"),
        tiny_weights,
        "The source is a network of basic blocks (1), the model one of "
        "bottleneck blocks (1).",
    ),
    "reduction ratio": (
        lambda: tiny_network(functools.partial(OFFICIAL, 8)),
        lambda: tiny_weights() | attention_weights(),
        "The source has other hidden widths: build with reduction_ratio=16.",
    ),
    "kernel size": (
        lambda: tiny_network(functools.partial(OFFICIAL, kernel_size=3)),
        lambda: tiny_weights() | attention_weights(),
        "The source has kernel_size=7.",
    ),
    "stem": (
        lambda: tiny_network(stem="imagenet"),
        tiny_weights,
        'The source has most likely stem="small".',
    ),
    "input channels": (
        lambda: tiny_network(input_shape=(8, 8, 1)),
        tiny_weights,
        "The source takes images of 3 channels to stem_width=8.",
    ),
    "another network": (
        lambda: tiny_network(),
        lambda: {"features.0.weight": np.zeros((8, 3, 3, 3))},
        "The source has none of the names of a residual network, as "
        '"conv1.weight".',
    ),
    "a network into a block": (
        lambda: single_block(),
        tiny_weights,
        "The source is a network of basic blocks (1), the model a single "
        "block.",
    ),
    "a module into the paper's layer": (
        lambda: CBAM(),
        official_weights,
        'The source is of CBAM(**VARIANTS["official"]).',
    ),
    "a gate with biases": (
        lambda: ChannelAttention(use_bias=False),
        lambda: {"mlp.1.weight": np.zeros((1, 8)), "mlp.1.bias": np.zeros(1)},
        "The source is of ChannelAttention(use_bias=True).",
    ),
    "a spatial gate": (
        lambda: built_spatial(),
        lambda: official_weights("spatial_k7"),
        "The source is of SpatialAttention(pool_types=('max', 'avg'), "
        "batch_norm=True).",
    ),
    "the hidden width of a layer": (
        lambda: OFFICIAL(),
        lambda: attention_weights("", channels=20, hidden=3),
        "The source has other hidden widths: build with hidden_units=3.",
    ),
    "a network into a layer": (
        lambda: CBAM(),
        lambda: attention_weights("layer1.0.cbam."),
        "Of a network, pass the entries of one module, without what precedes "
        'these names, as "layer1.0.cbam.".',
    ),
    "no module": (
        lambda: SqueezeExcite(),
        tiny_weights,
        'Received: the names "conv1.weight", "layer1.0.conv1.weight", ',
    ),
    "an unbuilt spatial gate": (
        lambda: SpatialAttention(data_format="channels_first"),
        lambda: official_weights("spatial_k7"),
        "its weights do not tell the number of channels C. Build it first: "
        "layer.build((None, C, None, None))",
    ),
    "an empty mapping": (
        lambda: tiny_network(),
        lambda: {},
        "in which there is nothing",
    ),
    "a checkpoint without weights": (
        lambda: tiny_network(),
        lambda: {"epoch": 3, "optimizer": {"lr": 0.1}},
        'a mapping with the keys "epoch", "optimizer"',
    ),
    "the same names twice": (
        lambda: tiny_network(),
        lambda: {"fc.bias": np.zeros(5), "module.fc.bias": np.zeros(5)},
        "in which names are the same but for wrappers",
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


def test_widths_that_differ_by_stage_are_listed():
    pytest.importorskip("torch", reason="PyTorch makes the weights")
    import torch_reference

    options = {"depths": (1, 1), "widths": (64, 128)}
    network = torch_reference.ResNet(**options, se=(8, 8), classes=5)
    model = models.ResNet(
        **options, block="basic", stem_width=8, classes=5, attention="se"
    )
    message = error_of(model, network.state_dict())
    assert message.endswith(
        'build with attention=[SqueezeExcite(hidden_units=8), "se"].'
    )


def test_nothing_that_fits_is_an_error_without_strict():
    message = error_of(
        tiny_network(), {"features.0.weight": np.zeros(3)}, strict=False
    )
    assert 'Unused (1): "features.0.weight"' in message


@pytest.mark.parametrize(
    "weight, kind",
    [
        (np.zeros(5, "int64"), "int64"),
        (np.zeros(5, bool), "bool"),
        (np.zeros(5, "complex64"), "complex64"),
        ([0.0] * 5, "list"),
    ],
    ids=["integers", "booleans", "complex", "list"],
)
def test_weights_are_real_numbers(weight, kind):
    message = error_of(tiny_network(), tiny_weights() | {"fc.bias": weight})
    assert (
        "Weights must be dense floating-point tensors. Received: "
        f'"fc.bias" of kind {kind}.'
    ) in message


@pytest.mark.parametrize(
    "make, kind",
    [
        (lambda torch: torch.zeros(5).to_sparse(), "sparse float32"),
        (
            lambda torch: torch.quantize_per_tensor(
                torch.zeros(5), 0.1, 0, torch.qint8
            ),
            "qint8",
        ),
        (
            lambda torch: torch.zeros(5, device="meta"),
            "float32 without values (on the meta device)",
        ),
        (lambda torch: torch.zeros(5, dtype=torch.int32), "int32"),
    ],
    ids=["sparse", "quantized", "meta", "integers"],
)
# PyTorch's own deprecation of quantized tensors.
@pytest.mark.filterwarnings("ignore:.*quant")
def test_tensors_are_dense_and_real(make, kind):
    torch = pytest.importorskip("torch", reason="PyTorch makes the tensors")
    weights = tiny_weights() | {"fc.bias": make(torch)}
    assert f'"fc.bias" of kind {kind}.' in error_of(tiny_network(), weights)


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


def test_a_module_is_asked_for_its_state_dict():
    torch = pytest.importorskip("torch", reason="PyTorch makes the module")
    with pytest.raises(TypeError, match=r"Pass source.state_dict\(\)"):
        load_torch_weights(CBAM(), torch.nn.Linear(2, 2))


def test_strict_is_a_boolean():
    with pytest.raises(TypeError, match="`strict` must be True or False"):
        load_torch_weights(CBAM(), {}, strict=1)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "`source` must be a file that exists"),
        (b"", "which is empty"),
        (b"<html>Not found</html>", "damaged, cut short or of another kind"),
        (b"\x08" + bytes(7) + b'{"a": 1}', "damaged, cut short"),
        (pickle.dumps({"a": 1}), "damaged, cut short or of another kind"),
    ],
    ids=["absent", "empty", "a web page", "safetensors", "a pickle"],
)
def test_a_file_must_be_a_checkpoint(tmp_path, content, message):
    pytest.importorskip("torch", reason="PyTorch reads the file")
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    found = error_of(tiny_network(), path)
    assert message in found
    assert f'source="{path}"' in found


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize(
    "name, legacy",
    [("a.pth", False), ("a.pth", True), ("a.safetensors", False)],
    ids=["zip", "legacy", "safetensors"],
)
def test_a_file_cut_short_is_refused(tmp_path, name, legacy, share):
    path = write(tmp_path / name, tiny_weights(), legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged, cut short" in error_of(tiny_network(), path)


class Payload:
    """Runs a command when unpickled by anything that allows it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_file_is_not_run(tmp_path, legacy):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    marker = tmp_path / "marker"
    path = tmp_path / "weights.pth"
    torch.save(
        {"state_dict": {"a": torch.zeros(2)}, "code": Payload(marker)},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    message = error_of(tiny_network(), path)
    assert re.search(r"asks for `\w+\.system`", message)
    assert "It was not run." in message
    assert not marker.exists()
    # The payload does work where it is let.
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_a_pickle_with_code_is_not_run(tmp_path):
    pytest.importorskip("torch", reason="PyTorch reads the file")
    marker = tmp_path / "marker"
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Payload(marker), protocol=2))
    assert "It was not run." in error_of(tiny_network(), path)
    assert not marker.exists()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
# Of a module pickled whole, PyTorch looks for the source.
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_pickled_module_is_refused(tmp_path, legacy):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    path = tmp_path / "model.pth"
    torch.save(
        torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=not legacy
    )
    message = error_of(tiny_network(), path)
    assert "asks for `torch.nn.modules.linear.Linear`" in message
    assert "module.state_dict()" in message


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_program_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    path = tmp_path / "model.pt"
    torch.jit.save(
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path
    )
    message = error_of(tiny_network(), path)
    assert "a TorchScript program" in message
    assert "torch.jit.load(path)" in message


def test_a_file_of_other_things_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    torch.save([1, 2], tmp_path / "list.pth")
    message = error_of(tiny_network(), tmp_path / "list.pth")
    assert message.endswith("in which there is an object of type list")


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
