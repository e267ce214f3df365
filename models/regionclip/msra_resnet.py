"""ResNet with bottlenecks as Microsoft first published it and detectron2 names it, with or without a pyramid.

The stride is in the first 1 x 1 convolution (arXiv 1512.03385), norms are frozen; FPN is arXiv 1612.03144 with a
max-pooled sixth level. :class:`models.backbones.resnet.ResNet` has the stride elsewhere and other names.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.frozen_norm import FrozenBatchNorm2d

EXPANSION = 4


class NormedConv(nn.Conv2d):
    """A convolution without bias and the norm after it, whose name is below the convolution's."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_dim, out_dim, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = FrozenBatchNorm2d(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 with a shortcut that is projected where the shape changes."""

    def __init__(self, in_dim: int, width: int, stride: int) -> None:
        super().__init__()
        out_dim = width * EXPANSION
        self.shortcut = NormedConv(in_dim, out_dim, 1, stride) if stride > 1 or in_dim != out_dim else None
        self.conv1 = NormedConv(in_dim, width, 1, stride)
        self.conv2 = NormedConv(width, width, 3)
        self.conv3 = NormedConv(width, out_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, 4 * width, H / stride, W / stride)``."""
        branch = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(branch + (x if self.shortcut is None else self.shortcut(x)))


class Stem(nn.Module):
    """7 x 7 with stride 2, then the largest of 3 x 3 with stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = NormedConv(3, width, 7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.conv1(x)), 3, stride=2, padding=1)


class ResNet(nn.Module):
    """As many stages as ``depths`` has; the last map is at stride ``2 ** (len(depths) + 1)``."""

    def __init__(self, depths: Sequence[int], width: int) -> None:
        super().__init__()
        self.stem = Stem(width)
        self.stages = len(depths)
        in_dim = width
        for stage, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(in_dim, width * 2**stage, 2 if stage > 0 and block == 0 else 1))
                in_dim = width * 2**stage * EXPANSION
            self.add_module(f"res{stage + 2}", nn.Sequential(*blocks))

    def every(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to the map of each stage."""
        x = self.stem(images)
        maps = []
        for stage in range(self.stages):
            x = self.get_submodule(f"res{stage + 2}")(x)
            maps.append(x)
        return maps

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to the last map alone."""
        return self.every(images)[-1:]


class ResNetFPN(nn.Module):
    """A map a stage and one more, all of one width: strides 4 to 64 where there are four stages.

    ``normed``: its convolutions have a norm and no bias.
    """

    def __init__(self, depths: Sequence[int], width: int, pyramid: int, *, normed: bool) -> None:
        super().__init__()
        self.bottom_up = ResNet(depths, width)
        self.levels = range(2, len(depths) + 2)
        for level in self.levels:
            in_dim = width * 2 ** (level - 2) * EXPANSION
            self.add_module(f"fpn_lateral{level}", _pyramid_conv(in_dim, pyramid, 1, normed))
            self.add_module(f"fpn_output{level}", _pyramid_conv(pyramid, pyramid, 3, normed))

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)``, sides multiples of the last stage's stride, to maps from fine to coarse."""
        above: Tensor | None = None
        maps: list[Tensor] = []
        for level, x in zip(reversed(self.levels), reversed(self.bottom_up.every(images)), strict=True):
            lateral = self.get_submodule(f"fpn_lateral{level}")(x)
            above = lateral if above is None else lateral + F.interpolate(above, scale_factor=2.0, mode="nearest")
            maps.insert(0, self.get_submodule(f"fpn_output{level}")(above))
        return [*maps, F.max_pool2d(maps[-1], 1, stride=2)]


def last_width(depths: Sequence[int], width: int) -> int:
    """Channels of the last map of a :class:`ResNet`."""
    return width * 2 ** (len(depths) - 1) * EXPANSION


def _pyramid_conv(in_dim: int, out_dim: int, kernel: int, normed: bool) -> nn.Module:
    return NormedConv(in_dim, out_dim, kernel) if normed else nn.Conv2d(in_dim, out_dim, kernel, padding=kernel // 2)
