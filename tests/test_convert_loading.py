"""Converted networks and layers give PyTorch's outputs."""

import functools
import re

import keras
import numpy as np
import pytest
from convert_checks import (
    CHECKPOINT,
    OFFICIAL,
    TIMM,
    assert_equal_values,
    attention_weights,
    error_of,
    random_weights,
    small_network,
    tiny_network,
    tiny_weights,
    values,
)
from layer_checks import (
    assert_close,
    channels_last,
    output,
    random_input,
    stored,
    to_numpy,
)

from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
    blocks,
    load_torch_weights,
    models,
)
from cbam_keras.convert import Report, matching

LUUUYI = functools.partial(CBAM, **VARIANTS["luuuyi"])
# The shape of the kernel of a spatial gate in PyTorch.
KERNEL = (1, 2, 7, 7)


def renamed(state_dict, changes):
    for old, new in changes.items():
        state_dict = {key.replace(old, new): x for key, x in state_dict.items()}
    return state_dict


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
    "name, layer",
    [
        # The order of our maps makes no difference to what is computed.
        ("official_cbam_c32_r16", OFFICIAL(spatial_pool_types=("avg", "max"))),
        ("official_spatial_k7", SpatialAttention(batch_norm=True)),
    ],
    ids=["official, swapped", "spatial"],
)
def test_a_module_gives_its_outputs(name, layer):
    arrays, weights = stored(name)
    images = channels_last(arrays["input"])
    if isinstance(layer, SpatialAttention):
        layer.build(images.shape)
    report = load_torch_weights(layer, weights)
    assert len(report.loaded) == len(layer.weights)
    assert_close(layer(images), channels_last(arrays["output_f64"]), 1e-5)


def test_a_single_block_gives_its_outputs():
    arrays, weights = stored("official_basicblock_c64")
    inputs, name = keras.Input((10, 8, 64)), "stage1_block1"
    outputs = blocks.basic_block(inputs, 64, name=name, attention=OFFICIAL)
    model = keras.Model(inputs, outputs)
    weights = {f"layer1.0.{key}": weights[key] for key in weights}
    load_torch_weights(model, weights)
    found = model.predict(channels_last(arrays["input"]), verbose=0)
    assert_close(found, channels_last(arrays["output_f64"]), 5e-5)


@pytest.mark.needs_torch
@pytest.mark.parametrize("sequential", [False, True], ids=["fc1", "fc.0"])
@pytest.mark.parametrize(
    "layer, part",
    [
        (LUUUYI(), None),
        (ChannelAttention(use_bias=False), "ca"),
        (SpatialAttention(), "sa"),
    ],
    ids=["both", "channel", "spatial"],
)
def test_the_most_copied_gates_give_their_outputs(layer, part, sequential):
    torch = pytest.importorskip("torch", reason="it gives expected values")
    import torch_reference

    torch.manual_seed(0)
    module = torch_reference.gated(32, sequential)
    module = module if part is None else getattr(module, part)
    layer = type(layer).from_config(layer.get_config())
    images = random_input((2, 7, 5, 32))
    if part == "sa":
        layer.build(images.shape)
    load_torch_weights(layer, module.state_dict())
    with torch.no_grad():
        expected = module(torch.tensor(images.transpose(0, 3, 1, 2)))
    assert_close(layer(images), channels_last(expected.numpy()), 1e-6)


@pytest.mark.needs_torch
def test_a_network_gives_the_logits_of_pytorch():
    torch = pytest.importorskip("torch", reason="it gives expected values")
    import torch_reference

    network = torch_reference.ResNeXt()
    model = models.ResNet(
        (1, 2),
        block="bottleneck",
        widths=(16, 32),
        stem_width=8,
        groups=4,
        base_width=32,
        classes=5,
        classifier_activation=None,
        # One side is odd and one even at every stride.
        input_shape=(35, 38, 3),
    )
    report = load_torch_weights(model, network.state_dict())
    assert len(report.loaded) == len(model.weights)
    images = random_input((2, 35, 38, 3))
    with torch.no_grad():
        expected = network.eval()(torch.tensor(images.transpose(0, 3, 1, 2)))
    found = model.predict(images, verbose=0)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def by_torchvision(name):
    """Returns what torchvision calls a weight of the authors' MobileNetV2.

    It has a module for each convolution with normalization and activation.
    """
    name = re.sub(r"^conv\.", "features.18.", name)
    match = re.fullmatch(r"(features\.(\d+)\.conv)\.(\d)(.+)", name)
    if match is None:
        return name
    sequence, block, place, leaf = match.groups()
    module, part = divmod(int(place), 3)
    # The last convolution has no activation, and the first block no expansion.
    if module == (1 if block == "1" else 2):
        return f"{sequence}.{module + part}{leaf}"
    return f"{sequence}.{module}.{part}{leaf}"


