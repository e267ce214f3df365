"""Runs a function in several gloo processes, joined by a file instead of a port, and collects what they return."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

Work = Callable[[int], dict[str, Tensor]]


def run_together(work: Work, folder: Path, processes: int = 2) -> list[dict[str, Tensor]]:
    """``work(rank)`` in every process, by rank; ``work`` must be importable."""
    multiprocessing.spawn(_process, (work, folder, processes), nprocs=processes)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(processes)]


def _process(rank: int, work: Work, folder: Path, processes: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=processes)
    try:
        torch.save(work(rank), folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
