"""MobileNetV2 with attention in its inverted residual blocks."""

import os
from collections.abc import Callable, Sequence

import keras

from cbam_keras import _checks
from cbam_keras.layers.stages import TOP, in_stages
from cbam_keras.models.assembly import assemble
from cbam_keras.models.blocks import (
    Attention,
    batch_norm,
    conv,
    inverted_residual_block,
    relu6,
)

# Width and number of blocks, by resolution. The inner widths are 6 times the
# channels of a block's input, but in the first stage.
STAGES = (
    ((16, 1),),
    ((24, 2),),
    ((32, 3),),
    ((64, 4), (96, 3)),
    ((160, 3), (320, 1)),
)


def MobileNetV2(
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
    name: str = "mobilenetv2",
) -> keras.Model:
    """Builds MobileNetV2, optionally with attention in its blocks.

    Attention follows the depthwise convolution. The weights of
    `keras.applications.MobileNetV2` do not fit: use `insert_attention`.

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
        stem: See `MobileNet`.
        alpha: Positive number, by which all widths are multiplied. They are
            rounded to a multiple of 8, at least 8 and at least 90 % of the
            product; the last, 1280, only grows. Defaults to `1.0`.
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
    numbers = range(2, len(STAGES) + 1)
    attentions = in_stages(attention, stages, [*numbers, TOP])

    def body(x):
        stride = 1 if stem == "small" else 2
        x = conv(
            x, _round_width(32 * alpha), 3, stride=stride, name="stem_conv"
        )
        x = relu6(batch_norm(x, name="stem_bn"), name="stem_relu")
        for stage, groups in enumerate(STAGES, 1):
            widths = [width for width, depth in groups for _ in range(depth)]
            for index, width in enumerate(widths, 1):
                x = inverted_residual_block(
                    x,
                    _round_width(width * alpha),
                    stride=2 if stage > 1 and index == 1 else 1,
                    expansion=6 if stage > 1 else 1,
                    normalize=batch_norm,
                    attention=attentions.get(stage),
                    attention_after="conv2",
                    name=f"stage{stage}_block{index}",
                )
        x = conv(x, _round_width(1280 * max(1, alpha)), 1, name="head_conv")
        return relu6(batch_norm(x, name="head_bn"), name="head_relu")

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


def _round_width(channels):
    """Returns the nearest multiple of 8 that is not much smaller."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 * (nearest < 0.9 * channels)
