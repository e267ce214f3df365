"""Stochastic depth, shared by the backbones: during training a residual branch is skipped for whole samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zeroes a branch with probability ``rate`` a sample, rescaling the rest (arXiv 1603.09382); identity in eval."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """``(B, ...)`` to ``(B, ...)``."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (kept / keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


def linear_rates(rate: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Rates that grow linearly from 0 to ``rate`` over all blocks, cut into stages."""
    rates = torch.linspace(0.0, rate, sum(depths), device="cpu").tolist()
    stages, start = [], 0
    for depth in depths:
        stages.append(rates[start : start + depth])
        start += depth
    return stages
