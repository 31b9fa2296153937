"""Structure of the residual networks, and errors of their arguments."""

import functools
import math

import keras
import networks
import numpy as np
import pytest
from keras import layers
from layer_checks import random_input, randomize

from cbam_keras import CBAM, VARIANTS, SqueezeExcite, models

OFFICIAL = functools.partial(CBAM, **VARIANTS["official"])
WIDER = functools.partial(models.WideResNet18, width_multiplier=2.0)
# Two stages, for 8 x 8 images.
tiny = functools.partial(networks.resnet, (1, 1))


def parameters(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


# Tables 4 and 5 of the paper in millions, and the exact count of the authors'
# code where PAPER facts give it.
@pytest.mark.parametrize(
    "builder, attention, printed, exact",
    [
        (models.ResNet18, None, 11.69, 11_689_512),
        (models.ResNet18, "se", 11.78, None),
        (models.ResNet18, OFFICIAL, 11.78, 11_779_392),
        (models.ResNet34, None, 21.80, 21_797_672),
        (models.ResNet34, "se", 21.96, None),
        (models.ResNet34, OFFICIAL, 21.96, 21_960_468),
        (models.ResNet50, None, 25.56, 25_557_032),
        (models.ResNet50, "se", 28.09, None),
        (models.ResNet50, OFFICIAL, 28.09, 28_089_624),
        (models.ResNet101, None, 44.55, 44_549_160),
        (models.ResNet101, "se", 49.33, None),
        (models.ResNet101, OFFICIAL, 49.33, 49_330_172),
        (models.ResNet152, None, 60.19, 60_192_808),
        (models.WideResNet18, None, 25.88, 25_875_816),
        (models.WideResNet18, "se", 26.07, None),
        (models.WideResNet18, OFFICIAL, 26.08, None),
        (WIDER, None, 45.62, 45_618_216),
        (models.ResNeXt50, None, 25.03, 25_028_904),
        (models.ResNeXt50, OFFICIAL, 27.56, None),
        (models.ResNeXt101, None, 44.18, 44_177_704),
    ],
)
def test_parameters_equal_the_printed_table(builder, attention, printed, exact):
    found = parameters(builder(attention=attention))
    assert round(found / 1e6, 2) == printed
    assert exact in (None, found)


@pytest.mark.parametrize(
    "block, names",
    [
        ("basic", ("conv1", "bn1", "relu1", "conv2", "bn2")),
        (
            "bottleneck",
            "conv1 bn1 relu1 conv2 bn2 relu2 conv3 bn3".split(),
        ),
    ],
)
def test_layer_names_are_stable(block, names):
    model = tiny(block=block, attention="cbam")
    found = {layer.name for layer in model.layers}
    parts = [*names, "attention", "add", "out"]
    assert {f"stage1_block1_{part}" for part in parts} <= found
    assert {f"stage2_block1_{part}" for part in parts} <= found
    assert {"stage2_block1_shortcut_conv", "stage2_block1_shortcut_bn"} <= found
    assert {"stem_conv", "stem_bn", "stem_relu"} <= found
    assert {"head_pool", "predictions"} <= found


def test_attention_comes_after_the_last_norm_and_before_the_addition():
    model = tiny(attention="cbam")
    attention = model.get_layer("stage1_block1_attention")
    add = model.get_layer("stage1_block1_add")
    assert attention.input is model.get_layer("stage1_block1_bn2").output
    assert any(attention.output is tensor for tensor in add.input)


def test_attention_is_a_list_per_stage():
    model = tiny(attention=[None, SqueezeExcite])
    names = [layer.name for layer in model.layers]
    assert "stage1_block1_attention" not in names
    assert isinstance(model.get_layer("stage2_block1_attention"), SqueezeExcite)


def test_template_gives_each_block_its_own_layer():
    model = tiny(attention=CBAM(reduction_ratio=2, kernel_size=3))
    one = model.get_layer("stage1_block1_attention")
    two = model.get_layer("stage2_block1_attention")
    assert one is not two
    assert one.kernel_size == two.kernel_size == 3


@pytest.mark.parametrize(
    "options, shape",
    [
        ({}, (None, 1000)),
        ({"classes": 7}, (None, 7)),
        ({"include_top": False}, (None, None, None, 512)),
        ({"include_top": False, "pooling": "avg"}, (None, 512)),
        ({"include_top": False, "pooling": "max"}, (None, 512)),
        (
            {"include_top": False, "input_shape": (65, 64, 3)},
            (None, 3, 2, 512),
        ),
        (
            {
                "include_top": False,
                "input_shape": (64, 64, 1),
                "stem": "small",
            },
            (None, 8, 8, 512),
        ),
    ],
    ids=str,
)
def test_output_shapes(options, shape):
    assert models.ResNet18(**options).output_shape == shape


@pytest.mark.parametrize(
    "options, shape",
    [
        ({}, (None, 224, 224, 3)),
        ({"stem": "small"}, (None, 32, 32, 3)),
        ({"include_top": False}, (None, None, None, 3)),
    ],
    ids=str,
)
def test_default_input_shapes(options, shape):
    assert models.ResNet18(**options).input_shape == shape


def test_channels_first_follows_the_global_setting():
    keras.config.set_image_data_format("channels_first")
    model = tiny(input_shape=(3, 8, 8), include_top=False, attention="cbam")
    assert model.output_shape == (None, 8, 4, 4)


@pytest.mark.every_backend
def test_channels_first_predicts_the_same():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no channels_first convolution on a CPU")
    last = randomize(tiny(attention="cbam"))
    x = random_input((2, 8, 8, 3))
    keras.config.set_image_data_format("channels_first")
    first = tiny(attention="cbam", input_shape=(3, 8, 8))
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(
        first.predict(np.moveaxis(x, -1, 1), verbose=0),
        last.predict(x, verbose=0),
        atol=1e-5,
    )


def test_network_continues_an_input_tensor():
    inputs = keras.Input((8, 8, 3), name="pixels")
    scaled = layers.Rescaling(1 / 255)(inputs)
    model = tiny(input_tensor=scaled, input_shape=None)
    assert model.inputs[0].name == "pixels"
    assert model.output_shape == (None, 5)


@pytest.mark.every_backend
def test_classifier_gives_float32_probabilities_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    result = tiny().predict(random_input((2, 8, 8, 3)), verbose=0)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.sum(axis=-1), 1, atol=1e-5)


