"""Parameters and arithmetic of a network, counted on the meta device: no weights, no time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, slots=True)
class Size:
    """``macs`` are the multiply-accumulates of one sample in matrix products and convolutions, nothing else."""

    parameters: int
    macs: int


def measure(
    build: Callable[[], nn.Module], shape: tuple[int, ...], dtype: torch.dtype = torch.float32, method: str = "forward"
) -> Size:
    """The size of ``build()``, and what its ``method`` does with one input of ``shape`` (batch 1)."""
    with torch.device("meta"):
        network = build().to("meta").eval()
        sample = torch.zeros(shape, dtype=dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        getattr(network, method)(sample)
    return Size(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2)
