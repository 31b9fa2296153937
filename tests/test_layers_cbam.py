"""The whole module against stored outputs of the authors' code and timm."""

import keras
import numpy as np
import pytest
from layer_checks import (
    built,
    channels_last,
    model_of,
    output,
    random_input,
    stored,
    to_numpy,
)
from numpy_reference import channel_logits, sigmoid, spatial_logits

from cbam_keras import CBAM, VARIANTS, SpatialAttention, models

pytestmark = pytest.mark.every_backend

DTYPES = ["float32", "float64"]
# float64 where the backend computes batch normalization in it; the stored
# float32 outputs differ from float64 by rounding.
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def skip_where_keras_rounds(dtype):
    if dtype == "float64" and keras.backend.backend() != "tensorflow":
        pytest.skip(
            "Keras' BatchNormalization computes in float32 on this backend"
        )


def set_batch_norm(layer, weights, prefix):
    for variable, key in (
        (layer.gamma, "weight"),
        (layer.beta, "bias"),
        (layer.moving_mean, "running_mean"),
        (layer.moving_variance, "running_var"),
    ):
        variable.assign(weights[f"{prefix}.{key}"])


def set_spatial(layer, weights, prefix):
    layer.kernel.assign(weights[f"{prefix}.conv.weight"].transpose(2, 3, 1, 0))
    set_batch_norm(layer.batch_norm, weights, f"{prefix}.bn")


def set_official(layer, weights, prefix=""):
    gate = layer.channel_attention
    for name, index in (("squeeze", 1), ("excite", 3)):
        key = f"{prefix}ChannelGate.mlp.{index}"
        getattr(gate, f"{name}_kernel").assign(weights[f"{key}.weight"].T)
        getattr(gate, f"{name}_bias").assign(weights[f"{key}.bias"])
    set_spatial(
        layer.spatial_attention, weights, f"{prefix}SpatialGate.spatial"
    )


def assert_equals_stored(found, arrays, key, dtype):
    np.testing.assert_allclose(
        found,
        channels_last(arrays[f"{key}_{dtype.replace('loat', '')}"]),
        rtol=0,
        atol=TOLERANCE[dtype],
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name, options",
    [
        ("official_cbam_c32_r16", {"reduction_ratio": 16}),
        (
            "official_cbam_c64_r8_avgonly",
            {"reduction_ratio": 8, "channel_pool_types": "avg"},
        ),
    ],
)
def test_equals_the_authors_code(name, options, dtype):
    skip_where_keras_rounds(dtype)
    arrays, weights = stored(name)
    x = channels_last(arrays["input"]).astype(dtype)
    layer = CBAM(**{**VARIANTS["official"], **options}, dtype=dtype)
    layer.build(x.shape)
    set_official(layer, weights)
    channel_map, _ = layer.attention_maps(x)
    attended = x * to_numpy(channel_map)
    assert_equals_stored(attended, arrays, "after_channel", dtype)
    assert_equals_stored(output(layer, x), arrays, "output", dtype)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_authors_spatial_gate(dtype):
    skip_where_keras_rounds(dtype)
    arrays, weights = stored("official_spatial_k7")
    x = channels_last(arrays["input"]).astype(dtype)
    layer = SpatialAttention(
        pool_types=("max", "avg"), batch_norm=True, dtype=dtype
    )
    layer.build(x.shape)
    set_spatial(layer, weights, "spatial")
    assert_equals_stored(output(layer, x), arrays, "output", dtype)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_timm(dtype):
    skip_where_keras_rounds(dtype)
    arrays, weights = stored("timm_cbam_c64")
    x = channels_last(arrays["input"]).astype(dtype)
    layer = CBAM(**VARIANTS["timm"], dtype=dtype)
    layer.build(x.shape)
    gate = layer.channel_attention
    gate.squeeze_kernel.assign(weights["channel.fc1.weight"][:, :, 0, 0].T)
    gate.excite_kernel.assign(weights["channel.fc2.weight"][:, :, 0, 0].T)
    set_spatial(layer.spatial_attention, weights, "spatial.conv")
    assert_equals_stored(output(layer, x), arrays, "output", dtype)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("dtype", DTYPES)
