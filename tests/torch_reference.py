"""Networks in PyTorch, references for converted weights.

Written from the papers (He et al., 2016; Xie et al., 2017; Woo et al., 2018),
with the names of torchvision's modules, and the gates with those of
luuuyi/CBAM.PyTorch; and the gate of Oktay et al., 2018.
"""

import collections

import torch
from torch import nn


def conv_bn(inputs, outputs, kernel, stride=1, groups=1):
    options = {"padding": kernel // 2, "groups": groups, "bias": False}
    conv = nn.Conv2d(inputs, outputs, kernel, stride, **options)
    norm = nn.BatchNorm2d(outputs)
    # The values are as if after training.
    for tensor in (norm.weight, norm.running_var):
        tensor.data.uniform_(0.5, 1.5)
    for tensor in (norm.bias, norm.running_mean):
        tensor.data.uniform_(-0.3, 0.3)
    return conv, norm


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        # Four groups of half of the width.
        inner, outputs = 2 * width, 4 * width
        self.conv1, self.bn1 = conv_bn(inputs, inner, 1)
        self.conv2, self.bn2 = conv_bn(inner, inner, 3, stride, 4)
        self.conv3, self.bn3 = conv_bn(inner, outputs, 1)
        shortcut = conv_bn(inputs, outputs, 1, stride)
        self.downsample = nn.Sequential(*shortcut if inputs != outputs else ())

    def forward(self, x):
        branch = torch.relu(self.bn1(self.conv1(x)))
        branch = torch.relu(self.bn2(self.conv2(branch)))
        return torch.relu(self.bn3(self.conv3(branch)) + self.downsample(x))


class ResNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.bn1 = conv_bn(3, 8, 7, 2)
        self.layer1 = nn.Sequential(Bottleneck(8, 16, 1))
        self.layer2 = nn.Sequential(
            Bottleneck(64, 32, 2), Bottleneck(128, 32, 1)
        )
        self.fc = nn.Linear(128, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class ChannelGate(nn.Module):
    def __init__(self, channels, sequential=False):
        super().__init__()
        hidden = channels // 16
        first = nn.Conv2d(channels, hidden, 1, bias=False)
        second = nn.Conv2d(hidden, channels, 1, bias=False)
        if sequential:
            self.fc = nn.Sequential(first, nn.ReLU(), second)
        else:
            self.fc1, self.fc2 = first, second
        self.mlp = lambda x: second(torch.relu(first(x)))

    def forward(self, x):
        pooled = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return x * torch.sigmoid(sum(map(self.mlp, pooled)))


class SpatialGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        maps = torch.stack([x.mean(1), x.amax(1)], 1)
        return x * torch.sigmoid(self.conv1(maps))


def gated(channels, sequential=False):
    gates = {"ca": ChannelGate(channels, sequential), "sa": SpatialGate()}
    return nn.Sequential(collections.OrderedDict(gates))


def attention_gate(layer, gating, skip, upstream):
    """Returns what a gate gives, and gradients, as one vector for each mode.

    In float64, with the weights of a layer of ours, and in its order of axes.
    """
    rank = gating.ndim - 2
    conv = getattr(nn.functional, f"conv{rank}d")

    def resize(x, like):
        mode = ("linear", "bilinear", "trilinear")[rank - 1]
        return nn.functional.interpolate(x, like.shape[2:], mode=mode)

    def moved(x, *axes):
        x = torch.as_tensor(x).detach().double()
        # A dense layer is a convolution.
        x = x[(None,) * rank] if x.ndim == 2 else x
        return (x.movedim(*axes) if x.ndim > 1 else x).requires_grad_()

    gating, skip, upstream = (moved(x, -1, 1) for x in (gating, skip, upstream))
    weights = [moved(x, (-1, -2), (0, 1)) for x in layer.get_weights()]
    theta, phi, a, psi, b, project, c, gamma, beta, *state = weights
    vectors = {}
    for mode in ("test", "train"):
        down = conv(skip, theta, stride=2)
        hidden = torch.relu(down + resize(conv(gating, phi, a), down))
        gate = resize(torch.sigmoid(conv(hidden, psi, b)), skip)
        y, is_train = conv(skip * gate, project, c), mode == "train"
        moments = [x.detach().clone() for x in state]
        y = nn.functional.batch_norm(y, *moments, gamma, beta, is_train)
        wanted = [gating, skip, *weights[:-2]]
        gradients = torch.autograd.grad((y * upstream).sum(), wanted)
        arrays = [moved(x, 1, -1) for x in (y, gate, *gradients[:2])]
        arrays += [moved(x, (0, 1), (-1, -2)) for x in gradients[2:]]
        flat = torch.cat([x.detach().flatten() for x in arrays])
        vectors[mode] = flat.float().numpy()
    return vectors
