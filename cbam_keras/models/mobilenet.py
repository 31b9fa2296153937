"""MobileNet with attention after every convolution."""

import os
from collections.abc import Callable, Sequence

import keras

from cbam_keras import _checks
from cbam_keras.layers.stages import TOP, in_stages
from cbam_keras.models.assembly import assemble
from cbam_keras.models.blocks import (
    Attention,
    attend,
    batch_norm,
    conv,
    depthwise_separable_block,
    relu,
)

# Width and number of blocks of each stage.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))


def MobileNet(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    *,
    attention: Attention = None,
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
        stem: `"imagenet"` or `"strided"`, or `"small"`: a 3x3 convolution
            with stride 2, or 1. Defaults to `"imagenet"`.
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
    numbers = range(1, len(STAGES) + 1)
    attentions = in_stages(attention, stages, [*numbers, TOP])

    def body(x):
        stride = 1 if stem == "small" else 2
        width = _scale_width(32, alpha)
        x = conv(x, width, 3, stride=stride, name="stem_conv")
        x = batch_norm(x, name="stem_bn")
        x = attend(x, attentions[1], name="stem_attention")
        x = relu(x, name="stem_relu")
        for stage, (width, depth) in enumerate(STAGES, 1):
            for index in range(1, depth + 1):
                x = depthwise_separable_block(
                    x,
                    _scale_width(width, alpha),
                    stride=2 if stage > 1 and index == 1 else 1,
                    attention=attentions[stage],
                    name=f"stage{stage}_block{index}",
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


def _scale_width(channels, alpha):
    return max(1, int(alpha * channels))
