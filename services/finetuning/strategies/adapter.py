"""Adapters (arXiv 1902.00751): a bottleneck behind every MLP, norm first and a shortcut around it.

``m`` becomes ``m + up(relu(down(norm(m))))``. The last layer starts at zero, so that training begins at the encoder.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.encoders import ImageEncoder
from services.finetuning.strategies.base import Options, Strategy, add_adapters

WIDTH = 64


class Adapter(nn.Module):
    """``(..., C)``, or ``(B, C, H, W)`` with ``channels_first``, to the same."""

    def __init__(self, width: int, inner: int, channels_first: bool) -> None:
        super().__init__()
        self.channels_first = channels_first
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, inner)
        self.up = nn.Linear(inner, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1) if self.channels_first else x
        y = self.up(nn.functional.relu(self.down(self.norm(y))))
        out: Tensor = x + (y.permute(0, 3, 1, 2) if self.channels_first else y)
        return out


def _apply(encoder: ImageEncoder, options: Options) -> None:
    add_adapters("adapter", encoder, lambda width, first: Adapter(width, int(options["width"]), first))


STRATEGY = Strategy("Bottlenecks behind every MLP", _apply, options={"width": WIDTH})