def test_mobilenetv2_takes_the_names_of_torchvision():
    """Those of the authors give their outputs in test_models_mobilenet.py."""
    theirs, ours = (models.MobileNetV2(alpha=0.25, classes=5) for _ in "ab")
    slots = matching.make_plan(theirs, ["features.0.0.weight"]).slots
    weights = random_weights({x.name: x.shape for x in slots}, seed=0)
    load_torch_weights(theirs, weights)
    renamed = {by_torchvision(name): weights[name] for name in weights}
    assert len(renamed) == len(weights) == len(ours.weights)
    load_torch_weights(ours, renamed)
    assert_equal_values(values(ours), values(theirs))
    headless = models.MobileNetV2(alpha=0.25, include_top=False)
    report = load_torch_weights(headless, renamed)
    assert report.unused == ("classifier.1.weight", "classifier.1.bias")


def test_renamed_weights_give_their_outputs():
    layer, others = TIMM(), {"channel": "first", "spatial.conv": "second"}
    # Of the names with the layer's order of maps.
    listed = {"first": "ca", "second.conv": "sa.conv1", "second": "sa"}
    arrays, weights = stored("timm_cbam_c64")
    images = channels_last(arrays["input"])
    layer.build(images.shape)
    refused = renamed(weights, others)
    weights = renamed(refused, listed)
    missing, _, unused = error_of(layer, refused).partition("Unused (")
    assert all(f'"{name}" (' in missing for name in [*weights][:6])
    for name in [*refused][:6]:
        assert f'"{name}" {refused[name].shape}' in unused
    line = '{key.replace("old", "new"): x for key, x in state_dict.items()}'
    assert unused.endswith(f"rename them, and pass the mapping: {line}")
    load_torch_weights(layer, weights)
    assert_close(layer(images), channels_last(arrays["output_f64"]), 1e-5)


def test_a_gate_for_any_channels_is_saved(tmp_path):
    layer = SpatialAttention(pool_types=("max", "avg"))
    weights = random_weights({"conv1.weight": KERNEL}, seed=0)
    layer.build((None, 7, 5, 8))
    load_torch_weights(layer, weights)
    # The name means that the mean is first.
    kernel = weights["conv1.weight"][:, ::-1].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(to_numpy(layer.kernel), kernel)
    inputs = keras.Input((7, 5, 16))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = random_input((2, 7, 5, 16))
    np.testing.assert_array_equal(output(loaded, images), output(model, images))


@pytest.mark.every_backend
def test_loaded_values_are_copies():
    weights = tiny_weights()
    model = tiny_network()
    load_torch_weights(model, weights)
    before = [value.copy() for value in values(model)]
    for value in weights.values():
        value[...] = 0
    assert_equal_values(values(model), before)


def test_a_layer_is_built_by_the_weights():
    layer = OFFICIAL(data_format="channels_first", spatial_use_bias=True)
    bias = {"SpatialGate.spatial.conv.bias": np.array([0.25], "float32")}
    weights = attention_weights("", channels=32, hidden=2) | bias
    load_torch_weights(layer, weights)
    assert layer(np.zeros((2, 32, 7, 5), "float32")).shape == (2, 32, 7, 5)
    assert to_numpy(layer.spatial_attention.bias) == [0.25]


def test_squeeze_and_excitation_is_loaded():
    # timm writes dense layers as 1x1 convolutions.
    shapes = {
        **{"fc1.weight": (2, 16, 1, 1), "fc1.bias": (2,)},
        **{"fc2.weight": (16, 2, 1, 1), "fc2.bias": (16,)},
    }
    weights = random_weights(shapes, seed=0)
    layer = SqueezeExcite(8)
    load_torch_weights(layer, weights)
    names = ("squeeze_kernel", "squeeze_bias", "excite_kernel", "excite_bias")
    assert_equal_values(
        [to_numpy(getattr(layer, name)) for name in names],
        [value.squeeze().T for value in weights.values()],
    )
