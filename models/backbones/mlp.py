"""The MLP of a transformer-like block and CLIP's activation, shared by the backbones and the text towers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Two linear layers with (exact) GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., dim)`` to the same."""
        return self.fc2(F.gelu(self.fc1(x)))


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, OpenAI's approximation: not interchangeable with GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)
