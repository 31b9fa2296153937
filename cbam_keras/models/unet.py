"""U-Net: a class for each pixel, from the features of any network."""

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import keras
from keras import layers, ops

from cbam_keras import _checks, _graph
from cbam_keras.layers.stages import in_stages
from cbam_keras.models import blocks
from cbam_keras.models.assembly import check_activation
from cbam_keras.models.resnet import positive_integers

# The least side of the image for which strides are measured.
SIDE = 256
# Arguments that other networks take, and that here belong to the encoder.
ARGUMENTS_OF_ENCODER = ("include_top", "input_shape", "input_tensor", "weights")
Arguments = ParamSpec("Arguments")


def _needs_encoder(
    build: Callable[Arguments, keras.Model],
) -> Callable[Arguments, keras.Model]:
    """Decorator whose error for a missing encoder says how to make one."""

    # It takes all arguments, and so sees those that `build` does not have.
    @functools.wraps(build)
    def call(
        *positional: Arguments.args, **options: Arguments.kwargs
    ) -> keras.Model:
        parameters = inspect.signature(build).parameters
        misspelled = options.keys() - {*parameters, *ARGUMENTS_OF_ENCODER}
        # A misspelled argument has to be corrected first.
        if positional or "encoder" in options or misspelled:
            return build(*positional, **options)
        received = ", ".join(
            f"{name}={_checks.shown(value)}" for name, value in options.items()
        )
        shape = options.get("input_shape", (64, 64, 3))
        # The call is written out with arguments that exist and are short.
        arguments = {"classes": 2} | {
            name: value
            for name, value in options.items()
            if name in parameters and isinstance(value, str | int)
        }
        written = ", ".join(
            f"{name}={value!r}" for name, value in arguments.items()
        )
        raise TypeError(
            "UNet needs an `encoder`, the network whose feature maps it "
            "decodes, and which has the shape of the images. Received: "
            f"{received or 'no arguments'}. Write models.UNet(models.ResNet18("
            f"include_top=False, input_shape={shape}), {written})"
        )

    return call


