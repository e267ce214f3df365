"""How long a request spent in each stage; the gateway makes one, services add to it, ``Server-Timing`` shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.runtime.protocol import Inference  # with NumPy, whose threads a worker must not have before it forks


@dataclass(slots=True)
class Stages:
    """Seconds in each stage. Stages of one request that overlap are added up.

    ``counts``: of what a task says it worked on beside images (tokens, proposals), by name, for metrics.
    """

    decode: float = 0.0
    queue: float = 0.0
    infer: float = 0.0
    encode: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, counts: Mapping[str, int]) -> None:
        self.counts.update(counts)

    def ran(self, inference: Inference) -> None:
        self.queue += inference.queue_seconds
        self.infer += inference.infer_seconds

    @contextmanager
    def decoding(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.decode += time.perf_counter() - begin
