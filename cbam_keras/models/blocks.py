"""Building blocks of the networks, with the names of all layers.

Every function takes and returns symbolic features in Keras' data format; a
stride `s` gives `ceil(H / s)` rows. Layer names are API: weight maps, Grad-CAM
and insertion rely on them. `layers.make_attention` takes `attention`.
"""

from collections.abc import Callable, Iterator, Sequence

import keras
from keras import KerasTensor, layers

from cbam_keras.layers import AttentionGate, MakeLayer, make_attention

HALF_PRECISION = ("float16", "bfloat16")
DOWNSAMPLE_IN = ("3x3", "1x1")
# One kind of attention: a name, or a layer class, template or function.
Kind = str | MakeLayer | None


def channels_of(x: KerasTensor) -> int:
    """Returns the number of channels of a feature map."""
    return x.shape[channel_axis()]


def class_for(x: KerasTensor, kind: str) -> Callable[..., keras.Layer]:
    """Returns the layer of a kind for signals, images or volumes."""
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
    """Convolves without bias, with PyTorch's padding or Keras' `"same"`."""
    if stride > 1 and kernel_size == 1:
        # Its gradient crashes TensorFlow with oneDNN for some batch sizes.
        pool = class_for(x, "MaxPooling")(1, stride, name=f"{name}_subsample")
        x, stride = pool(x), 1
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
    x: KerasTensor, kernel_size: int, *, name: str, stride=1, padding="pytorch"
) -> KerasTensor:
    """Convolves each channel separately, with padding as `conv`."""
    x, padding = _pad(x, kernel_size, stride, name, padding)
    return class_for(x, "DepthwiseConv")(
        kernel_size,
        strides=stride,
        padding=padding,
        use_bias=False,
        # Keras' fan out of `(k, k, C, 1)` is `k * k`, the number of inputs of
        # each output, and PyTorch's `k * k * C` would be too small by sqrt(C).
        depthwise_initializer=kaiming_normal(),
        name=name,
    )(x)


def batch_norm(
    x: KerasTensor, *, name: str, epsilon: float = 1e-5, momentum: float = 0.9
) -> KerasTensor:
    """Applies batch normalization, by default as PyTorch does."""
    # PyTorch's momentum 0.1 is Keras' 0.9: PyTorch's weighs the new value.
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
    """Applies a new attention layer, or nothing if `attention` is `None`."""
    layer = make_attention(attention, name=name)
    if layer is None:
        return x
    has_two = isinstance(layer, AttentionGate) and gating is not None
    y = layer(gating, x) if has_two else layer(x)
    if tuple(y.shape) != tuple(x.shape):
        raise ValueError(
            "`attention` must give layers that keep the shape. Received: "
            f"attention={attention!r}, whose {type(layer).__name__} turns "
            f"{tuple(x.shape)} into {tuple(y.shape)}"
        )
    return y


def number_blocks(stages: Sequence[Sequence]) -> Iterator[tuple]:
    """Yields the stage and size of each block, and its stride and name."""
    for stage, sizes in enumerate(stages, 1):
        for index, size in enumerate(sizes, 1):
            stride = 2 if stage > 1 and index == 1 else 1
            name = f"stage{stage}_block{index}"
            yield stage, size, {"stride": stride, "name": name}


def stem_block(x: KerasTensor, width: int, kind: str) -> KerasTensor:
    """Applies the first layers of a residual network, see `ResNet`."""
    large = kind == "imagenet"
    stride = 1 if kind == "small" else 2
    x = conv(x, width, 7 if large else 3, stride=stride, name="stem_conv")
    x = relu(batch_norm(x, name="stem_bn"), name="stem_relu")
    if large:
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
    """Applies two 3x3 convolutions and attention, with a shortcut."""
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
    """Applies 1x1, 3x3 and 1x1 to `4 * width`, with a shortcut."""
    inner = width * base_width // 64 * groups
    first, second = (stride, 1) if downsample_in == "1x1" else (1, stride)
    shortcut = _shortcut(x, 4 * width, stride, name)
    x = conv(x, inner, 1, stride=first, name=f"{name}_conv1")
    x = batch_norm(x, name=f"{name}_bn1")
    x = relu(x, name=f"{name}_relu1")
    x = conv(x, inner, 3, stride=second, groups=groups, name=f"{name}_conv2")
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
    """Applies a 3x3 depthwise and a 1x1 convolution, each with attention."""
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

    The first, left out for 1, multiplies the channels by `expansion`. Attention
    follows the convolution that `attention_after` names.
    """
    y = x
    if expansion > 1:
        y = conv(y, expansion * channels_of(x), 1, name=f"{name}_conv1")
        y = relu6(normalize(y, name=f"{name}_bn1"), name=f"{name}_relu1")
    y = depthwise_conv(
        y, kernel_size, stride=stride, name=f"{name}_conv2", padding=padding
    )
    y = relu6(normalize(y, name=f"{name}_bn2"), name=f"{name}_relu2")
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
    # Keras' "same" pads even sizes at the end alone, PyTorch on both sides.
    x = class_for(x, "ZeroPadding")(kernel_size // 2, name=f"{name}_pad")(x)
    return x, "valid"


def kaiming_normal():
    """Returns the authors' initializer: Kaiming normal, fan out."""
    return keras.initializers.VarianceScaling(
        2.0, mode="fan_out", distribution="untruncated_normal"
    )


def _shortcut(x, channels, stride, name):
    if stride == 1 and channels_of(x) == channels:
        return x
    x = conv(x, channels, 1, stride=stride, name=f"{name}_shortcut_conv")
    return batch_norm(x, name=f"{name}_shortcut_bn")


def _join(x, shortcut, attention, name):
    x = attach(x, attention, name=f"{name}_attention")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return relu(x, name=f"{name}_out")


def head_dtype():
    """Returns the dtype of a head: logits and losses need full precision."""
    policy = keras.config.dtype_policy()
    return "float32" if policy.compute_dtype in HALF_PRECISION else None


def channel_axis():
    return 1 if keras.config.image_data_format() == "channels_first" else -1
