"""`ResNet`, the builder of all residual networks, with attention."""

import functools
import os
from collections.abc import Callable, Sequence

import keras

from cbam_keras import _checks
from cbam_keras.layers.stages import TOP, Stage, choose_stages, in_stages
from cbam_keras.models import blocks
from cbam_keras.models.assembly import assemble

WIDTHS = (64, 128, 256, 512)


@_checks.named
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
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    attention: blocks.Kind | Sequence[blocks.Kind] = None,
    stages: str = "all",
    stem: str = "imagenet",
    downsample_in: str = "3x3",
    name: str = "resnet",
) -> keras.Model:
    """Builds a residual network, optionally with attention in each block.

    Preprocessing is not built in. Padding and batch normalization are
    PyTorch's, so its checkpoints give the same numbers.

    Batch normalization has an epsilon of 1e-5 and a momentum of 0.9.

    Layers are named `stem_conv`, `stage2_block1_conv1`, `stage2_block1_bn1`,
    `stage2_block1_attention`, `stage2_block1_out`, `head_pool`, `predictions`.

    Args:
        depths: Sequence of positive integers, the blocks of each stage. Every
            stage after the first halves height and width.
        block: `"basic"` (two 3x3 convolutions) or `"bottleneck"` (1x1, 3x3,
            1x1). In a bottleneck a width `w` gives `4 w` channels. Defaults to
            `"bottleneck"`.
        widths: Sequence of positive integers, the width of each stage.
            Defaults to `(64, 128, 256, 512)`.
        stem_width: Positive integer, the channels after the stem. Defaults to
            `64`.
        groups: Positive integer, the groups of the 3x3 convolution of a
            bottleneck. Defaults to `1`.
        base_width: Positive integer. A bottleneck of width `w` has
            `groups * floor(w * base_width / 64)` inner channels. Defaults to
            `64`.
        include_top: Boolean, whether the network ends with global average
            pooling and a classifier. Defaults to `True`.
        weights: Path of a `.keras` or `.weights.h5` file of the same network,
            or of a PyTorch checkpoint. See `cbam_keras.load_torch_weights`.
            Defaults to `None`, which means random weights.
        input_tensor: Keras tensor to build the network on. Defaults to
            `None`, which means a new input.
        input_shape: Shape `(H, W, C)` or `(C, H, W)`, by the image data format.
            Defaults to `None`, which means `(None, None, 3)` without a
            classifier, otherwise `(224, 224, 3)`, or `(32, 32, 3)` with the
            small stem and `(64, 64, 3)` with the strided one.
        pooling: Without a classifier, `"avg"` or `"max"` for global pooling,
            `None` for the feature map. Defaults to `None`.
        classes: Positive integer, the number of classes; `1` is a single output
            unit for two classes, which needs `classifier_activation="sigmoid"`
            or `None`. Defaults to `1000`.
        classifier_activation: Activation of the classifier; `None` gives
            logits. Defaults to `"softmax"`.
        attention: Attention at the end of every residual branch: what
            `layers.make_attention` takes, or a list, one per stage. Defaults to
            `None`.
        stages: String, which stages have attention: `"all"`, `"first"`,
            `"last"`, `"last 2"`, or numbers such as `"1,3"`; or `"top"`, one
            layer, `head_attention`, after the last feature map. Stages are
            numbered from 1, as in the names of layers. Defaults to `"all"`.
        stem: `"imagenet"` (7x7, stride 2, max pooling), `"small"` (3x3; for 16
            to 96 pixels) or `"strided"` (3x3, stride 2). `"strided"` takes a
            quarter of the MACs of `"small"`. Defaults to `"imagenet"`.
        downsample_in: String, which convolution of a bottleneck has the stride:
            `"3x3"`, as in the authors' code and torchvision, or `"1x1"`, which
            gives the FLOPs reported in the paper. Defaults to `"3x3"`.
        name: String, the name of the model. Defaults to `"resnet"`.

    Returns:
        A functional `keras.Model`. Its output is `(B, classes)`, or without
        classifier, for four stages, `(B, H / 32, W / 32, C)` (`H / 8` with the
        small stem, `H / 16` with the strided one), or `(B, C)` with `pooling`.

    Raises:
        ValueError: If an argument is out of range, if the lists differ in
            length, or if a weight file does not fit.
        TypeError: If `attention` has the wrong type.

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
    depths = positive_integers("depths", depths)
    widths = positive_integers("widths", widths)
    if len(depths) != len(widths):
        raise ValueError(
            "`depths` and `widths` must have the same length. Received: "
            f"depths={depths}, widths={widths}"
        )
    stem_width = _checks.positive_integer("stem_width", stem_width)
    build_block = _choose_block(block, groups, base_width, downsample_in)
    width_of_blocks = [
        [width] * depth for depth, width in zip(depths, widths, strict=True)
    ]
    numbers = range(1, len(depths) + 1)
    if isinstance(attention, (list, tuple)):
        if len(attention) != len(depths):
            raise ValueError(
                "A list of `attention` must have one entry per stage. "
                f"Received: {len(attention)} for {len(depths)} stages, "
                f"attention={attention!r}"
            )
        with_attention = choose_stages(stages, numbers)
        attentions: dict[Stage, blocks.Kind] = {
            number: attention[number - 1] if number in with_attention else None
            for number in numbers
        }
    else:
        attentions = in_stages(attention, stages, [*numbers, TOP])

    def body(x):
        x = blocks.stem_block(x, stem_width, stem)
        for stage, width, stride, block_name in blocks.number_blocks(
            width_of_blocks
        ):
            x = build_block(
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
        # A list has attention for stages only.
        top_attention=attentions.get(TOP),
        name=name,
    )


def _choose_block(block, groups, base_width, downsample_in):
    """Returns the function that builds a block, after checking its options."""
    _checks.one_of("block", block, ("basic", "bottleneck"))
    _checks.one_of("downsample_in", downsample_in, blocks.DOWNSAMPLE_IN)
    groups = _checks.positive_integer("groups", groups)
    base_width = _checks.positive_integer("base_width", base_width)
    if block == "basic":
        if (groups, base_width) != (1, 64):
            raise ValueError(
                '`groups` and `base_width` belong to block="bottleneck". '
                f'Received: block="basic", groups={groups}, '
                f"base_width={base_width}"
            )
        return blocks.basic_block
    return functools.partial(
        blocks.bottleneck_block,
        groups=groups,
        base_width=base_width,
        downsample_in=downsample_in,
    )


def positive_integers(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Returns a sequence of positive integers as a tuple."""
    is_sequence = isinstance(values, Sequence) and not isinstance(values, str)
    if not is_sequence or not values:
        raise ValueError(
            f"`{name}` must be a sequence of positive integers, one per "
            f"stage. Received: {name}={values!r}"
        )
    return tuple(_checks.positive_integer(name, value) for value in values)
