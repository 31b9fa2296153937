"""Networks of the paper as functional Keras models.

- `resnet`, `mobilenet`: the networks.
- `blocks`: the parts of which they are made.
- `assembly`: input, top and weights of every network.
- `by_name`: networks by name, for images in [0, 255].
- `weights`: weights from files.
- `preprocessing`: images as published checkpoints expect them.
- `feature_pyramid`: the last output of each stage.
"""

from cbam_keras.models.by_name import NETWORKS
from cbam_keras.models.feature_pyramid import pyramid
from cbam_keras.models.mobilenet import MobileNet
from cbam_keras.models.preprocessing import preprocess_input
from cbam_keras.models.resnet import (
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    ResNeXt50,
    ResNeXt101,
    WideResNet18,
)

__all__ = [
    "MobileNet",
    "ResNeXt50",
    "ResNeXt101",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "WideResNet18",
    "preprocess_input",
    "pyramid",
]
