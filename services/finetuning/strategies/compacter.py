"""Compacter (arXiv 2106.04647): adapters whose matrices are sums of Kronecker products with one shared, frozen rule."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.encoders import ImageEncoder
from models.kadaptation.deltas import kronecker_sum
from models.kadaptation.reference import BOTTLENECK, COMPACTER_FACTORS
from services.finetuning.strategies.base import Options, Strategy, add_adapters, unsuitable
from services.finetuning.strategies.sites import branches


class PhmLinear(nn.Module):
    """``x @ sum_i kron(rule_i, left_i @ right_i) + b``, ``(..., dim_in)`` to ``(..., dim_out)``."""

    def __init__(self, dim_in: int, dim_out: int, rule: Tensor, *, zero: bool) -> None:
        super().__init__()
        n = len(rule)
        self.rule = (rule,)  # shared and frozen: saved once, by the encoder
        self.left = nn.Parameter(torch.empty(n, dim_in // n, 1))
        self.right = nn.Parameter(torch.empty(n, 1, dim_out // n))
        self.b = nn.Parameter(torch.zeros(dim_out))
        nn.init.xavier_uniform_(self.left)
        if zero:
            nn.init.zeros_(self.right)
        else:
            nn.init.xavier_uniform_(self.right)

    def forward(self, x: Tensor) -> Tensor:
        return x @ kronecker_sum(self.rule[0].to(x.device), self.left @ self.right) + self.b


class Compacter(nn.Module):
    """``(..., C)``, or ``(B, C, H, W)`` with ``channels_first``, to the same; zero at first, as an adapter is."""

    def __init__(self, width: int, inner: int, rule: Tensor, channels_first: bool) -> None:
        super().__init__()
        self.channels_first = channels_first
        self.norm = nn.LayerNorm(width)
        self.down = PhmLinear(width, inner, rule, zero=False)
        self.up = PhmLinear(inner, width, rule, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1) if self.channels_first else x
        y = self.up(nn.functional.gelu(self.down(self.norm(y)), approximate="tanh"))
        out: Tensor = x + (y.permute(0, 3, 1, 2) if self.channels_first else y)
        return out


def _apply(encoder: ImageEncoder, options: Options) -> None:
    n, inner = int(options["factors"]), int(options["width"])
    uneven = sorted(
        {branch.width for branch in branches(encoder.network) if branch.width % n} | {inner} - {inner // n * n}
    )
    if uneven:
        remedy = "Choose another number of factors or another width."
        raise unsuitable("compacter", encoder, f"widths {uneven} are no multiples of {n} factors", remedy)
    generator = torch.Generator().manual_seed(0)  # frozen, so the same for everybody: an adapter file needs no copy
    rule = 0.1 * torch.randn(n, n, n, generator=generator, device="cpu")
    add_adapters("compacter", encoder, lambda width, first: Compacter(width, inner, rule, first))


STRATEGY = Strategy(
    "Bottlenecks made of Kronecker products",
    _apply,
    options={"width": BOTTLENECK, "factors": COMPACTER_FACTORS},
)
