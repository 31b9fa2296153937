"""Structure of MobileNet, with its 27 attention layers."""

import functools
import math

import keras
import numpy as np
import pytest
from keras import layers
from layer_checks import random_input, randomize

from cbam_keras import CBAM, VARIANTS, SqueezeExcite, models

OFFICIAL = functools.partial(CBAM, **VARIANTS["official"])
# Width and blocks of each stage at full width.
STAGES = [(64, 1), (128, 2), (256, 2), (512, 6), (1024, 2)]


def tiny(**options):
    """A narrow network for 16 x 16 images."""
    defaults = {
        "alpha": 0.125,
        "stem": "small",
        "input_shape": (16, 16, 3),
        "classes": 5,
    }
    return models.MobileNet(**{**defaults, **options})


def parameters(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def of_kind(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


# Table 5 of the paper in millions.
@pytest.mark.parametrize(
    "alpha, attention, printed, exact",
    [
        (1.0, None, 4.23, 4_231_976),
        (1.0, "se", 5.07, 5_072_276),
        (1.0, OFFICIAL, 5.07, 5_074_976),
        (0.7, None, 2.30, 2_298_747),
        (0.7, "se", 2.71, 2_709_854),
        (0.7, OFFICIAL, 2.71, 2_712_554),
    ],
)
def test_parameters_equal_the_printed_table(alpha, attention, printed, exact):
    found = parameters(models.MobileNet(alpha=alpha, attention=attention))
    assert round(found / 1e6, 2) == printed
    assert found == exact


def test_attention_comes_after_every_convolution():
    model = tiny(attention="cbam")
    gates = of_kind(model, CBAM)
    assert len(gates) == len(of_kind(model, layers.Conv2D)) + len(
        of_kind(model, layers.DepthwiseConv2D)
    )
    assert len(gates) == 27


@pytest.mark.parametrize(
    "norm, attention, relu",
    [
        ("stem_bn", "stem_attention", "stem_relu"),
        *(
            (f"{block}_bn1", f"{block}_attention1", f"{block}_relu1")
            for block in ("stage1_block1", "stage4_block6")
        ),
        *(
            (f"{block}_bn2", f"{block}_attention2", f"{block}_out")
            for block in ("stage1_block1", "stage4_block6")
        ),
    ],
)
def test_attention_comes_between_norm_and_relu(norm, attention, relu):
    model = tiny(attention="se")
    gate = model.get_layer(attention)
    assert isinstance(gate, SqueezeExcite)
    assert gate.input is model.get_layer(norm).output
    assert model.get_layer(relu).input is gate.output


def test_layer_names_are_stable():
    stem = "stem_conv stem_bn stem_attention stem_relu".split()
    block = "conv1 bn1 attention1 relu1 conv2 bn2 attention2 out".split()
    expected = stem + [
        f"stage{stage}_block{index}_{part}"
        for stage, (_, depth) in enumerate(STAGES, 1)
        for index in range(1, depth + 1)
        for part in block
    ]
    model = tiny(attention="cbam")
    # Without the input, whose name Keras counts up.
    found = [layer.name for layer in model.layers[1:]]
    pads = [name for name in found if name.endswith("_pad")]
    assert pads == [f"stage{stage}_block1_conv1_pad" for stage in (2, 3, 4, 5)]
    rest = [name for name in found if name not in pads]
    assert rest == [*expected, "head_pool", "predictions"]


def test_depthwise_comes_before_pointwise():
    model = tiny()
    depthwise = model.get_layer("stage2_block1_conv1")
    pointwise = model.get_layer("stage2_block1_conv2")
    assert isinstance(depthwise, layers.DepthwiseConv2D)
    assert depthwise.kernel_size == (3, 3)
    assert isinstance(pointwise, layers.Conv2D)
    assert pointwise.kernel_size == (1, 1)
    assert not depthwise.use_bias and not pointwise.use_bias


def test_only_the_first_depthwise_convolution_of_a_stage_has_a_stride():
    model = models.MobileNet(alpha=0.125)
    strided = [
        layer.name
        for layer in of_kind(model, (layers.Conv2D, layers.DepthwiseConv2D))
        if layer.strides != (1, 1)
    ]
    assert strided == [
        "stem_conv",
        *(f"stage{stage}_block1_conv1" for stage in (2, 3, 4, 5)),
    ]


def test_normalization_is_that_of_pytorch():
    norms = of_kind(tiny(), layers.BatchNormalization)
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-5, 0.9)}


@pytest.mark.parametrize(
    "alpha, stem, widths",
    [
        (1.0, 32, [64, 128, 256, 512, 1024]),
        (0.7, 22, [44, 89, 179, 358, 716]),
        (0.01, 1, [1, 1, 2, 5, 10]),
    ],
)
def test_widths_are_rounded_down(alpha, stem, widths):
    model = models.MobileNet(alpha=alpha, include_top=False)
    assert model.get_layer("stem_conv").filters == stem
    found = [
        model.get_layer(f"stage{stage}_block1_out").output.shape[-1]
        for stage in (1, 2, 3, 4, 5)
    ]
    assert found == widths


