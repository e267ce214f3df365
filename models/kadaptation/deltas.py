"""Low-rank and Kronecker updates: what KAdaptation, LoRA and Compacter add to a linear map.

Reference: ``vision_benchmark/evaluation/model.py`` of eric-ai-lab/PEViT, and section 3 of arXiv 2203.16329.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KRONECKER_FACTORS = 32
"""How many Kronecker products are summed, and the side of the shared ("slow") factors."""

KADAPTATION_SCALE = 128 / 4 * 5
LORA_RANK = 4
LORA_SCALE = 128 / LORA_RANK


def kronecker_sum(slow: Tensor, fast: Tensor) -> Tensor:
    """``sum_i kron(slow[i], fast[i])``: ``(n, a, a)`` and ``(n, b, c)`` to ``(a * b, a * c)``."""
    _, a, _ = slow.shape
    _, b, c = fast.shape
    return torch.einsum("iac,ibd->abcd", slow, fast).reshape(a * b, a * c)


REACH = 0.1
"""Of an update's derivative at the start, before the scale: times 160 it is LoRA's, so that one learning rate fits
both. The released code starts its factors at 0.01, which makes updates of 1e-5 that no learning rate of the search
brings to life."""


class SlowFactors(nn.Module):
    """The factors that all layers share: ``A_i = left_i @ right_i``, ``(n, n, n)``, each of rank 1."""

    def __init__(self, factors: int = KRONECKER_FACTORS) -> None:
        super().__init__()
        spread = (REACH / factors**2) ** 0.25  # so that an A_i has the length sqrt(REACH)
        self.left = nn.Parameter(spread * torch.randn(factors, factors, 1))
        self.right = nn.Parameter(spread * torch.randn(factors, 1, factors))

    def forward(self) -> Tensor:
        return self.left @ self.right


class KroneckerDelta(nn.Module):
    """The update ``sum_i A_i (x) B_i`` of a weight ``(rows, columns)``, with own ``B_i`` of rank 1.

    The corrected form: ``right`` starts at random and ``left`` at zero, so that the update is zero at first and yet
    has a gradient. (The released code starts both at zero, where neither ever moves.)
    """

    def __init__(self, rows: int, columns: int, slow: SlowFactors, scale: float = KADAPTATION_SCALE) -> None:
        super().__init__()
        n = slow.left.shape[0]
        if rows % n or columns % n:
            raise ValueError(f"a weight of {rows} x {columns} cannot be cut into {n} Kronecker factors")
        self.scale = scale
        self.left = nn.Parameter(torch.zeros(n, rows // n, 1))
        self.right = nn.Parameter((REACH * n / columns) ** 0.5 * torch.randn(n, 1, columns // n))
        self.slow = (slow,)  # in a tuple: shared factors belong to the encoder and are counted and saved once

    def weight(self) -> Tensor:
        """The update of ``nn.Linear``'s weight, ``(rows, columns)``."""
        return self.scale * kronecker_sum(self.slow[0](), self.left @ self.right)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight().T


class LowRankDelta(nn.Module):
    """LoRA (arXiv 2106.09685): ``up(down(x)) * scale``; ``up`` starts at zero."""

    def __init__(self, dim_in: int, dim_out: int, rank: int = LORA_RANK, scale: float = LORA_SCALE) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(dim_in, rank, bias=False)
        self.up = nn.Linear(rank, dim_out, bias=False)
        nn.init.zeros_(self.up.weight)

    def weight(self) -> Tensor:
        """The update of ``nn.Linear``'s weight, ``(dim_out, dim_in)``."""
        return self.scale * (self.up.weight @ self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        update: Tensor = self.scale * self.up(self.down(x))
        return update
