"""Dynamic head blocks (arXiv 2106.08322) as GLIP has them: levels mixed by deformable convolutions, then DYReLU.

Reference: ``DyConv`` in ``maskrcnn_benchmark/modeling/rpn/vldyhead.py`` and ``DYReLU`` (arXiv 2003.10027) of
microsoft/GLIP, whose names the parameters bear.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.glip.deform import TAPS, deform_conv, flat_view


def hard_sigmoid(x: Tensor) -> Tensor:
    """``relu6(x + 3) / 6``."""
    return F.relu6(x + 3) / 6


class DynamicRelu(nn.Module):
    """The larger of two lines whose slopes and offsets, one pair a channel, come from the mean of the map."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        narrow = channels // reduction
        self.fc = nn.Sequential(nn.Linear(channels, narrow), nn.ReLU(), nn.Linear(narrow, 4 * channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        shape = hard_sigmoid(self.fc(x.mean(dim=(2, 3)))) - 0.5
        slope, offset, second_slope, second_offset = shape[:, :, None, None].chunk(4, dim=1)
        return torch.maximum(x * (2 * slope + 1) + offset, x * (2 * second_slope) + second_offset)


class DeformBranch(nn.Module):
    """One modulated deformable convolution and its group norm."""

    def __init__(self, channels: int, groups: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, channels, 3)  # holds the weights; never called
        self.bn = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, h, w)``, the size of ``offset (B, 18, h, w)`` and ``mask (B, 9, h, w)``."""
        bias = self.conv.bias
        assert bias is not None
        out: Tensor = self.bn(deform_conv(x, offset, mask, self.conv.weight, bias, self.stride))
        return out


class DyConv(nn.Module):
    """Every level from itself, the finer and the coarser one beside it, each weighted by one number.

    All three convolutions of a level read where the level's own offsets say; for the coarser level these are walked
    as :func:`models.glip.deform.flat_view` says.
    """

    def __init__(self, channels: int, groups: int = 16, reduction: int = 4) -> None:
        super().__init__()
        self.DyConv = nn.ModuleList(DeformBranch(channels, groups, stride) for stride in (1, 1, 2))
        self.AttnConv = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 1, 1), nn.ReLU())
        self.relu = DynamicRelu(channels, reduction)
        self.offset = nn.Conv2d(channels, 3 * TAPS, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        for branch in self.DyConv:
            nn.init.normal_(branch.get_parameter("conv.weight"), std=0.01)
            nn.init.zeros_(branch.get_parameter("conv.bias"))
        nn.init.normal_(self.AttnConv.get_parameter("1.weight"), std=0.01)
        nn.init.zeros_(self.AttnConv.get_parameter("1.bias"))
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """``(B, C, h, w)`` a level, finest first, to the same."""
        return [self.relu(self._mixed(levels, level)) for level in range(len(levels))]

    def _mixed(self, levels: Sequence[Tensor], level: int) -> Tensor:
        from_coarser, same, from_finer = self.DyConv
        x = levels[level]
        where = self.offset(x)
        offset, mask = where[:, : 2 * TAPS], where[:, 2 * TAPS :].sigmoid()

        branches = [same(x, offset, mask)]
        if level > 0:
            branches.append(from_finer(levels[level - 1], offset, mask))
        if level + 1 < len(levels):
            coarser = levels[level + 1]
            height, width = coarser.shape[2:]
            small = from_coarser(coarser, flat_view(offset, height, width), flat_view(mask, height, width))
            branches.append(F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=True))

        total = sum(branch * hard_sigmoid(self.AttnConv(branch)) for branch in branches)
        assert isinstance(total, Tensor)
        return total / len(branches)
