"""The residual networks of the paper, from ResNet18 to ResNeXt101."""

import os
from collections.abc import Callable, Sequence

import keras

from cbam_keras import _checks
from cbam_keras.layers import _docstrings
from cbam_keras.models.blocks import Attention
from cbam_keras.models.resnet import WIDTHS, ResNet


def _document(build, name, summary, channels, reference, further=""):
    """Names a builder, for errors and pickle, and gives it a docstring.

    `further` documents arguments of its own.
    """
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""Builds {name}: {summary}

Args:
    include_top, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, attention, stages, stem, downsample_in: See
        `ResNet`.
{further}    name: See `ResNet`. Defaults to `"{name.lower()}"`.

Returns:
    A functional `keras.Model`. Its output is `(B, classes)`, or without
    classifier `(B, H / 32, W / 32, {channels})` (`H / 8` with the small
    stem), or `(B, {channels})` with `pooling`.

Raises:
    See `ResNet`.

Example:
    >>> model = {name}(attention="cbam", include_top=False)
    >>> model.output_shape
    (None, None, None, {channels})

Reference:
    {reference}.
"""
    _docstrings.explained_by(ResNet)(build)


def _resnet(network, depths, block):
    """Returns the builder of a residual network of the default widths."""

    def build(
        include_top: bool = True,
        weights: str | os.PathLike | None = None,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | Callable | None = "softmax",
        *,
        attention: Attention | Sequence[Attention] = None,
        stages: str = "all",
        stem: str = "imagenet",
        downsample_in: str = "3x3",
        name: str = network.lower(),
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
            stages=stages,
            stem=stem,
            downsample_in=downsample_in,
            name=name,
        )

    _document(
        build,
        network,
        f"{sum(depths)} {block} blocks, {depths}.",
        2048 if block == "bottleneck" else 512,
        "He, Zhang, Ren and Sun, 2016 (https://arxiv.org/abs/1512.03385)",
    )
    return build


def _resnext(network, depths):
    """Returns the builder of a residual network with grouped convolutions."""

    def build(
        include_top: bool = True,
        weights: str | os.PathLike | None = None,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | Callable | None = "softmax",
        *,
        attention: Attention | Sequence[Attention] = None,
        stages: str = "all",
        stem: str = "imagenet",
        downsample_in: str = "3x3",
        groups: int = 32,
        base_width: int = 4,
        name: str = network.lower(),
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
            stages=stages,
            stem=stem,
            downsample_in=downsample_in,
            name=name,
        )

    _document(
        build,
        network,
        f"{sum(depths)} bottleneck blocks with groups, {depths}.",
        2048,
        "Xie, Girshick, Dollár, Tu and He, 2017 "
        "(https://arxiv.org/abs/1611.05431)",
        "    groups: See `ResNet`. Defaults to `32`.\n"
        "    base_width: See `ResNet`. Defaults to `4`.\n",
    )
    return build


ResNet18 = _resnet("ResNet18", (2, 2, 2, 2), "basic")
ResNet34 = _resnet("ResNet34", (3, 4, 6, 3), "basic")
ResNet50 = _resnet("ResNet50", (3, 4, 6, 3), "bottleneck")
ResNet101 = _resnet("ResNet101", (3, 4, 23, 3), "bottleneck")
ResNet152 = _resnet("ResNet152", (3, 8, 36, 3), "bottleneck")
ResNeXt50 = _resnext("ResNeXt50", (3, 4, 6, 3))
ResNeXt101 = _resnext("ResNeXt101", (3, 4, 23, 3))


def WideResNet18(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    *,
    attention: Attention | Sequence[Attention] = None,
    stages: str = "all",
    stem: str = "imagenet",
    downsample_in: str = "3x3",
    width_multiplier: float = 1.5,
    name: str = "wideresnet18",
) -> keras.Model:
    wider = _checks.positive_number("width_multiplier", width_multiplier)
    return ResNet(
        (2, 2, 2, 2),
        block="basic",
        widths=[max(1, int(wider * width)) for width in WIDTHS],
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        attention=attention,
        stages=stages,
        stem=stem,
        downsample_in=downsample_in,
        name=name,
    )


_document(
    WideResNet18,
    "WideResNet18",
    "8 wider basic blocks, (2, 2, 2, 2).",
    768,
    "Zagoruyko and Komodakis, 2016 (https://arxiv.org/abs/1605.07146)",
    "    width_multiplier: Positive number. Multiplies the 64, 128, 256 and\n"
    "        512 channels of the stages, rounded down. The stem keeps its 64\n"
    "        channels, as the parameters reported in the CBAM paper require.\n"
    "        Defaults to `1.5`.\n",
)

# All of them, in the order in which errors list them.
RESIDUAL_NETWORKS = (
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    WideResNet18,
    ResNeXt50,
    ResNeXt101,
)
