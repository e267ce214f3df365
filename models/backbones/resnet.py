"""ResNet with bottlenecks (arXiv 1512.03385, stride in the 3 x 3 convolution), an image tower of the UniCL paper.

Parameter names are torchvision's, the names under which ResNet weights are published.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

EXPANSION = 4


@dataclass(frozen=True, slots=True)
class ResNetConfig:
    """One ResNet; the default is ResNet-50."""

    depths: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    in_channels: int = 3
    num_classes: int = 1000


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 with a shortcut that is projected where the shape changes."""

    def __init__(self, in_dim: int, width: int, stride: int) -> None:
        super().__init__()
        out_dim = width * EXPANSION
        self.conv1 = nn.Conv2d(in_dim, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_dim, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_dim)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_dim, out_dim, 1, stride=stride, bias=False), nn.BatchNorm2d(out_dim))
            if stride != 1 or in_dim != out_dim
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, 4 * width, H / stride, W / stride)``."""
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return F.relu(branch + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The classifier; with ``num_classes`` 0 an image tower, whose ``pooled`` features a projection may take."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv2d(config.in_channels, config.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.width)
        in_dim = config.width
        for stage, depth in enumerate(config.depths):
            width = config.width * 2**stage
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(in_dim, width, stride=2 if stage > 0 and block == 0 else 1))
                in_dim = width * EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

        self.dim_out = in_dim
        self.fc = nn.Linear(in_dim, config.num_classes) if config.num_classes else None
        self.apply(_initialise)

    def stages(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to one ``(B, C, h, w)`` a stage, strides 4 to 32."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        outputs = []
        for stage in range(len(self.config.depths)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            outputs.append(x)
        return outputs

    def pooled(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to the mean of the last map, ``(B, C)``."""
        return self.stages(images)[-1].mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to logits ``(B, num_classes)``; raises ``RuntimeError`` on a network without a head."""
        if self.fc is None:
            raise RuntimeError("this ResNet was built with num_classes=0 and has no head")
        return self.fc(self.pooled(images))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
