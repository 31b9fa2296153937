"""Residual networks with attention: one engine and the networks it builds."""

import functools
import inspect
import os
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras

from cbam_keras import _checks
from cbam_keras.models import blocks
from cbam_keras.models.assembly import assemble
from cbam_keras.models.blocks import basic_block, bottleneck_block

BLOCKS = ("basic", "bottleneck")
WIDTHS = (64, 128, 256, 512)

# Keeps the signature of what is decorated, so that editors can help.
Builder = TypeVar("Builder", bound=Callable[..., keras.Model])


def ResNet(
    depths: Sequence[int],
    *,
    block: str = "bottleneck",
    widths: Sequence[int] = WIDTHS,
    stem_width: int = 64,
    groups: int = 1,
    base_width: int = 64,
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    attention: Any = None,
    stem: str = "imagenet",
    downsample_in: str = "3x3",
    name: str = "resnet",
) -> keras.Model:
    """Builds a residual network, with attention in each block if asked for.

    The engine behind every residual network here, for networks of one's own.
    Convolutions are padded as PyTorch pads them and batch normalization has
    its epsilon (1e-5) and momentum (0.9 in Keras' counting), so that PyTorch
    checkpoints give the same numbers. Images come as the network is trained
    on them: no preprocessing is built in.

    Layers are named `stem_conv`, `stage2_block1_conv1`, `stage2_block1_bn1`,
    `stage2_block1_attention`, `stage2_block1_out`, `head_pool`,
    `predictions`, and so on; stages and blocks count from 1.

    Args:
        depths: Sequence of positive integers, the number of blocks of each
            stage. Every stage after the first halves height and width.
        block: `"basic"` (two 3x3 convolutions) or `"bottleneck"` (1x1, 3x3,
            1x1; a width `w` gives `4 w` channels). Defaults to
            `"bottleneck"`.
        widths: Sequence of positive integers, the width of each stage, as
            many as `depths`. Defaults to `(64, 128, 256, 512)`.
        stem_width: Positive integer, the channels after the stem. Defaults to
            `64`.
        groups: Positive integer, groups of the 3x3 convolution of a
            bottleneck. Defaults to `1`.
        base_width: Positive integer. A bottleneck of width `w` has
            `groups * floor(w * base_width / 64)` inner channels. Defaults to
            `64`.
        include_top: Boolean, whether the network ends in global average
            pooling and a classifier. Defaults to `True`.
        weights: `None` for random weights, or the path of a `.keras` or
            `.weights.h5` file saved from the same network, or of a PyTorch
            checkpoint (`.pth`, `.pth.tar`, `.pt`, `.safetensors`), see
            `cbam_keras.load_torch_weights`. Defaults to `None`.
        input_tensor: Keras tensor to build the network on, or `None` for a
            new input. Defaults to `None`.
        input_shape: Shape without the batch, `(H, W, C)`, or `(C, H, W)` if
            the image data format is `"channels_first"`. `None` means
            `(224, 224, 3)` with a classifier, `(32, 32, 3)` with a classifier
            and the small stem, `(None, None, 3)` without. Defaults to `None`.
        pooling: What ends a network without classifier: `None` for the
            feature map, `"avg"` or `"max"` for global pooling. Defaults to
            `None`.
        classes: Positive integer, the number of classes. Defaults to `1000`.
        classifier_activation: Activation of the classifier; `None` gives
            logits. Defaults to `"softmax"`.
        attention: What stands at the end of every residual branch: `None`;
            `"cbam"`, `"se"`, `"channel"`, `"spatial"`; a layer class; a
            callable that takes `name=` and returns a layer; a layer used as
            template; or a list of these, one per stage. Defaults to `None`.
        stem: `"imagenet"` (7x7 convolution with stride 2, max pooling) or
            `"small"` (3x3 convolution; for inputs of 16 to 96 pixels).
            Defaults to `"imagenet"`.
        downsample_in: Which convolution of a bottleneck carries the stride:
            `"3x3"` (the authors' code, torchvision) or `"1x1"` (what the
            FLOPs printed in the paper count). A basic block has it in its
            first convolution either way. Defaults to `"3x3"`.
        name: String, the name of the model. Defaults to `"resnet"`.

    Returns:
        A functional `keras.Model`. Its output is `(B, classes)`, or without
        classifier `(B, H / 32, W / 32, C)` (`H / 8` with the small stem, for
        four stages), or `(B, C)` with `pooling`.

    Raises:
        ValueError: If an argument is out of range, if the lists differ in
            length, or if a weight file does not fit.
        TypeError: If `attention` is of a wrong kind.

    Example:
        >>> model = ResNet(
        ...     (1, 1), block="basic", widths=(8, 16), stem="small",
        ...     input_shape=(16, 16, 1), classes=10, attention="cbam",
        ... )
        >>> model.output_shape
        (None, 10)

    Reference:
        He, Zhang, Ren and Sun, 2016 (https://arxiv.org/abs/1512.03385);
        Woo, Park, Lee and Kweon, 2018 (https://arxiv.org/abs/1807.06521).
    """
    depths = _integers("depths", depths)
    widths = _integers("widths", widths)
    if len(depths) != len(widths):
        raise ValueError(
            "`depths` and `widths` must name the same stages. Received: "
            f"depths={depths} ({len(depths)} stages), widths={widths} "
            f"({len(widths)} stages)"
        )
    _checks.one_of("block", block, BLOCKS)
    stem_width = _checks.positive_integer("stem_width", stem_width)
    groups = _checks.positive_integer("groups", groups)
    base_width = _checks.positive_integer("base_width", base_width)
    if block == "basic":
        if (groups, base_width) != (1, 64):
            raise ValueError(
                '`groups` and `base_width` belong to block="bottleneck". '
                f'Received: block="basic", groups={groups}, '
                f"base_width={base_width}"
            )
        block_function = basic_block
    else:
        if min(widths) * base_width < 64:
            raise ValueError(
                "`base_width` must give every stage a channel: floor(width * "
                f"base_width / 64). Received: base_width={base_width}, "
                f"widths={widths}"
            )
        block_function = functools.partial(
            bottleneck_block,
            groups=groups,
            base_width=base_width,
            downsample_in=downsample_in,
        )
    attention = _per_stage(attention, len(depths))

    def body(x):
        x = blocks.stem(x, stem_width, stem)
        for stage, (depth, width) in enumerate(
            zip(depths, widths, strict=True), 1
        ):
            for index in range(1, depth + 1):
                x = block_function(
                    x,
                    width,
                    stride=2 if stage > 1 and index == 1 else 1,
                    attention=attention[stage - 1],
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
        downsample_in=downsample_in,
        name=name,
    )