def test_basic_block_equals_the_authors_code(dtype):
    skip_where_keras_rounds(dtype)
    keras.config.set_dtype_policy(dtype)
    arrays, weights = stored("official_basicblock_c64")
    x = channels_last(arrays["input"]).astype(dtype)
    model = models.ResNet(
        (1,),
        block="basic",
        widths=(64,),
        stem="small",
        input_shape=(10, 8, 3),
        include_top=False,
        attention=lambda name: CBAM(**VARIANTS["official"], name=name),
    )
    block = keras.Model(
        model.get_layer("stem_relu").output,
        [
            model.get_layer("stage1_block1_attention").output,
            model.get_layer("stage1_block1_out").output,
        ],
    )
    for index in (1, 2):
        model.get_layer(f"stage1_block1_conv{index}").kernel.assign(
            weights[f"conv{index}.weight"].transpose(2, 3, 1, 0)
        )
        set_batch_norm(
            model.get_layer(f"stage1_block1_bn{index}"), weights, f"bn{index}"
        )
    set_official(model.get_layer("stage1_block1_attention"), weights, "cbam.")
    attended, result = block.predict(x, verbose=0)
    assert_equals_stored(attended, arrays, "cbam_out", dtype)
    assert_equals_stored(result, arrays, "output", dtype)


def numpy_maps(layer, x):
    """Both maps of `x` by the formulas, each taken from `x` itself."""
    gate, spatial = layer.channel_attention, layer.spatial_attention
    x = x.astype("float64")
    hidden = gate.squeeze_kernel.shape[1]
    channel = sigmoid(
        channel_logits(
            x,
            [
                to_numpy(gate.squeeze_kernel),
                np.zeros(hidden)
                if gate.squeeze_bias is None
                else to_numpy(gate.squeeze_bias),
                to_numpy(gate.excite_kernel),
                np.zeros(x.shape[-1])
                if gate.excite_bias is None
                else to_numpy(gate.excite_bias),
            ],
            gate.pool_types,
            np.asarray
            if layer.activation is keras.activations.linear
            else lambda v: np.maximum(v, 0),
        )
    )
    bias = 0.0 if spatial.bias is None else to_numpy(spatial.bias)

    def spatial_map(x):
        return sigmoid(
            spatial_logits(
                x, to_numpy(spatial.kernel), bias, spatial.pool_types
            )
        )

    return channel, spatial_map


@pytest.mark.parametrize("order", ["channel_first", "parallel"])
def test_order_equals_the_formula(order):
    layer = built(CBAM(4, 3, order=order))
    x = random_input()
    channel, spatial_map = numpy_maps(layer, x)
    attended = x * channel
    second = spatial_map(attended if order == "channel_first" else x)
    np.testing.assert_allclose(output(layer, x), attended * second, atol=1e-5)
    for found, expected in zip(
        layer.attention_maps(x), (channel, second), strict=True
    ):
        np.testing.assert_allclose(to_numpy(found), expected, atol=1e-5)


def test_spatial_first_equals_the_formula():
    layer = built(CBAM(4, 3, order="spatial_first"))
    x = random_input()
    spatial = numpy_maps(layer, x)[1](x)
    channel, _ = numpy_maps(layer, x * spatial)
    np.testing.assert_allclose(
        output(layer, x), x * spatial * channel, atol=1e-5
    )
    for found, expected in zip(
        layer.attention_maps(x), (channel, spatial), strict=True
    ):
        np.testing.assert_allclose(to_numpy(found), expected, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["paper", "kobiso_keras", "kobiso_tensorflow", "luuuyi"]
)
def test_variant_equals_its_formula(name):
    layer = built(CBAM(**VARIANTS[name]))
    x = random_input()
    channel, spatial_map = numpy_maps(layer, x)
    attended = x * channel
    np.testing.assert_allclose(
        output(layer, x), attended * spatial_map(attended), atol=1e-5
    )


def test_linear_perceptron_has_no_relu():
    layer = built(CBAM(**VARIANTS["linear_perceptron"]))
    x = random_input()
    channel, spatial_map = numpy_maps(layer, x)
    attended = x * channel
    np.testing.assert_allclose(
        output(layer, x), attended * spatial_map(attended), atol=1e-5
    )


# What other implementations add to a ResNet-50 and a ResNet-18, counted in
# their own code.
@pytest.mark.parametrize(
    "name, bottleneck, basic",
    [
        ("official", 2_532_592, 89_880),
        ("timm", 2_516_544, 87_840),
        ("kobiso_keras", 5_048_448, 177_024),
        ("kobiso_tensorflow", 2_532_576, 89_872),
        ("luuuyi", 2_516_512, 87_824),
    ],
)
def test_variant_adds_the_parameters_of_its_code(name, bottleneck, basic):
    def added(widths, depths):
        total = 0
        for width, depth in zip(widths, depths, strict=True):
            layer = CBAM(**VARIANTS[name])
            layer.build((None, None, None, width))
            sizes = [np.prod(v.shape) for v in layer.trainable_variables]
            total += depth * int(sum(sizes))
        return total

    assert added((256, 512, 1024, 2048), (3, 4, 6, 3)) == bottleneck
    assert added((64, 128, 256, 512), (2, 2, 2, 2)) == basic


