"""What the authors' code computes, as a PyTorch module, channels first.

Written from the formulas: the MLP takes each pool by itself, the maps
are stacked [max; mean], and the spatial gate normalizes.
"""

import torch
from torch import nn
from torch.nn import functional


class ChannelGate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        hidden = channels // 16
        self.mlp = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels),
        )

    def forward(self, x):
        size = x.shape[2:]
        logits = self.mlp(functional.avg_pool2d(x, size))
        logits = logits + self.mlp(functional.max_pool2d(x, size))
        return x * torch.sigmoid(logits)[:, :, None, None].expand_as(x)


class SpatialGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        # PyTorch's momentum is one minus that of Keras.
        self.bn = nn.BatchNorm2d(1, eps=1e-5, momentum=0.01)

    def forward(self, x):
        maps = (x.amax(1, keepdim=True), x.mean(1, keepdim=True))
        return x * torch.sigmoid(self.bn(self.conv(torch.cat(maps, dim=1))))


class AuthorsCBAM(nn.Sequential):
    """Weighs channels, then positions, of a tensor `(B, C, H, W)`.

    The same as `CBAM(**VARIANTS["official"])` where 16 divides `C`, as
    `test_the_authors_module_computes_our_official_variant` shows.
    """

    def __init__(self, channels):
        super().__init__()
        self.channel_gate = ChannelGate(channels)
        self.spatial_gate = SpatialGate()