def test_downsample_in_moves_the_stride():
    shapes = {}
    for place in ("3x3", "1x1"):
        model = tiny(block="bottleneck", downsample_in=place)
        shapes[place] = model.get_layer("stage2_block1_conv1").output.shape
    assert shapes["3x3"] == (None, 8, 8, 8)
    assert shapes["1x1"] == (None, 4, 4, 8)


def test_downsample_in_changes_no_parameters():
    one, two = (
        parameters(models.ResNet50(downsample_in=place))
        for place in ("3x3", "1x1")
    )
    assert one == two


@pytest.mark.every_backend
def test_groups_and_base_width_set_the_inner_width():
    model = tiny(block="bottleneck", widths=(8, 16), groups=4, base_width=16)
    conv = model.get_layer("stage2_block1_conv2")
    assert (conv.filters, conv.groups) == (16, 4)
    assert model.predict(random_input((2, 8, 8, 3)), verbose=0).shape == (2, 5)


@pytest.mark.parametrize(
    "multiplier, widths",
    [
        (1.5, (96, 192, 384, 768)),
        (2, (128, 256, 512, 1024)),
        (0.3, (19, 38, 76, 153)),
        (0.01, (1, 1, 2, 5)),
    ],
)
def test_width_multiplier_widens_the_stages_and_not_the_stem(
    multiplier, widths
):
    model = models.WideResNet18(
        include_top=False, width_multiplier=multiplier, stem="small"
    )
    outputs = [f"stage{stage}_block2_out" for stage in (1, 2, 3, 4)]
    found = [model.get_layer(name).output.shape[-1] for name in outputs]
    assert tuple(found) == widths
    assert model.get_layer("stem_conv").filters == 64


@pytest.mark.parametrize("multiplier", [0, -1.5, "wide", None])
def test_width_multiplier_must_be_positive(multiplier):
    with pytest.raises(ValueError, match="`width_multiplier` must be a pos"):
        models.WideResNet18(width_multiplier=multiplier)


def test_resnext_has_the_groups_of_its_name():
    model = models.ResNeXt50(include_top=False)
    convs = [model.get_layer(f"stage{i}_block1_conv2") for i in (1, 2, 3, 4)]
    assert {conv.groups for conv in convs} == {32}
    assert [conv.filters for conv in convs] == [128, 256, 512, 1024]


def test_resnext_takes_other_groups():
    model = models.ResNeXt50(include_top=False, groups=8, base_width=16)
    conv = model.get_layer("stage1_block1_conv2")
    assert (conv.groups, conv.filters) == (8, 128)


def test_no_convolution_of_size_one_has_a_stride():
    # It crashes TensorFlow on a CPU in its gradient for some odd batches.
    model = models.ResNet50(downsample_in="1x1")
    strided = [
        layer.name
        for layer in model.layers
        if isinstance(layer, layers.Conv2D)
        and layer.kernel_size == (1, 1)
        and layer.strides != (1, 1)
    ]
    assert not strided


@pytest.mark.every_backend
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_odd_batches_train(batch):
    # The shapes at which TensorFlow crashes, see ECOSYSTEM.
    model = tiny(input_shape=(28, 28, 8), widths=(8, 16))
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    x = random_input((batch, 28, 28, 8))
    losses = model.fit(x, np.zeros(batch), verbose=0).history["loss"]
    assert np.isfinite(losses).all()


