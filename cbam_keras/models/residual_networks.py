"""The residual networks of the paper, from ResNet18 to ResNeXt101."""

import os
from collections.abc import Callable, Sequence

import keras

from cbam_keras import _checks
from cbam_keras.models.blocks import Kind
from cbam_keras.models.resnet import WIDTHS, ResNet

RESNET = "He, Zhang, Ren and Sun, 2016 (https://arxiv.org/abs/1512.03385)"
WIDE = "Zagoruyko and Komodakis, 2016 (https://arxiv.org/abs/1605.07146)"
RESNEXT = (
    "Xie, Girshick, Dollár, Tu and He, 2017 (https://arxiv.org/abs/1611.05431)"
)


def _builder(
    network,
    depths,
    block,
    reference,
    *,
    default_groups=1,
    default_base_width=64,
    default_multiplier=1.0,
):
    """Returns the builder of a residual network.

    The keyword arguments are defaults of arguments of the builder.
    """

    @_checks.named
    def build(
        include_top: bool = True,
        weights: str | os.PathLike | None = None,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | Callable | None = "softmax",
        *,
        attention: Kind | Sequence[Kind] = None,
        stages: str = "all",
        stem: str = "imagenet",
        downsample_in: str = "3x3",
        groups: int = default_groups,
        base_width: int = default_base_width,
        width_multiplier: float = default_multiplier,
        name: str = network.lower(),
    ) -> keras.Model:
        factor = _checks.positive_number("width_multiplier", width_multiplier)
        return ResNet(
            depths,
            block=block,
            widths=[max(1, int(factor * width)) for width in WIDTHS],
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

    blocks = f"{sum(depths)} {block} blocks, {depths}"
    last_width = 2048 if block == "bottleneck" else 512
    channels = int(default_multiplier * last_width)
    # Errors show the name, and pickle finds the function by it.
    build.__name__ = network
    build.__qualname__ = network
    build.__doc__ = f"""Builds {network}: {blocks}.

Args:
    include_top, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, attention, stages, stem, downsample_in: See
        `ResNet`.
    groups: See `ResNet`. Defaults to `{default_groups}`.
    base_width: See `ResNet`. Defaults to `{default_base_width}`.
    width_multiplier: Positive number. Multiplies the 64, 128, 256 and 512
        channels of the stages, rounded down. The stem keeps its 64 channels, as
        the parameters reported in the CBAM paper require. Defaults to
        `{default_multiplier}`.
    name: See `ResNet`. Defaults to `"{network.lower()}"`.

Returns:
    A functional `keras.Model`. Its output is `(B, classes)`, or without
    classifier `(B, H / 32, W / 32, {channels})` (`H / 8` with the small
    stem, `H / 16` with the strided one), or `(B, {channels})` with
    `pooling`.

Raises:
    See `ResNet`.

Example:
    >>> model = {network}(attention="cbam", include_top=False)
    >>> model.output_shape
    (None, None, None, {channels})

Reference:
    {reference}.
"""
    return build


ResNet18 = _builder("ResNet18", (2, 2, 2, 2), "basic", RESNET)
ResNet34 = _builder("ResNet34", (3, 4, 6, 3), "basic", RESNET)
ResNet50 = _builder("ResNet50", (3, 4, 6, 3), "bottleneck", RESNET)
ResNet101 = _builder("ResNet101", (3, 4, 23, 3), "bottleneck", RESNET)
ResNet152 = _builder("ResNet152", (3, 8, 36, 3), "bottleneck", RESNET)
WideResNet18 = _builder(
    "WideResNet18", (2, 2, 2, 2), "basic", WIDE, default_multiplier=1.5
)
ResNeXt50 = _builder(
    "ResNeXt50",
    (3, 4, 6, 3),
    "bottleneck",
    RESNEXT,
    default_groups=32,
    default_base_width=4,
)
ResNeXt101 = _builder(
    "ResNeXt101",
    (3, 4, 23, 3),
    "bottleneck",
    RESNEXT,
    default_groups=32,
    default_base_width=4,
)
# All of them, in the order in which errors list them.
RESIDUAL_NETWORKS: tuple[Callable[..., keras.Model], ...] = (
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    WideResNet18,
    ResNeXt50,
    ResNeXt101,
)