def test_every_variant_has_a_test():
    assert set(VARIANTS) == {
        "paper",
        "official",
        "timm",
        "kobiso_keras",
        "kobiso_tensorflow",
        "luuuyi",
        "linear_perceptron",
    }


@pytest.mark.needs_torch
def test_gradients_equal_pytorch_autograd():
    torch = pytest.importorskip("torch", reason="PyTorch is the judge here")
    from layer_checks import gradients

    layer = built(CBAM(4, 3))
    x = random_input()
    weighting = random_input(seed=3)
    gate, spatial = layer.channel_attention, layer.spatial_attention
    tensors = [
        torch.tensor(to_numpy(value), dtype=torch.float64, requires_grad=True)
        for value in (
            np.moveaxis(x, -1, 1),
            gate.squeeze_kernel,
            gate.excite_kernel,
            gate.squeeze_bias,
            gate.excite_bias,
            to_numpy(spatial.kernel).transpose(3, 2, 0, 1),
        )
    ]
    y, w1, w2, b1, b2, kernel = tensors
    logits = sum(
        torch.relu(pooled @ w1 + b1) @ w2 + b2
        for pooled in (y.mean((2, 3)), y.amax((2, 3)))
    )
    attended = y * torch.sigmoid(logits)[:, :, None, None]
    maps = torch.stack([attended.mean(1), attended.amax(1)], 1)
    gate_map = torch.sigmoid(
        torch.nn.functional.conv2d(maps, kernel, padding=1)
    )
    factors = torch.tensor(np.moveaxis(weighting, -1, 1))
    (attended * gate_map * factors).sum().backward()
    found = dict(
        zip(
            ["x", *(v.path.split("/")[-1] for v in layer.trainable_variables)],
            gradients(layer, x, weighting),
            strict=True,
        )
    )
    expected = {
        "x": np.moveaxis(y.grad.numpy(), 1, -1),
        "squeeze_kernel": w1.grad.numpy(),
        "excite_kernel": w2.grad.numpy(),
        "squeeze_bias": b1.grad.numpy(),
        "excite_bias": b2.grad.numpy(),
        "kernel": kernel.grad.numpy().transpose(2, 3, 1, 0),
    }
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        np.testing.assert_allclose(
            found[name], gradient, atol=1e-4, err_msg=name
        )


@pytest.mark.slow
# Of torch.compile's own making, about how Keras calls it.
@pytest.mark.filterwarnings("ignore")
def test_torch_compile_predicts_and_trains():
    if keras.backend.backend() != "torch":
        pytest.skip("torch.compile needs the PyTorch backend")
    torch = pytest.importorskip("torch")
    if " " in torch.__file__:
        pytest.skip("torch.compile cannot link from a path with a space")
    model = model_of(CBAM(4, 3, spatial_batch_norm=True))
    x = random_input()
    model.compile(loss="mse", jit_compile=False)
    eager = model.predict(x, verbose=0)
    model.compile("sgd", loss="mse", jit_compile=True)
    np.testing.assert_allclose(
        model.predict(x, verbose=0),
        eager,
        # Fused operations round differently.
        atol=1e-5,
    )
    losses = model.fit(x, x, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("order", ["channel_first", "parallel"])
def test_a_new_policy_reaches_the_gates_of_a_built_layer(order, training):
    x = random_input((2, 5, 4, 8))
    layer = built(CBAM(2, 3, order=order), x.shape)
    wanted = built(CBAM(2, 3, order=order, dtype="mixed_bfloat16"), x.shape)
    wanted.set_weights(layer.get_weights())
    before = output(layer, x)
    layer.dtype_policy = "mixed_bfloat16"
    y = layer(x, training=training)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    np.testing.assert_array_equal(
        to_numpy(keras.ops.cast(y, "float32")),
        to_numpy(keras.ops.cast(wanted(x, training=training), "float32")),
    )
    assert [g.compute_dtype for g in layer._gates()] == ["bfloat16"] * 2
    copy = CBAM.from_config(layer.get_config())
    assert copy.compute_dtype == "bfloat16"
    layer.dtype_policy = "float32"
    np.testing.assert_array_equal(output(layer, x), before)


def test_a_new_policy_reaches_a_layer_that_is_not_built():
    layer = CBAM(2, 3)
    layer.dtype_policy = "mixed_bfloat16"
    y = layer(random_input((2, 5, 4, 8)))
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    assert layer.spatial_attention.compute_dtype == "bfloat16"
