"""The feature pyramid (arXiv 1612.03144, with two more levels as in arXiv 1708.02002) under GLIP's names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

FIRST = 2
"""The trunk's map that level P3 is made of, as the names count."""


class Top(nn.Module):
    """P6 from P5, P7 from P6, by convolutions of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, C, h, w)`` to two levels."""
        p6 = self.p6(x)
        return [p6, self.p7(F.relu(p6))]


class FeaturePyramid(nn.Module):
    """Maps of strides 8, 16 and 32 (or more of them) to levels of one width, two coarser ones at the end."""

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.numbers = range(FIRST, FIRST + len(in_channels))
        for number, width in zip(self.numbers, in_channels, strict=True):
            self.add_module(f"fpn_inner{number}", nn.Conv2d(width, channels, 1))
            self.add_module(f"fpn_layer{number}", nn.Conv2d(channels, channels, 3, padding=1))
        self.top_blocks = Top(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``(B, C_i, h, w)`` each, finest first, to ``(B, C, h, w)`` each and two more."""
        levels: list[Tensor] = []
        above: Tensor | None = None
        for number, x in zip(reversed(self.numbers), reversed(maps), strict=True):
            inner = self.get_submodule(f"fpn_inner{number}")(x)
            above = inner if above is None else inner + F.interpolate(above, size=inner.shape[2:], mode="nearest")
            levels.insert(0, self.get_submodule(f"fpn_layer{number}")(above))
        coarser: list[Tensor] = self.top_blocks(levels[-1])
        return levels + coarser
