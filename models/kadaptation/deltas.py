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


class SlowFactors(nn.Module):
    """The factors that all layers share: ``A_i = left_i @ right_i``, ``(32, 32, 32)``, each of rank 1."""

    def __init__(self, factors: int = KRONECKER_FACTORS, spread: float = 0.01) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.empty(factors, factors, 1).uniform_(-spread, spread))
        self.right = nn.Parameter(torch.empty(factors, 1, factors).uniform_(-spread, spread))

    def forward(self) -> Tensor:
        return self.left @ self.right


class KroneckerDelta(nn.Module):
    """One layer's update ``H = sum_i A_i (x) B_i`` of a square map of width ``dim``, with own rank-1 ``B_i``.

    The corrected form: ``right`` starts at random and ``left`` at zero, so that the update is zero at first and yet
    has a gradient. (The released code starts both at zero, where neither ever moves.)
    """

    def __init__(self, dim: int, slow: SlowFactors, scale: float = KADAPTATION_SCALE, dropout: float = 0.0) -> None:
        super().__init__()
        factors = slow.left.shape[0]
        if dim % factors:
            raise ValueError(f"width {dim} is not a multiple of the {factors} Kronecker factors")
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.left = nn.Parameter(torch.zeros(factors, dim // factors, 1))
        self.right = nn.Parameter(torch.empty(factors, 1, dim // factors).uniform_(-0.01, 0.01))
        self.slow = (slow,)  # in a tuple: shared factors belong to the encoder and are counted and saved once

    def weight(self) -> Tensor:
        """The update of ``nn.Linear``'s weight, ``(dim, dim)``: the transpose of ``H``, scaled."""
        return self.scale * kronecker_sum(self.slow[0](), self.left @ self.right).T

    def forward(self, x: Tensor) -> Tensor:
        update = self.scale * (x @ self.dropout(kronecker_sum(self.slow[0](), self.left @ self.right)))
        return update


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
