"""The whole module against stored outputs of the authors' code and timm."""

import functools

import keras
import numpy as np
import pytest
from layer_checks import (
    built,
    channels_last,
    output,
    random_input,
    stored,
    to_numpy,
)

from cbam_keras import CBAM, VARIANTS, models

pytestmark = pytest.mark.every_backend

# The stored float32 outputs differ from float64 by rounding.
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def set_spatial(layer, weights, prefix):
    layer.kernel.assign(weights[f"{prefix}.conv.weight"].transpose(2, 3, 1, 0))
    norm = layer.batch_norm
    for variable, key in (
        (norm.gamma, "weight"),
        (norm.beta, "bias"),
        (norm.moving_mean, "running_mean"),
        (norm.moving_variance, "running_var"),
    ):
        variable.assign(weights[f"{prefix}.bn.{key}"])


def set_official(layer, weights):
    gate = layer.channel_attention
    for name, index in (("squeeze", 1), ("excite", 3)):
        key = f"ChannelGate.mlp.{index}"
        getattr(gate, f"{name}_kernel").assign(weights[f"{key}.weight"].T)
        getattr(gate, f"{name}_bias").assign(weights[f"{key}.bias"])
    set_spatial(layer.spatial_attention, weights, "SpatialGate.spatial")


def set_timm(layer, weights):
    gate = layer.channel_attention
    gate.squeeze_kernel.assign(weights["channel.fc1.weight"][:, :, 0, 0].T)
    gate.excite_kernel.assign(weights["channel.fc2.weight"][:, :, 0, 0].T)
    set_spatial(layer.spatial_attention, weights, "spatial.conv")


# A block and a network: test_convert_loading.py.
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "name, options, set_weights",
    [
        ("official_cbam_c32_r16", VARIANTS["official"], set_official),
        (
            "official_cbam_c64_r8_avgonly",
            {
                **VARIANTS["official"],
                "reduction_ratio": 8,
                "channel_pool_types": "avg",
            },
            set_official,
        ),
        ("timm_cbam_c64", VARIANTS["timm"], set_timm),
    ],
    ids=["official", "average", "timm"],
)
def test_equals_the_code_of_others(name, options, set_weights, dtype):
    arrays, weights = stored(name)
    x = channels_last(arrays["input"]).astype(dtype)
    layer = CBAM(**options, dtype=dtype)
    layer.build(x.shape)
    set_weights(layer, weights)
    found = {"output": output(layer, x)}
    if set_weights is set_official:
        channel_map, _ = layer.attention_maps(x)
        found["after_channel"] = x * to_numpy(channel_map)
    for key, value in found.items():
        expected = channels_last(arrays[f"{key}_{dtype.replace('loat', '')}"])
        np.testing.assert_allclose(
            value, expected, rtol=0, atol=TOLERANCE[dtype]
        )


# What other implementations add to a ResNet-50 and a ResNet-18, counted in
# their own code.
ADDED = {
    "official": (2_532_592, 89_880),
    "timm": (2_516_544, 87_840),
    "kobiso_keras": (5_048_448, 177_024),
    "kobiso_tensorflow": (2_532_576, 89_872),
    "luuuyi": (2_516_512, 87_824),
}


def test_the_recommended_start_is_the_identity_with_the_networks_momentum():
    attention = functools.partial(CBAM, **VARIANTS["recommended"])
    model = models.ResNet18(
        classes=2, input_shape=(32, 32, 3), attention=attention
    )
    layer = model.get_layer("stage1_block1_attention")
    x = random_input((2, 7, 5, 64))
    np.testing.assert_array_equal(output(layer, x), x)
    averaged = layer.spatial_attention.batch_norm.momentum
    assert averaged == model.get_layer("stem_bn").momentum


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


@pytest.mark.half_precision
@pytest.mark.parametrize("is_built", [True, False])
def test_a_new_policy_reaches_the_gates(is_built):
    x = random_input((2, 5, 4, 8))
    layer = CBAM(2, 3, order="parallel")
    wanted = built(CBAM(2, 3, order="parallel", dtype="mixed_float16"), x.shape)
    if is_built:
        layer.build(x.shape)
    layer.dtype_policy = "mixed_float16"
    layer(x)
    layer.set_weights(wanted.get_weights())
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    np.testing.assert_array_equal(
        to_numpy(keras.ops.cast(y, "float32")),
        to_numpy(keras.ops.cast(wanted(x), "float32")),
    )
