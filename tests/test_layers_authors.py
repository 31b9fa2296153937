"""Layers against stored outputs of their authors' code, and of timm's."""

import numpy as np
import pytest
from layer_checks import (
    FAST,
    assert_close,
    call_and_gradients,
    channels_last,
    output,
    stored,
    to_numpy,
)

from cbam_keras import (
    BAM,
    CBAM,
    SCSE,
    VARIANTS,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SimAM,
    TripletAttention,
    load_torch_weights,
)

MODULES = {
    "bam_c32": BAM(combine="multiply"),
    "eca_c24_k3": EfficientChannelAttention(),
    "coordinate_c32": CoordinateAttention(),
    "simam_c16": SimAM(),
    "scse_c16": SCSE(4),
    "gc_add_c16": GlobalContext(4),
    "gc_mul_c16": GlobalContext(4, fusion="multiply"),
    "triplet_c16": TripletAttention(),
}


@pytest.mark.every_backend
@pytest.mark.parametrize("name", MODULES)
def test_a_layer_equals_the_authors_module(name):
    arrays, weights = stored(f"official_{name}")
    arrays = {key: channels_last(value) for key, value in arrays.items()}
    layer, x = MODULES[name], arrays["input"]
    if name.startswith(("eca", "simam", "triplet")):
        # Its weights do not show the number of channels.
        layer.build(x.shape)
    if weights:
        assert len(load_torch_weights(layer, weights).loaded) == len(
            layer.weights
        )
    upstream = arrays["upstream"]
    (y, *_), (gradient, *_) = call_and_gradients(
        layer, x, upstream, training=False, mode=FAST
    )
    np.testing.assert_allclose(y, arrays["output"], atol=1e-5)
    np.testing.assert_allclose(gradient, arrays["input_gradient"], atol=1e-5)
    assert_close(layer(x, training=True), arrays["training_output"], 1e-5)


# CBAM, in float64.

CONV = "SpatialGate.spatial.conv.weight"


# A block, a network, and float32: test_convert_loading.py.
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "name, options, conv",
    [
        ("official_cbam_c32_r16", VARIANTS["official"], CONV),
        (
            "official_cbam_c64_r8_avgonly",
            {
                **VARIANTS["official"],
                "reduction_ratio": 8,
                "channel_pool_types": "avg",
            },
            CONV,
        ),
        ("timm_cbam_c64", VARIANTS["timm"], "spatial.conv.conv.weight"),
    ],
    ids=["official", "average", "timm"],
)
def test_equals_the_code_of_others(name, options, conv):
    arrays, weights = stored(name)
    x = channels_last(arrays["input"]).astype("float64")
    layer = CBAM(**options, dtype="float64")
    load_torch_weights(layer, weights)
    # The maps are stacked in their order, so the kernel is theirs.
    kernel = to_numpy(layer.spatial_attention.kernel)
    np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), weights[conv])
    outputs = {"output": output(layer, x)}
    if "official" in name:
        channel_map, _ = layer.attention_maps(x)
        outputs["after_channel"] = x * to_numpy(channel_map)
    for key, value in outputs.items():
        expected = channels_last(arrays[f"{key}_f64"])
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-10)


@pytest.mark.needs_torch
@pytest.mark.usefixtures("float64")
def test_running_variance_divides_by_n_and_pytorchs_by_n_minus_1():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    from benchmarks.authors import AuthorsCBAM

    _, weights = stored("official_cbam_c32_r16")
    layer = CBAM(**VARIANTS["official"], dtype="float64")
    load_torch_weights(layer, weights)
    module = AuthorsCBAM(32).double()
    for name, value in module.state_dict().items():
        name = name.replace("channel_gate", "ChannelGate")
        name = name.replace("spatial_gate", "SpatialGate.spatial")
        value.copy_(torch.tensor(weights[name]))
    ours = layer.spatial_attention.batch_norm.moving_variance
    theirs = module.spatial_gate.bn.running_var
    x = np.random.default_rng(0).normal(size=(2, 7, 5, 32))
    x_torch = torch.tensor(x.transpose(0, 3, 1, 2))
    # The moving average keeps 0.99 of what it was, and adds 0.01 of the new.
    kept = 0.99 * to_numpy(ours)

    y = to_numpy(layer(x, training=True))
    expected = module.train()(x_torch).detach().numpy()
    # The step itself divides by n in both.
    np.testing.assert_allclose(y, channels_last(expected), rtol=0, atol=1e-12)
    positions = 2 * 7 * 5
    np.testing.assert_allclose(
        theirs.numpy() - kept,
        (to_numpy(ours) - kept) * positions / (positions - 1),
        # PyTorch's backend of Keras has the momentum in float32.
        rtol=1e-5,
    )

    module.eval()
    expected = channels_last(module(x_torch).detach().numpy())
    difference = np.abs(output(layer, x) - expected).max()
    assert 1e-6 < difference < 5e-5
    ours.assign(theirs.numpy())
    np.testing.assert_allclose(output(layer, x), expected, rtol=0, atol=1e-7)


# What other implementations add to a ResNet-50 and a ResNet-18, counted in
# their own code.
ADDED = {
    "official": (2_532_592, 89_880),
    "timm": (2_516_544, 87_840),
    "kobiso_keras": (5_048_448, 177_024),
    "kobiso_tensorflow": (2_532_576, 89_872),
    "luuuyi": (2_516_512, 87_824),
}


@pytest.mark.parametrize("name", ADDED)
def test_variant_adds_the_parameters_of_its_code(name):
    def added(widths, depths):
        total = 0
        for width, depth in zip(widths, depths, strict=True):
            layer = CBAM(**VARIANTS[name])
            layer.build((None, None, None, width))
            sizes = [np.prod(v.shape) for v in layer.trainable_variables]
            total += depth * int(sum(sizes))
        return total

    assert ADDED[name] == (
        added((256, 512, 1024, 2048), (3, 4, 6, 3)),
        added((64, 128, 256, 512), (2, 2, 2, 2)),
    )