@_needs_encoder
@_checks.named
def UNet(
    encoder: keras.Model,
    classes: int,
    *,
    attention: blocks.Kind = None,
    skip_attention: blocks.Kind = None,
    stages: str = "all",
    decoder_widths: Sequence[int] | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "unet",
) -> keras.Model:
    """Builds a U-Net for segmentation on the features of any network.

    The model shares the layers of the encoder, and so its weights and
    `trainable`.

    It takes images with the preprocessing that the encoder needs. A block of
    the decoder repeats the features up to the next resolution of the encoder,
    concatenates the encoder's last output of that resolution (a skip), and
    applies twice a 3x3 convolution, batch normalization and a ReLU, then
    attention. If the encoder has no feature map as large as its input, a last
    block without skip has the size of the input.

    Args:
        encoder: Functional `keras.Model` that takes an image, a signal or a
            volume, e.g. `ResNet18(include_top=False, input_shape=(64, 64, 3))`.
            A classifier is left out. The size may be unknown and of any value:
            repeated features are cropped, or padded with zeros, to the size of
            the skip.
        classes: Positive integer, the number of classes; `1` is a single output
            unit for two classes, which needs `classifier_activation="sigmoid"`
            or `None`.
        attention: Attention of each decoder block: what
            `layers.make_attention` takes. Defaults to `None`.
        skip_attention: Attention of each skip, which may also be `"gate"`, an
            `AttentionGate`. Its gating signal is the output of the coarser
            block, before it is repeated. Defaults to `None`.
        stages: String, which decoder blocks have `attention` and
            `skip_attention`, numbered from 1, the coarsest: `"all"`,
            `"first"`, `"last"`, `"last 2"`, or numbers such as `"1,3"`. For
            `skip_attention`, only blocks with a skip count. There is no
            `"top"`. Defaults to `"all"`.
        decoder_widths: Sequence of positive integers, the channels of the
            blocks, the coarsest first. Defaults to `None`, which means `16` for
            the last block and twice as many for each block before it, up to
            `256`.
        classifier_activation: Activation of the classifier; `None` gives
            logits. Defaults to `"softmax"`.
        name: String, the name of the model. Defaults to `"unet"`.

    Returns:
        A functional `keras.Model`. Its output is `(B, H, W, classes)`, in both
        data formats. Layers are named `"decoder_stage1_conv1"`,
        `"decoder_stage1_attention"`, `"decoder_stage1_skip_attention"`.

    Raises:
        TypeError: If `encoder` is missing or not a `keras.Model`, or if an
            attention has the wrong type.
        ValueError: If `encoder` is not functional, has several inputs, feature
            maps of one resolution only, or another data format than
            `keras.config`, or resizes its input; or if `decoder_widths` does
            not have one width per block.

    Example:
        >>> encoder = ResNet18(include_top=False, input_shape=(64, 64, 3))
        >>> UNet(encoder, classes=2, attention="cbam").output_shape
        (None, 64, 64, 2)

    Reference:
        Ronneberger et al., 2015 (https://arxiv.org/abs/1505.04597).
    """
    encoder = _graph.with_graph("encoder", encoder)
    classes = _checks.positive_integer("classes", classes)
    check_activation(classifier_activation, classes)
    maps, strides = _find_resolutions(encoder)
    image = encoder.inputs[0]
    axis = blocks.channel_axis()
    if decoder_widths is None:
        decoder_widths = _default_widths(len(strides))
    widths = positive_integers("decoder_widths", decoder_widths)
    if len(widths) != len(strides):
        raise ValueError(
            "`decoder_widths` must have a width for each decoder block, "
            f"{len(strides)} with this encoder. Received: "
            f"decoder_widths={decoder_widths!r}"
        )
    numbers = range(1, len(widths) + 1)
    attentions = in_stages(attention, stages, numbers)
    skip_attentions = {}
    if skip_attention is not None:
        # The image itself is not a skip.
        with_skip = [n for n in numbers if maps[-1 - n] is not image]
        skip_attentions = in_stages(skip_attention, stages, with_skip)
    # Maps are the finest first, and the decoder begins at the coarsest.
    x = maps[-1]
    levels = zip(widths, maps[-2::-1], strides[::-1], strict=True)
    for stage, (width, skip, stride) in enumerate(levels, 1):
        block = f"decoder_stage{stage}"
        below = x
        x = UpsampleLike(stride, name=f"{block}_up")([x, skip])
        if skip is not image:
            skip = blocks.attach(
                skip,
                skip_attentions.get(stage),
                name=f"{block}_skip_attention",
                gating=below,
            )
            concatenate = layers.Concatenate(axis, name=f"{block}_concat")
            x = concatenate([x, skip])
        for number in (1, 2):
            x = blocks.conv(x, width, 3, name=f"{block}_conv{number}")
            x = blocks.batch_norm(x, name=f"{block}_bn{number}")
            x = blocks.relu(x, name=f"{block}_relu{number}")
        x = blocks.attach(x, attentions[stage], name=f"{block}_attention")
    dtype = blocks.head_dtype()
    head = blocks.class_for(x, "Conv")
    x = head(classes, 1, dtype=dtype, name="logits")(x)
    if axis == 1:
        # A softmax, losses and metrics take the last axis.
        order = (*range(2, len(x.shape)), 1)
        x = layers.Permute(order, dtype=dtype, name="logits_last")(x)
    x = layers.Activation(
        classifier_activation, dtype=dtype, name="predictions"
    )(x)
    return keras.Model(image, x, name=name)