@pytest.mark.every_backend
@pytest.mark.needs_torch
def test_strided_convolutions_pad_as_pytorch():
    torch = pytest.importorskip(
        "torch", reason="PyTorch gives the expected values"
    )
    model = randomize(tiny(include_top=False, input_shape=(9, 8, 3)))
    x = random_input((2, 9, 8, 3))
    part = keras.Model(
        model.get_layer("stage2_block1_conv1_pad").input,
        [
            model.get_layer("stage2_block1_conv1").output,
            model.get_layer("stage2_block1_shortcut_conv").output,
        ],
    )
    x = random_input((2, 9, 8, 4))
    kernels = [
        torch.tensor(
            np.asarray(model.get_layer(name).get_weights()[0]).transpose(
                3, 2, 0, 1
            )
        )
        for name in ("stage2_block1_conv1", "stage2_block1_shortcut_conv")
    ]
    y = torch.tensor(np.moveaxis(x, -1, 1))
    expected = [
        torch.nn.functional.conv2d(y, kernels[0], stride=2, padding=1),
        torch.nn.functional.conv2d(y, kernels[1], stride=2),
    ]
    for found, reference in zip(
        part.predict(x, verbose=0), expected, strict=True
    ):
        np.testing.assert_allclose(
            found, np.moveaxis(reference.numpy(), 1, -1), atol=1e-5
        )


@pytest.mark.every_backend
@pytest.mark.needs_torch
def test_stem_equals_pytorch():
    torch = pytest.importorskip(
        "torch", reason="PyTorch gives the expected values"
    )
    model = models.ResNet18(include_top=False, input_shape=(31, 32, 3))
    stem = keras.Model(model.input, model.get_layer("stem_pool").output)
    x = random_input((2, 31, 32, 3))
    kernel = model.get_layer("stem_conv").get_weights()[0]
    y = torch.nn.functional.conv2d(
        torch.tensor(np.moveaxis(x, -1, 1)),
        torch.tensor(kernel.transpose(3, 2, 0, 1)),
        stride=2,
        padding=3,
    )
    # The moving statistics of a new network: mean 0, variance 1.
    y = torch.relu(y / (1 + 1e-5) ** 0.5)
    y = torch.nn.functional.max_pool2d(y, 3, stride=2, padding=1)
    np.testing.assert_allclose(
        stem.predict(x, verbose=0),
        np.moveaxis(y.numpy(), 1, -1),
        atol=1e-4,
    )


def test_initial_weights_have_the_authors_spread():
    model = models.ResNet18(include_top=False)
    kernel = model.get_layer("stage3_block1_conv2").get_weights()[0]
    # Kaiming normal, fan out: variance 2 / (3 * 3 * 256).
    assert kernel.std() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"block": "wide"}, "`block` must be one of"),
        ({"stem": "tiny"}, "`stem` must be one of"),
        ({"downsample_in": "5x5"}, "`downsample_in` must be one of"),
        ({"pooling": "mean"}, "`pooling` must be one of"),
        ({"classes": 0}, "`classes` must be a positive integer"),
        ({"stem_width": 0}, "`stem_width` must be a positive integer"),
        ({"widths": (4, 8, 16)}, "must have the same length"),
        ({"widths": ()}, "`widths` must be a sequence"),
        ({"widths": (4, 0)}, "`widths` must be a positive integer"),
        ({"groups": 2}, 'belong to block="bottleneck"'),
        ({"attention": ["cbam"]}, "must have one entry per stage"),
        ({"attention": "cbamm"}, 'Did you mean "cbam"'),
        ({"input_shape": (8, 8)}, "`input_shape` must have"),
        ({"input_shape": (8, 8, None)}, "a known number of"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_values_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_input_shape_and_tensor_must_agree():
    with pytest.raises(ValueError, match="`input_shape` must be left out"):
        tiny(input_tensor=keras.Input((9, 9, 3)))


def test_input_tensor_must_be_symbolic():
    with pytest.raises(TypeError, match="`input_tensor` must be a Keras"):
        tiny(input_tensor=np.zeros((1, 8, 8, 3)))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"weights": {}}, TypeError, "load_torch_weights\\(model, state_dict"),
        ({"input_shape": 32}, TypeError, "`input_shape` must be a tuple"),
        (
            {"attention": layers.Dense(3)},
            ValueError,
            "must give layers that keep the shape",
        ),
        (
            {"block": "bottleneck", "base_width": 4},
            ValueError,
            "`base_width`",
        ),
    ],
    ids=["state dict", "one size", "another shape", "no channels"],
)
def test_wrong_kinds_are_named(options, error, message):
    with pytest.raises(error, match=message):
        tiny(**options)


def test_depths_are_named_as_received():
    with pytest.raises(ValueError, match="Received: depths=3"):
        models.ResNet(3)