def _documented(
    name: str, summary: str, channels: int, reference: str, **arguments: str
) -> Callable[[Builder], Builder]:
    """Returns a decorator that names a builder and documents its signature.

    Args:
        name: String, the public name of the builder.
        summary: String, what it builds.
        channels: Positive integer, the channels of its last feature map.
        reference: String, where the network was published.
        **arguments: Strings, what `ResNet` does not say of an argument.

    Returns:
        Function from a builder to that builder.
    """

    def filled(text):
        return textwrap.fill(
            text, 76, initial_indent=" " * 4, subsequent_indent=" " * 8
        )

    def decorate(build: Builder) -> Builder:
        args = "\n".join(
            filled(
                f"{key}: {arguments.get(key, 'See `ResNet`.')} Defaults to "
                f"`{_checks.quoted(parameter.default)}`."
            )
            for key, parameter in inspect.signature(build).parameters.items()
        )
        build.__name__ = build.__qualname__ = name
        build.__doc__ = f"""Builds {name}: {summary}

Args:
{args}

Returns:
    A functional `keras.Model`, see `ResNet`.

Raises:
    ValueError: See `ResNet`.
    TypeError: See `ResNet`.

Example:
    >>> model = {name}(attention="cbam", include_top=False)
    >>> model.output_shape
    (None, None, None, {channels})

Reference:
    {reference}.
"""
        return build

    return decorate


