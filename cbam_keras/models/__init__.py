"""Networks of the paper as functional Keras models."""

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
