"""Networks of the paper as functional Keras models.

- `resnet`: the builder of all residual networks.
- `residual_networks`, `mobile_networks`: the networks themselves.
- `blocks`: their building blocks.
- `assembly`: input, head and weights of every network.
- `by_name`: networks by name, for a dataset or pretrained.
- `weights`: loading weights from files.
- `preprocessing`: preprocessing for published checkpoints.
- `unet`: a decoder for segmentation on the features of any network.
- `losses`: a loss and a metric for masks.
- `pyramids`: the feature maps of all stages, for a network as a backbone.
"""

from cbam_keras.models.by_name import (
    BUILDERS,
    NETWORKS,
    PRETRAINED,
    UNET,
    WEIGHTS,
    ReverseChannels,
    classifier,
    hidden_network,
    pretrained,
    segmenter,
    wider_network,
)
from cbam_keras.models.losses import PixelCrossentropy, PixelIoU
from cbam_keras.models.mobile_networks import (
    EfficientNetLite0,
    MobileNet,
    MobileNetV2,
)
from cbam_keras.models.preprocessing import preprocess_input
from cbam_keras.models.pyramids import pyramid
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
from cbam_keras.models.unet import UNet, UpsampleLike

__all__ = [
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "WideResNet18",
    "ResNeXt50",
    "ResNeXt101",
    "MobileNet",
    "MobileNetV2",
    "EfficientNetLite0",
    "UNet",
    "pyramid",
    "preprocess_input",
]


def __dir__() -> list[str]:
    return __all__