def _resnet(name, depths, block):
    """Returns the builder of a residual network with the usual widths."""

    @_documented(
        name,
        f"{sum(depths)} {block} blocks, {depths}.",
        2048 if block == "bottleneck" else 512,
        "He, Zhang, Ren and Sun, 2016 (https://arxiv.org/abs/1512.03385)",
    )
    def build(
        include_top: bool = True,
        weights: str | os.PathLike | None = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: Any = "softmax",
        *,
        attention: Any = None,
        stem: str = "imagenet",
        downsample_in: str = "3x3",
        name: str = name.lower(),
    ) -> keras.Model:
        return ResNet(
            depths,
            block=block,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            attention=attention,
            stem=stem,
            downsample_in=downsample_in,
            name=name,
        )

    return build


def _resnext(name, depths):
    """Returns the builder of a residual network with grouped convolutions."""

    @_documented(
        name,
        f"{sum(depths)} bottleneck blocks with groups, {depths}.",
        2048,
        "Xie, Girshick, Dollár, Tu and He, 2017 "
        "(https://arxiv.org/abs/1611.05431)",
    )
    def build(
        include_top: bool = True,
        weights: str | os.PathLike | None = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: Any = "softmax",
        *,
        attention: Any = None,
        stem: str = "imagenet",
        downsample_in: str = "3x3",
        groups: int = 32,
        base_width: int = 4,
        name: str = name.lower(),
    ) -> keras.Model:
        return ResNet(
            depths,
            groups=groups,
            base_width=base_width,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            attention=attention,
            stem=stem,
            downsample_in=downsample_in,
            name=name,
        )

    return build


ResNet18 = _resnet("ResNet18", (2, 2, 2, 2), "basic")
ResNet34 = _resnet("ResNet34", (3, 4, 6, 3), "basic")
ResNet50 = _resnet("ResNet50", (3, 4, 6, 3), "bottleneck")
ResNet101 = _resnet("ResNet101", (3, 4, 23, 3), "bottleneck")
ResNet152 = _resnet("ResNet152", (3, 8, 36, 3), "bottleneck")
ResNeXt50 = _resnext("ResNeXt50", (3, 4, 6, 3))
ResNeXt101 = _resnext("ResNeXt101", (3, 4, 23, 3))


@_documented(
    "WideResNet18",
    "8 wider basic blocks, (2, 2, 2, 2).",
    768,
    "Zagoruyko and Komodakis, 2016 (https://arxiv.org/abs/1605.07146)",
    width_multiplier="Positive number. The stages have 64, 128, 256 and 512 "
    "channels times it, rounded down. The stem keeps its 64, as the "
    "parameters printed in the CBAM paper need.",
)
def WideResNet18(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    *,
    attention: Any = None,
    stem: str = "imagenet",
    downsample_in: str = "3x3",
    width_multiplier: float = 1.5,
    name: str = "wideresnet18",
) -> keras.Model:
    multiplier = _checks.positive_number("width_multiplier", width_multiplier)
    return ResNet(
        (2, 2, 2, 2),
        block="basic",
        widths=[max(1, int(multiplier * width)) for width in WIDTHS],
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        attention=attention,
        stem=stem,
        downsample_in=downsample_in,
        name=name,
    )


def _integers(name, values):
    sequence = isinstance(values, Sequence) and not isinstance(values, str)
    if not sequence or not values:
        raise ValueError(
            f"`{name}` must be a sequence of positive integers, one per "
            f"stage. Received: {name}={values!r}"
        )
    return tuple(_checks.positive_integer(name, value) for value in values)


def _per_stage(attention, stages):
    if not isinstance(attention, (list, tuple)):
        return [attention] * stages
    if len(attention) != stages:
        raise ValueError(
            "A list of `attention` must have one entry per stage, None for "
            f"a stage without. Received: {len(attention)} entries for "
            f"{stages} stages, attention={attention!r}"
        )
    return list(attention)
