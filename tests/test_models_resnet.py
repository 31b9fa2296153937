"""Residual networks: structure, padding and errors of arguments."""

import keras
import networks
import numpy as np
import pytest
from keras import layers
from layer_checks import random_input, randomize, to_numpy
from networks import without_values

from cbam_keras import CBAM, models


# Two stages, for 8 x 8 images.
def tiny(depths=(1, 1), **options):
    return networks.resnet(depths, **options)


def windows(x, size, stride):
    """Returns all windows of `(B, H, W, C)`, padded by half their size."""
    half = size // 2
    x = np.pad(x, [(0, 0), (half, half), (half, half), (0, 0)])
    found = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    return found[:, ::stride, ::stride]


def test_strided_layers_pad_as_pytorch():
    options = {"stem": "imagenet", "input_shape": (32, 33, 3)}
    model = randomize(tiny(include_top=False, **options))
    for source, name in (
        (model.layers[0].name, "stem_conv"),
        ("stem_relu", "stem_pool"),
        ("stage1_block1_out", "stage2_block1_conv1"),
        ("stage1_block1_out", "stage2_block1_shortcut_conv"),
    ):
        start, layer = model.get_layer(source).output, model.get_layer(name)
        # One side is even and one is odd; nothing is below 0 after a ReLU.
        x = abs(random_input((2, *start.shape[1:])))
        if name == "stem_pool":
            expected = windows(x, 3, stride=2).max(axis=(4, 5))
        else:
            kernel = to_numpy(layer.kernel)
            seen = windows(x, len(kernel), stride=2)
            expected = np.einsum("bhwcij,ijcf->bhwf", seen, kernel)
        found = to_numpy(keras.Model(start, layer.output)(x))
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)


@pytest.mark.half_precision
def test_classifier_gives_float32_probabilities_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    result = tiny().predict(random_input((2, 8, 8, 3)), verbose=0)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "block, names",
    [
        ("basic", "conv1 bn1 relu1 conv2 bn2"),
        ("bottleneck", "conv1 bn1 relu1 conv2 bn2 relu2 conv3 bn3"),
    ],
)
def test_layer_names_are_stable(block, names):
    model = tiny(block=block, attention="cbam")
    parts = [*names.split(), "attention", "add", "out"]
    expected = "stem_conv stem_bn stem_relu head_pool predictions".split()
    for stage in (1, 2):
        expected += [f"stage{stage}_block1_{part}" for part in parts]
    shortcut = ["shortcut_conv", "shortcut_bn"]
    # A bottleneck widens in the first stage too.
    for stage in (1, 2)[block == "basic" :]:
        expected += [f"stage{stage}_block1_{part}" for part in shortcut]
    found = {
        layer.name
        for layer in model.layers[1:]
        if not layer.name.endswith(("_pad", "_subsample"))
    }
    assert found == set(expected)
    # It comes after the last norm and before the addition.
    attention = model.get_layer("stage1_block1_attention")
    norm, add = f"stage1_block1_{names.split()[-1]}", "stage1_block1_add"
    assert attention.input is model.get_layer(norm).output
    assert attention.output is model.get_layer(add).input[0]


def test_normalization_and_pooling_are_those_asked_for():
    model = tiny(include_top=False, pooling="max")
    assert isinstance(model.get_layer("head_pool"), layers.GlobalMaxPooling2D)
    # PyTorch's.
    norm = model.get_layer("stem_bn")
    assert (norm.epsilon, norm.momentum) == (1e-5, 0.9)


def test_attention_is_a_list_per_stage_or_a_template_for_each_block():
    model = tiny((1, 2), attention=[None, CBAM(2, kernel_size=3)])
    names = [layer.name for layer in model.layers]
    assert "stage1_block1_attention" not in names
    one, two = (
        model.get_layer(f"stage2_block{block}_attention") for block in (1, 2)
    )
    assert one is not two
    assert one.kernel_size == two.kernel_size == 3


def test_initial_weights_have_the_authors_spread():
    options = {"widths": (64, 128), "classes": 500}
    model = networks.resnet((1, 1), **options)
    kernel = model.get_layer("stage2_block1_conv1").get_weights()[0]
    # Kaiming normal, fan out: variance 2 / (3 * 3 * 128).
    spread = (2 / (9 * 128)) ** 0.5
    assert kernel.std() == pytest.approx(spread, rel=0.02)
    # Keras' own are cut off at 2.3 deviations.
    assert abs(kernel).max() > 3 * spread
    kernel = model.get_layer("predictions").get_weights()[0]
    assert kernel.std() == pytest.approx((2 / 128) ** 0.5, rel=0.02)


NO_TOP = {"include_top": False}


@pytest.mark.parametrize(
    "options, inputs, outputs",
    [
        ({}, (224, 224, 3), (1000,)),
        ({"stem": "small", "classes": 7}, (32, 32, 3), (7,)),
        ({"stem": "strided"}, (64, 64, 3), (1000,)),
        (NO_TOP, (None, None, 3), (None, None, 512)),
        (NO_TOP | {"pooling": "avg"}, (None, None, 3), (512,)),
        (
            NO_TOP | {"stem": "strided", "input_shape": (65, 64, 1)},
            (65, 64, 1),
            (5, 4, 512),
        ),
    ],
    ids=str,
)
def test_input_and_output_shapes(options, inputs, outputs):
    with without_values():
        model = models.ResNet18(**options)
    shapes = model.input_shape, model.output_shape
    assert shapes == ((None, *inputs), (None, *outputs))


def test_downsample_in_moves_the_stride():
    for place, side in (("3x3", 8), ("1x1", 4)):
        model = tiny(block="bottleneck", downsample_in=place)
        conv = model.get_layer("stage2_block1_conv1")
        assert conv.output.shape == (None, side, side, 8)
        # A stride in a 1x1 crashes TensorFlow on a CPU for some odd batches.
        assert conv.strides == (1, 1)


def test_width_multiplier_widens_the_stages_and_not_the_stem():
    with without_values():
        model = models.WideResNet18(
            include_top=False, width_multiplier=0.01, stem="small"
        )
    outputs = [f"stage{stage}_block2_out" for stage in (1, 2, 3, 4)]
    found = [model.get_layer(name).output.shape[-1] for name in outputs]
    # Rounded down, and at least 1.
    assert found == [1, 1, 2, 5]
    assert model.get_layer("stem_conv").filters == 64