@pytest.mark.parametrize(
    "options, shape",
    [
        ({}, (None, 1000)),
        ({"classes": 7}, (None, 7)),
        ({"include_top": False}, (None, None, None, 1024)),
        ({"include_top": False, "pooling": "avg"}, (None, 1024)),
        ({"include_top": False, "pooling": "max"}, (None, 1024)),
        (
            {"include_top": False, "input_shape": (65, 64, 3)},
            (None, 3, 2, 1024),
        ),
        (
            {"include_top": False, "input_shape": (64, 64, 1), "stem": "small"},
            (None, 4, 4, 1024),
        ),
    ],
    ids=str,
)
def test_output_shapes(options, shape):
    assert models.MobileNet(**options).output_shape == shape


def test_channels_first_follows_the_global_setting():
    keras.config.set_image_data_format("channels_first")
    model = tiny(input_shape=(3, 16, 16), include_top=False, attention="cbam")
    assert model.output_shape == (None, 128, 1, 1)


@pytest.mark.every_backend
def test_channels_first_predicts_the_same():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no channels_first convolution on a CPU")
    last = randomize(tiny(attention="cbam"))
    x = random_input((2, 16, 16, 3))
    keras.config.set_image_data_format("channels_first")
    first = tiny(attention="cbam", input_shape=(3, 16, 16))
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(
        first.predict(np.moveaxis(x, -1, 1), verbose=0),
        last.predict(x, verbose=0),
        atol=1e-5,
    )


@pytest.mark.every_backend
@pytest.mark.needs_torch
@pytest.mark.parametrize("name", ["stage1_block1_conv1", "stage2_block1_conv1"])
@pytest.mark.parametrize("size", [(9, 8), (8, 9)], ids=str)
def test_depthwise_convolutions_equal_pytorch(name, size):
    torch = pytest.importorskip(
        "torch", reason="PyTorch gives the expected values"
    )
    model = randomize(tiny(include_top=False, input_shape=(*size, 3)))
    conv = model.get_layer(name)
    # From the ReLU before the block, so that the padding is included.
    before = {"stage1": "stem_relu", "stage2": "stage1_block1_out"}[name[:6]]
    source = model.get_layer(before).output
    part = keras.Model(source, conv.output)
    channels = source.shape[-1]
    x = random_input((2, *size, channels))
    kernel = np.asarray(conv.get_weights()[0])
    expected = torch.nn.functional.conv2d(
        torch.tensor(np.moveaxis(x, -1, 1)),
        torch.tensor(kernel.transpose(2, 3, 0, 1)),
        stride=conv.strides,
        padding=1,
        groups=channels,
    )
    np.testing.assert_allclose(
        part.predict(x, verbose=0),
        np.moveaxis(expected.numpy(), 1, -1),
        atol=1e-5,
    )


def test_initial_depthwise_kernels_keep_the_spread_of_their_input():
    model = models.MobileNet(include_top=False)
    kernel = model.get_layer("stage5_block2_conv1").get_weights()[0]
    # An output sees nine inputs, whatever the number of channels.
    assert kernel.std() == pytest.approx((2 / 9) ** 0.5, rel=0.02)


@pytest.mark.every_backend
def test_odd_batches_train():
    model = tiny()
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    x = random_input((3, 16, 16, 3))
    losses = model.fit(x, np.zeros(3), verbose=0).history["loss"]
    assert np.isfinite(losses).all()


def test_downsample_in_changes_nothing():
    one, two = (
        tiny(downsample_in=place).get_config() for place in ("3x3", "1x1")
    )
    shapes = [
        [layer["config"].get("strides") for layer in config["layers"]]
        for config in (one, two)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.every_backend
def test_weights_are_read_from_a_file(tmp_path):
    path = tmp_path / "network.weights.h5"
    model = randomize(tiny(attention="cbam"))
    model.save_weights(path)
    loaded = tiny(attention="cbam", weights=path)
    pairs = zip(loaded.get_weights(), model.get_weights(), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"alpha": 0}, "`alpha` must be a positive number"),
        ({"alpha": "thin"}, "`alpha` must be a positive number"),
        ({"stem": "tiny"}, "`stem` must be one of"),
        ({"downsample_in": "5x5"}, "`downsample_in` must be one of"),
        ({"pooling": "mean"}, "`pooling` must be one of"),
        ({"classes": 0}, "`classes` must be a positive integer"),
        ({"attention": "cbamm"}, 'Did you mean "cbam"'),
        ({"input_shape": (8, 8)}, "`input_shape` must have"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_values_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


@pytest.mark.parametrize("attention", [["cbam"] * 5, (None, "se")], ids=str)
def test_a_list_of_attention_is_refused(attention):
    with pytest.raises(TypeError, match="lists, one entry per stage, are for"):
        tiny(attention=attention)
