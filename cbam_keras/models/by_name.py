"""Networks by name, built for a dataset of images in [0, 255]."""

import functools
from collections.abc import Callable

import keras
from keras import layers

from cbam_keras.models.mobilenet import MobileNet
from cbam_keras.models.mobilenet_v2 import MobileNetV2
from cbam_keras.models.residual_networks import (
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    ResNeXt50,
    ResNeXt101,
    WideResNet18,
)
from cbam_keras.models.resnet import ResNet


def _three_stages(width):
    """Returns a builder of one basic block in each of three stages."""
    widths = (width, 2 * width, 4 * width)
    return functools.partial(
        ResNet, (1, 1, 1), block="basic", widths=widths, stem_width=width
    )


def _network(build, images, attention, stem="small"):
    """Builds a network with rescaling for the images of a dataset."""
    inputs = keras.Input(images.image_shape, name="images")
    large = max(images.image_shape) > 96
    return build(
        input_tensor=layers.Rescaling(1 / 255, name="rescale")(inputs),
        classes=len(images.class_names),
        attention=attention,
        stem="imagenet" if large else stem,
    )


BUILDERS: dict[str, Callable[..., keras.Model]] = {
    build.__name__.lower(): build
    for build in (
        ResNet18,
        ResNet34,
        ResNet50,
        ResNet101,
        ResNet152,
        WideResNet18,
        ResNeXt50,
        ResNeXt101,
        MobileNet,
        MobileNetV2,
    )
}
NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "tiny": functools.partial(_network, _three_stages(8), stem="strided"),
    "small": functools.partial(_network, _three_stages(16)),
    **{
        name: functools.partial(_network, build)
        for name, build in BUILDERS.items()
    },
}
