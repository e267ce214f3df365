"""The torch worker in the metrics: every gateway process tells what the worker said to it last."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Gauge

from services.runtime.protocol import WorkerStatus


class TorchGauges:
    """``sightline_torch_worker_*`` in ``registry``: of the worst process whether it is up, of any how it is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._up = Gauge(
            "sightline_torch_worker_up",
            "1 when every gateway process is connected to the torch worker; NaN while no model needs it",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._start_time = Gauge(
            "sightline_torch_worker_start_time_seconds",
            "When the torch worker started, in Unix time; 0 before the first",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._memory = Gauge(
            "sightline_torch_worker_resident_memory_bytes",
            "Memory of the torch worker",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._memory_limit = Gauge(
            "sightline_torch_worker_memory_limit_bytes",
            "What the torch worker may take; 0 is unlimited",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._runs = Gauge(
            "sightline_torch_worker_runs",
            "Runs in the torch worker, of all gateways",
            ["state"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.tell(None)

    def tell(self, status: WorkerStatus | None) -> None:
        """How the worker is now; ``None`` while no model needs it. One that is away has no memory and no runs."""
        self._up.set(math.nan if status is None else status.up)
        told = status or WorkerStatus(up=False)
        if told.started:  # else it stays when the last one did: only a new one is a change
            self._start_time.set(told.started)
        self._memory.set(told.resident)
        self._memory_limit.set(told.memory_limit)
        self._runs.labels("running").set(told.running)
        self._runs.labels("waiting").set(told.waiting)
