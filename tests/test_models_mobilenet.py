"""Structure of MobileNet, with its 27 attention layers, and MobileNetV2."""

import numpy as np
import pytest
from layer_checks import REFERENCE, channels_last
from networks import without_values

from cbam_keras import CoordinateAttention, models

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
