"""Once a second: what no single request knows (queues, models, memory, the loop's lag) into the metrics."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.request.admission import Admission
from gateway.telemetry import Telemetry
from services.runtime.protocol import NOT_WANTED, UNLOADED, Backend, ModelStatus

PERIOD = 1.0

_log = logging.getLogger("sightline.gateway")
_PAGE = os.sysconf("SC_PAGE_SIZE")


async def run(backend: Backend, telemetry: Telemetry, admission: Admission) -> None:
    """Sample until cancelled."""
    sampler = Sampler(backend, telemetry)
    while True:
        try:
            telemetry.inflight_units.set(admission.units)
            sampler.sample()
        except Exception:  # whatever a backend raises: the next look may be better, and nobody else would look
            _log.exception("Metrics were not sampled")
        due = time.perf_counter() + PERIOD
        await asyncio.sleep(PERIOD)
        telemetry.loop_lag.set(max(0.0, time.perf_counter() - due))


class Sampler:
    """Looks at the backend; a model that was to be served and is not, or not any more, is not ready.

    One that was unloaded on request, or is gone from the repository since, is neither ready nor not: an alert on
    models that are not ready must not tell of it. (What is served stays so when its folder is lost.)
    """

    def __init__(self, backend: Backend, telemetry: Telemetry) -> None:
        self._backend = backend
        self._telemetry = telemetry
        self._seen: set[tuple[str, str]] = set()

    def sample(self) -> None:
        telemetry = self._telemetry
        telemetry.resident_memory.set(_resident())
        telemetry.torch_worker.tell(self._backend.torch_worker)
        index = self._backend.index()
        ready = {(status.name, status.version) for status in index if status.state == "READY"}
        wanted = {(status.name, status.version) for status in index if status.reason != UNLOADED}
        depths = dict.fromkeys((name for name, _ in self._seen | ready), 0)
        for name, version in ready:
            depths[name] += self._backend.statistics(name, version).pending

        for name, depth in depths.items():
            telemetry.queue_depth.labels(name).set(depth)

        self._seen |= ready | _failed(index, {name for name, _ in ready})
        for name, version in self._seen:
            told = (name, version) in ready if (name, version) in wanted else math.nan
            telemetry.model_ready.labels(name, version).set(told)


def _failed(index: Sequence[ModelStatus], served: set[str]) -> set[tuple[str, str]]:
    """Versions of models that were to be served, and of which none is."""
    return {
        (status.name, status.version)
        for status in index
        if status.state == "UNAVAILABLE"
        and status.name not in served
        and status.reason
        and status.reason not in (UNLOADED, NOT_WANTED)
    }


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
