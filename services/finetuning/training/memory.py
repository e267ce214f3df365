"""Training on with half the batch where memory does not hold the whole."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from services.errors import Kind, Problem

T = TypeVar("T")

SMALLEST = 2
"""A batch norm needs two rows."""

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an accelerator or the machine had no more memory to give."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def halving(work: Callable[[], T], batch_size: int, smaller: Callable[[int], None], log: Callable[[str], None]) -> T:
    """The result of ``work``, done again with half the batch as often as memory runs out; ``smaller`` gets each size.

    Raises ``out-of-memory`` when a batch of two is too large.
    """
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if batch_size <= SMALLEST:
                raise Problem(
                    Kind.INVALID,
                    "out-of-memory",
                    "The training does not fit into memory",
                    f"Not even a batch of {batch_size} pictures does.",
                    pointer="/parameters/method",
                    remedy="Choose linear_probe, a smaller encoder, or a machine with more memory.",
                ) from error

        # Out of the except block, so that the traceback no longer holds the tensors of the failed batch.
        batch_size = max(SMALLEST, batch_size // 2)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

        log(f"memory ran out: going on with a batch of {batch_size}")
        smaller(batch_size)
