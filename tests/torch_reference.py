"""A ResNeXt in PyTorch, the reference for converted weights.

Written from the papers (He et al., 2016; Xie et al., 2017), with the names of
torchvision's modules.
"""

import torch
from torch import nn

WIDTHS, GROUPS, BASE_WIDTH = (16, 32), 4, 32


def conv_bn(inputs, outputs, kernel, stride=1, groups=1):
    options = {"padding": kernel // 2, "groups": groups, "bias": False}
    conv = nn.Conv2d(inputs, outputs, kernel, stride, **options)
    norm = nn.BatchNorm2d(outputs)
    # As if after training.
    for tensor in (norm.weight, norm.running_var):
        tensor.data.uniform_(0.5, 1.5)
    for tensor in (norm.bias, norm.running_mean):
        tensor.data.uniform_(-0.3, 0.3)
    return conv, norm


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        inner = width * BASE_WIDTH // 64 * GROUPS
        self.conv1, self.bn1 = conv_bn(inputs, inner, 1)
        self.conv2, self.bn2 = conv_bn(inner, inner, 3, stride, GROUPS)
        self.conv3, self.bn3 = conv_bn(inner, 4 * width, 1)
        changed = stride > 1 or inputs != 4 * width
        shortcut = conv_bn(inputs, 4 * width, 1, stride) if changed else ()
        self.downsample = nn.Sequential(*shortcut)

    def forward(self, x):
        branch = torch.relu(self.bn1(self.conv1(x)))
        branch = torch.relu(self.bn2(self.conv2(branch)))
        return torch.relu(self.bn3(self.conv3(branch)) + self.downsample(x))


class ResNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.bn1 = conv_bn(3, 8, 7, 2)
        first, second = WIDTHS
        self.layer1 = nn.Sequential(Bottleneck(8, first, 1))
        self.layer2 = nn.Sequential(
            Bottleneck(4 * first, second, 2), Bottleneck(4 * second, second, 1)
        )
        self.fc = nn.Linear(4 * second, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


def logits(network, images):
    """Returns the logits of images `(B, H, W, 3)` as a NumPy array."""
    with torch.no_grad():
        x = torch.tensor(images.transpose(0, 3, 1, 2))
        return network.eval()(x).numpy()
