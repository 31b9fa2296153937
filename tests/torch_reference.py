"""A residual network in PyTorch, the reference for converted weights.

Written from the papers (He et al., 2016; Xie et al., 2017; Zagoruyko and
Komodakis, 2016), with the names of torchvision's modules.
"""

import torch
from torch import nn


def conv_bn(inputs, outputs, kernel, stride=1, groups=1):
    options = {"padding": kernel // 2, "groups": groups, "bias": False}
    conv = nn.Conv2d(inputs, outputs, kernel, stride, **options)
    return conv, nn.BatchNorm2d(outputs)


class Block(nn.Module):
    def __init__(self, inputs, width, stride, bottleneck, groups, base_width):
        super().__init__()
        outputs, inner = width, width
        sizes = ((3, stride, 1), (3, 1, 1))
        if bottleneck:
            outputs, inner = 4 * width, width * base_width // 64 * groups
            sizes = ((1, 1, 1), (3, stride, groups), (1, 1, 1))
        self.depth = len(sizes)
        channels = [inputs] + [inner] * (self.depth - 1) + [outputs]
        for i, size in enumerate(sizes, start=1):
            conv, bn = conv_bn(*channels[i - 1 : i + 1], *size)
            setattr(self, f"conv{i}", conv)
            setattr(self, f"bn{i}", bn)
        changed = stride > 1 or inputs != outputs
        shortcut = conv_bn(inputs, outputs, 1, stride) if changed else ()
        self.downsample = nn.Sequential(*shortcut)

    def forward(self, x):
        branch = x
        for i in range(1, self.depth + 1):
            branch = getattr(self, f"conv{i}")(branch)
            branch = getattr(self, f"bn{i}")(branch)
            if i < self.depth:
                branch = torch.relu(branch)
        return torch.relu(branch + self.downsample(x))


class ResNet(nn.Module):
    """Logits of a residual network, with random weights and statistics."""

    def __init__(self, depths, widths, block, groups=1, base_width=64):
        super().__init__()
        channels, bottleneck = 8, block == "bottleneck"
        self.conv1, self.bn1 = conv_bn(3, channels, 7, 2)
        self.stages = len(depths)
        for stage in range(self.stages):
            width, built = widths[stage], []
            for index in range(depths[stage]):
                stride = 2 if stage and not index else 1
                options = width, stride, bottleneck, groups, base_width
                built.append(Block(channels, *options))
                channels = 4 * width if bottleneck else width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*built))
        self.fc = nn.Linear(channels, 5)
        randomize(self)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


def randomize(network, seed=0):
    """Sets the values of batch normalization as if after training."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.0),
                (module.bias, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
            ):
                tensor.data.uniform_(low, high, generator=generator)
    return network.eval()


def logits(network, images):
    """Returns the logits of images `(B, H, W, 3)` as a NumPy array."""
    with torch.no_grad():
        return network(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
