"""What the watchdog tells Prometheus."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge


class Watched:
    """The state of one server and of its models. ``region`` is how its shared memory is named."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.registry = registry = CollectorRegistry()
        self._up = Gauge("sightline_triton_up", "1 when the server answers", registry=registry)
        self._restarts = Counter(
            "sightline_triton_restarts", "Times that the server was started again", registry=registry
        )
        self._repairs = Counter(
            "sightline_triton_repairs",
            "Times that a dead model was taken out and loaded anew",
            ["model"],
            registry=registry,
        )
        self._ready = Gauge(
            "sightline_model_ready",
            "1 when the version answers inferences; NaN when it was unloaded on request",
            ["model", "version"],
            registry=registry,
        )
        self._models: dict[tuple[str, str], float] = {}

    def up(self) -> None:
        self._up.set(1)

    def down(self) -> None:
        """The server does not answer, so none of its models does; those that nobody wants are not missed."""
        self._up.set(0)
        for (model, version), value in self._models.items():
            if not math.isnan(value):
                self.model(model, version, 0.0)

    def restarted(self) -> None:
        self._restarts.inc()

    def repaired(self, model: str) -> None:
        self._repairs.labels(model).inc()

    def model(self, model: str, version: str, value: float) -> None:
        self._models[model, version] = value
        self._repairs.labels(model)  # told from the start: the first repair is an increase, too
        self._ready.labels(model, version).set(value)

    def keep_only(self, there: set[tuple[str, str]]) -> None:
        """Forget what the server no longer knows."""
        for key in [key for key in self._models if key not in there]:
            del self._models[key]
            self._ready.remove(*key)