@keras.saving.register_keras_serializable(package="cbam_keras")
class UpsampleLike(layers.Layer):
    """Repeats the positions of a feature map, to the size of another.

    It takes the two as a list. Surplus positions are cropped at the end.
    Positions that are missing, after convolutions without padding, are zeros on
    both sides.

    Args:
        times: Sequence of integers, how often to repeat along each axis; `0`
            for the batch and the channels.
    """

    def __init__(self, times: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.times = tuple(times)

    def call(self, inputs):
        x, like = inputs
        for axis, times in enumerate(self.times):
            if times == 0:
                continue
            x = ops.repeat(x, times, axis=axis)
            size = ops.shape(like)[axis]
            # On TensorFlow this may be a tensor.
            missing = size - ops.shape(x)[axis]
            if isinstance(missing, int) and missing == 0:
                continue
            # This is max(missing, 0), for integers and tensors.
            missing = (missing + abs(missing)) // 2
            padding = [(0, 0)] * len(x.shape)
            padding[axis] = (missing // 2, missing - missing // 2)
            x = ops.pad(x, padding)
            x = x[(slice(None),) * axis + (slice(size),)]
        return x

    def compute_output_shape(self, input_shape):
        repeated, like = input_shape
        return tuple(
            size_of_like if times else size
            for size, size_of_like, times in zip(
                repeated, like, self.times, strict=True
            )
        )

    def get_config(self):
        config = super().get_config()
        config.update({"times": self.times})
        return config


def _default_widths(num_blocks):
    """Returns 16 for the last block, and twice as many before, up to 256."""
    return [min(256, 16 * 2**n) for n in reversed(range(num_blocks))]


def _find_resolutions(encoder):
    """Returns the last output at each resolution, finest first, and strides.

    The image comes first, unless the finest output is as large. A stride, from
    one map to the next, has `0` for the axes of the batch and the channels.
    """
    if len(encoder.inputs) != 1:
        raise ValueError(
            "`encoder` must have one input, images. Received: model "
            f'"{encoder.name}" with {len(encoder.inputs)}'
        )
    if any(map(_graph.is_graph, encoder.layers)):
        # Skips may come from within a nested model.
        outputs = _graph.walk(
            encoder,
            encoder.inputs,
            lambda _, operation, *args, **kwargs: operation(*args, **kwargs),
        )
        encoder = keras.Model(encoder.inputs, outputs, name=encoder.name)
    image = encoder.inputs[0]
    axis = blocks.channel_axis()
    # Each side is raised to a power of two. The strides of common networks
    # divide it, so that no size of a feature map is rounded.
    shape = [max(SIDE, 1 << ((n or 1) - 1).bit_length()) for n in image.shape]
    shape[0] = None
    shape[axis] = image.shape[axis]
    graph = _graph.trace(encoder, [shape])
    last = _graph.last_at_each_resolution(graph)
    traced = [graph.inputs[0], *(step.outputs[0] for step in last)]
    if len(last) < 2 or any(
        graph.channel_axis(x) != axis or len(x.shape) != len(shape)
        for x in traced
    ):
        paths = [step.path for step in last] or "none"
        raise ValueError(
            "`encoder` must have convolutions at several resolutions, and the "
            f'data format of keras.config, "{keras.config.image_data_format()}"'
            f'. Received: model "{encoder.name}" with input_shape='
            f"{image.shape}, whose last layer at each resolution "
            f"is {paths}. {graph.unreached()}"
        )
    resizing = [x for x in encoder.layers if isinstance(x, layers.Resizing)]
    if resizing:
        raise ValueError(
            "`encoder` must not resize its images, since masks have the size "
            f'of its input. Received: model "{encoder.name}" with layer '
            f'"{resizing[0].name}". Resize images before they enter the model'
        )
    nodes = dict(zip(graph.steps, _graph.nodes(encoder), strict=True))
    maps = [image, *(nodes[step].outputs[0] for step in last)]
    sizes = [list(x.shape) for x in traced]
    for size in sizes:
        size[0] = 0
        size[axis] = 0
    if sizes[0] == sizes[1]:
        del maps[0], sizes[0]
    strides = [
        [
            round(fine / max(1, coarse))
            for fine, coarse in zip(finer, coarser, strict=True)
        ]
        for finer, coarser in itertools.pairwise(sizes)
    ]
    return maps, strides
