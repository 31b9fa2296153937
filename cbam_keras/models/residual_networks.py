"""The residual networks of the paper, from ResNet18 to ResNeXt101."""

import functools
import inspect
import os
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import keras

from cbam_keras import _checks
from cbam_keras.models.resnet import WIDTHS, ResNet

P = ParamSpec("P")


def _builder(
    name: str, summary: str, channels: int, reference: str, **documented: str
) -> Callable[[Callable[P, dict[str, Any]]], Callable[P, keras.Model]]:
    """Makes a builder of a function that returns the arguments for `ResNet`.

    The types keep its signature, so that editors can help. `documented` are
    the arguments that `ResNet` does not have.
    """

    def filled(text):
        return textwrap.fill(
            text, 76, initial_indent=" " * 4, subsequent_indent=" " * 8
        )

    def decorate(arguments):
        signature = inspect.signature(arguments)
        args = "\n".join(
            filled(
                f"{key}: {documented.get(key, 'See `ResNet`.')} Defaults to "
                f"`{_checks.quoted(parameter.default)}`."
            )
            for key, parameter in signature.parameters.items()
        )
        # Errors of wrong arguments name it.
        arguments.__name__ = arguments.__qualname__ = name

        @functools.wraps(arguments)
        def build(*args, **kwargs):
            return ResNet(**arguments(*args, **kwargs))

        build.__signature__ = signature.replace(return_annotation=keras.Model)
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
    """Returns the builder of a residual network of the default widths."""

    @_builder(
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
    ) -> dict[str, Any]:
        return {**locals(), "depths": depths, "block": block}

    return build


def _resnext(name, depths):
    """Returns the builder of a residual network with grouped convolutions."""

    @_builder(
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
    ) -> dict[str, Any]:
        return {**locals(), "depths": depths}

    return build


ResNet18 = _resnet("ResNet18", (2, 2, 2, 2), "basic")
ResNet34 = _resnet("ResNet34", (3, 4, 6, 3), "basic")
ResNet50 = _resnet("ResNet50", (3, 4, 6, 3), "bottleneck")
ResNet101 = _resnet("ResNet101", (3, 4, 23, 3), "bottleneck")
ResNet152 = _resnet("ResNet152", (3, 8, 36, 3), "bottleneck")
ResNeXt50 = _resnext("ResNeXt50", (3, 4, 6, 3))
ResNeXt101 = _resnext("ResNeXt101", (3, 4, 23, 3))


@_builder(
    "WideResNet18",
    "8 wider basic blocks, (2, 2, 2, 2).",
    768,
    "Zagoruyko and Komodakis, 2016 (https://arxiv.org/abs/1605.07146)",
    width_multiplier="Positive number. Multiplies the 64, 128, 256 and 512 "
    "channels of the stages, rounded down. The stem keeps its 64 channels, as "
    "the parameters printed in the CBAM paper require.",
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
) -> dict[str, Any]:
    arguments = locals()
    wider = arguments.pop("width_multiplier")
    wider = _checks.positive_number("width_multiplier", wider)
    arguments["widths"] = [max(1, int(wider * width)) for width in WIDTHS]
    return {**arguments, "depths": (2, 2, 2, 2), "block": "basic"}
