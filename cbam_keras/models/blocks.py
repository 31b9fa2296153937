"""Building blocks of the networks, with the names of all layers.

Every function takes and returns a symbolic Keras tensor, `(B, H, W, C)` or
`(B, C, H, W)`, depending on `keras.config.image_data_format()`, or that of a
signal or a volume; a stride `s` gives `ceil(H / s)` rows. Layer names are API:
weight maps, Grad-CAM and insertion rely on them. `name` is the prefix of all
layer names of a block, e.g. `"stage1_block1"`. `attention` is what
`layers.make_attention` takes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import keras
from keras import KerasTensor, layers

from cbam_keras.layers import AttentionGate, MakeLayer, make_attention

HALF_PRECISION = ("float16", "bfloat16")
DOWNSAMPLE_IN = ("3x3", "1x1")
# One kind of attention: a name, or a layer class, template or function.
Kind = str | MakeLayer | None
Size = TypeVar("Size")


def channels_of(x: KerasTensor) -> int:
    """Returns the number of channels of a feature map."""
    return x.shape[channel_axis()]


def class_for(x: KerasTensor, kind: str) -> Callable[..., keras.Layer]:
    """Returns the layer class of a kind for signals, images or volumes.

    For example `"Conv"` is `layers.Conv2D` for `(B, H, W, C)`.
    """
    return getattr(layers, f"{kind}{len(x.shape) - 2}D")


def conv(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    stride: int = 1,
    groups: int = 1,
    padding: str = "pytorch",
) -> KerasTensor:
    """Convolves without bias, with padding for an odd kernel.

    `padding` is `"pytorch"`, the same on both sides of each axis, or `"same"`,
    as in Keras.
    """
    if stride > 1 and kernel_size == 1:
        # The gradient of a 1x1 convolution with stride 2 crashes the process
        # on TensorFlow with oneDNN for some odd batch sizes. Pooling single
        # positions selects the same ones.
        pool = class_for(x, "MaxPooling")(1, stride, name=f"{name}_subsample")
        x = pool(x)
        stride = 1
    x, padding = _pad(x, kernel_size, stride, name, padding)
    return class_for(x, "Conv")(
        filters,
        kernel_size,
        strides=stride,
        padding=padding,
        groups=groups,
        use_bias=False,
        kernel_initializer=kaiming_normal(),
        name=name,
    )(x)


def depthwise_conv(
    x: KerasTensor,
    kernel_size: int,
    *,
    name: str,
    stride: int = 1,
    padding: str = "pytorch",
) -> KerasTensor:
    """Convolves each channel separately, with padding as in `conv`."""
    x, padding = _pad(x, kernel_size, stride, name, padding)
    return class_for(x, "DepthwiseConv")(
        kernel_size,
        strides=stride,
        padding=padding,
        use_bias=False,
        # Keras' fan out of a depthwise kernel `(k, k, C, 1)` is `k * k`, the
        # number of inputs of each output. Its fan in, and PyTorch's fan out,
        # is `k * k * C`: the deviation would be too small by sqrt(C).
        depthwise_initializer=kaiming_normal(),
        name=name,
    )(x)


def batch_norm(
    x: KerasTensor, *, name: str, epsilon: float = 1e-5, momentum: float = 0.9
) -> KerasTensor:
    """Applies batch normalization, by default as PyTorch does."""
    # PyTorch's momentum of 0.1 weighs the new value, Keras' of 0.9 the old one:
    # they are the same.
    return layers.BatchNormalization(
        axis=channel_axis(), epsilon=epsilon, momentum=momentum, name=name
    )(x)


def relu(x: KerasTensor, *, name: str) -> KerasTensor:
    """Applies a ReLU as a separate layer."""
    return layers.Activation("relu", name=name)(x)


def relu6(x: KerasTensor, *, name: str) -> KerasTensor:
    """Applies a ReLU that is clipped at 6, as a separate layer."""
    return layers.Activation("relu6", name=name)(x)


def attach(
    x: KerasTensor,
    attention: Kind,
    *,
    name: str,
    gating: KerasTensor | None = None,
) -> KerasTensor:
    """Applies a new attention layer, or nothing if `attention` is `None`.

    `gating` is the gating signal of an `AttentionGate`, its first input. Other
    layers do not use it.
    """
    layer = make_attention(attention, name=name)
    if layer is None:
        return x
    if isinstance(layer, AttentionGate) and gating is not None:
        y = layer(gating, x)
    else:
        y = layer(x)
    if tuple(y.shape) != tuple(x.shape):
        raise ValueError(
            "`attention` must give layers that keep the shape. Received: "
            f"attention={attention!r}, whose {type(layer).__name__} turns "
            f"{tuple(x.shape)} into {tuple(y.shape)}"
        )
    return y


def number_blocks(
    stages: Sequence[Sequence[Size]],
) -> Iterator[tuple[int, Size, int, str]]:
    """Yields the stage, size, stride and name of each block.

    Stages are numbered from 1. The first block of every stage after the first
    halves height and width. A size is any value per block, such as its width.
    """
    for stage, sizes in enumerate(stages, 1):
        for index, size in enumerate(sizes, 1):
            stride = 2 if stage > 1 and index == 1 else 1
            yield stage, size, stride, f"stage{stage}_block{index}"


def stem_block(x: KerasTensor, width: int, kind: str) -> KerasTensor:
    """Applies the first layers of a residual network, see `ResNet`."""
    kernel_size = 7 if kind == "imagenet" else 3
    stride = 1 if kind == "small" else 2
    x = conv(x, width, kernel_size, stride=stride, name="stem_conv")
    x = batch_norm(x, name="stem_bn")
    x = relu(x, name="stem_relu")
    if kind == "imagenet":
        # PyTorch pads with -inf; after the ReLU, zeros give the same maxima.
        x = class_for(x, "ZeroPadding")(1, name="stem_pool_pad")(x)
        x = class_for(x, "MaxPooling")(3, strides=2, name="stem_pool")(x)
    return x


def basic_block(
    x: KerasTensor,
    width: int,
    *,
    name: str,
    stride: int = 1,
    attention: Kind = None,
) -> KerasTensor:
    """Applies two 3x3 convolutions with a shortcut around them.

    The first has the stride. The attention layer is at the end of the branch,
    after the last normalization and before the addition (Figure 3 of the
    paper).
    """
    shortcut = _shortcut(x, width, stride, name)
    x = conv(x, width, 3, stride=stride, name=f"{name}_conv1")
    x = batch_norm(x, name=f"{name}_bn1")
    x = relu(x, name=f"{name}_relu1")
    x = conv(x, width, 3, name=f"{name}_conv2")
    x = batch_norm(x, name=f"{name}_bn2")
    return _join(x, shortcut, attention, name)


def bottleneck_block(
    x: KerasTensor,
    width: int,
    *,
    name: str,
    stride: int = 1,
    groups: int = 1,
    base_width: int = 64,
    downsample_in: str = "3x3",
    attention: Kind = None,
) -> KerasTensor:
    """Applies a 1x1, a 3x3 and a 1x1 convolution with a shortcut around them.

    The block gives `4 * width` channels. `groups` divides the 3x3 convolution,
    `base_width` scales the inner channels, and `downsample_in` says which
    convolution has the stride, see `ResNet`. Attention is where `basic_block`
    has it.
    """
    inner_width = width * base_width // 64 * groups
    stride_of_1x1 = stride if downsample_in == "1x1" else 1
    stride_of_3x3 = stride if downsample_in == "3x3" else 1
    shortcut = _shortcut(x, 4 * width, stride, name)
    x = conv(x, inner_width, 1, stride=stride_of_1x1, name=f"{name}_conv1")
    x = batch_norm(x, name=f"{name}_bn1")
    x = relu(x, name=f"{name}_relu1")
    x = conv(
        x,
        inner_width,
        3,
        stride=stride_of_3x3,
        groups=groups,
        name=f"{name}_conv2",
    )
    x = batch_norm(x, name=f"{name}_bn2")
    x = relu(x, name=f"{name}_relu2")
    x = conv(x, 4 * width, 1, name=f"{name}_conv3")
    x = batch_norm(x, name=f"{name}_bn3")
    return _join(x, shortcut, attention, name)


def depthwise_separable_block(
    x: KerasTensor,
    width: int,
    *,
    name: str,
    stride: int = 1,
    attention: Kind = None,
) -> KerasTensor:
    """Applies a 3x3 depthwise and a 1x1 convolution, the block of MobileNet.

    The first has the stride. Each of the two is followed by an attention
    layer, between its normalization and its ReLU.
    """
    x = depthwise_conv(x, 3, stride=stride, name=f"{name}_conv1")
    x = batch_norm(x, name=f"{name}_bn1")
    x = attach(x, attention, name=f"{name}_attention1")
    x = relu(x, name=f"{name}_relu1")
    x = conv(x, width, 1, name=f"{name}_conv2")
    x = batch_norm(x, name=f"{name}_bn2")
    x = attach(x, attention, name=f"{name}_attention2")
    return relu(x, name=f"{name}_out")


def inverted_residual_block(
    x: KerasTensor,
    width: int,
    *,
    name: str,
    normalize: Callable[..., KerasTensor],
    kernel_size: int = 3,
    stride: int = 1,
    expansion: int = 6,
    padding: str = "pytorch",
    attention: Kind = None,
    attention_after: str = "conv3",
) -> KerasTensor:
    """Applies a 1x1, a depthwise and a 1x1 convolution, with their input added.

    The block of MobileNetV2 and EfficientNet. The first convolution multiplies
    the channels by `expansion`, and is left out for 1; the second has the
    stride; the third has no activation. `normalize(x, name=...)` is the batch
    normalization. The attention layer follows the activation of the depthwise
    convolution if `attention_after="conv2"`, the last normalization if it is
    `"conv3"`. The input is added where it has the shape of the output.
    """
    y = x
    if expansion > 1:
        y = conv(y, expansion * channels_of(x), 1, name=f"{name}_conv1")
        y = normalize(y, name=f"{name}_bn1")
        y = relu6(y, name=f"{name}_relu1")
    y = depthwise_conv(
        y, kernel_size, stride=stride, padding=padding, name=f"{name}_conv2"
    )
    y = normalize(y, name=f"{name}_bn2")
    y = relu6(y, name=f"{name}_relu2")
    if attention_after == "conv2":
        y = attach(y, attention, name=f"{name}_attention")
    y = conv(y, width, 1, name=f"{name}_conv3")
    y = normalize(y, name=f"{name}_bn3")
    if attention_after == "conv3":
        y = attach(y, attention, name=f"{name}_attention")
    if stride > 1 or channels_of(x) != width:
        return y
    return layers.Add(name=f"{name}_add")([y, x])


def _pad(x, kernel_size, stride, name, padding):
    """Returns the padded input, and the `padding` of the convolution."""
    if stride == 1 or padding == "same":
        return x, "same"
    # Keras' "same" pads only at the end when the size is even; PyTorch pads
    # both sides, and its checkpoints depend on it.
    x = class_for(x, "ZeroPadding")(kernel_size // 2, name=f"{name}_pad")(x)
    return x, "valid"


def kaiming_normal():
    """Returns the authors' initializer: Kaiming normal, fan out."""
    return keras.initializers.VarianceScaling(
        2.0, mode="fan_out", distribution="untruncated_normal"
    )


def _shortcut(x, channels, stride, name):
    """Returns `x`, or a projection of it where the block changes the shape."""
    if stride == 1 and channels_of(x) == channels:
        return x
    x = conv(x, channels, 1, stride=stride, name=f"{name}_shortcut_conv")
    return batch_norm(x, name=f"{name}_shortcut_bn")


def _join(x, shortcut, attention, name):
    """Ends a residual block: attention, addition, ReLU."""
    x = attach(x, attention, name=f"{name}_attention")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return relu(x, name=f"{name}_out")


def head_dtype():
    """Returns the `dtype` of a head, which does not use half precision.

    Logits and losses need full precision, so it is `"float32"` if the policy of
    Keras computes in half precision. Otherwise it is `None`, for that policy.
    """
    policy = keras.config.dtype_policy()
    return "float32" if policy.compute_dtype in HALF_PRECISION else None


def channel_axis():
    """Returns the channel axis of Keras' image data format."""
    return 1 if keras.config.image_data_format() == "channels_first" else -1
