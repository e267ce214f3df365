"""Prometheus metrics named ``sightline_*`` in base units, right with any number of worker processes.

With several processes each writes memory-mapped files of its own in one folder, and any of them can answer a scrape
for all. Files are named by the worker's place, not by its process id: a restarted worker goes on counting where the
dead one stopped, and the folder does not grow.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess, values
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.request.request_context import RequestContext
from gateway.torch_gauges import TorchGauges
from services.errors import Kind, Problem

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STAGE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
STAGES = ("decode", "queue", "infer", "encode")

_RESTARTS = "worker_restarts"
_NOT_REJECTED = frozenset({Kind.NOT_FOUND, Kind.CONFLICT, Kind.INTERNAL})
_REASONS = {
    Kind.TOO_MANY: "overload",
    Kind.DEADLINE: "deadline",
    Kind.TOO_LARGE: "too_large",
    Kind.UNAUTHENTICATED: "key",
    Kind.FORBIDDEN: "key",
    Kind.UNAVAILABLE: "unavailable",
    Kind.CANCELLED: "client_left",
    Kind.SLOW: "slow_body",
}


def join_workers(directory: Path, worker: str) -> None:
    """Make this process one of several that share ``directory``. Call it before any :class:`Telemetry` is made."""
    directory.mkdir(parents=True, exist_ok=True)
    if not re.fullmatch(r"[A-Za-z0-9]{1,32}", worker):
        raise ValueError(f"worker {worker!r} must be letters and digits: it names files")
    for stale in directory.glob(f"gauge_live*_{worker}.db"):
        stale.unlink(missing_ok=True)
    # The library takes its folder from the environment only.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]


def clear(directory: Path) -> None:
    """Forget what an earlier run counted: the launcher calls this once, before it starts workers."""
    for pattern in ("*.db", _RESTARTS):
        for stale in directory.glob(pattern):
            stale.unlink(missing_ok=True)


def retire(directory: Path, worker: str) -> None:
    """Forget the gauges of a worker that is gone for good; what it counted stays counted."""
    for stale in directory.glob(f"gauge_live*_{worker}.db"):
        stale.unlink(missing_ok=True)


def count_restart(directory: Path) -> None:
    """Count one restart of a crashed worker; only the launcher writes this."""
    directory.mkdir(parents=True, exist_ok=True)
    path, fresh = directory / _RESTARTS, directory / f".{_RESTARTS}"
    fresh.write_text(str(_restarts(directory) + 1))
    fresh.replace(path)


def _restarts(directory: Path) -> int:
    try:
        return int((directory / _RESTARTS).read_text())
    except (FileNotFoundError, ValueError):
        return 0


class _Restarts(Collector):
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "sightline_worker_restarts", "Gateway workers started again after a crash", value=_restarts(self._directory)
        )


class Telemetry:
    """The metrics of one process. ``directory`` is that of :func:`join_workers`, ``None`` when the process is alone."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "sightline_requests", "Requests answered", ["model", "task", "code"], registry=registry
        )
        self._durations = Histogram(
            "sightline_request_duration_seconds",
            "First byte of the request to last byte of the answer",
            ["model", "task"],
            buckets=SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "sightline_stage_duration_seconds",
            "Time of a request in one stage",
            ["model", "stage"],
            buckets=STAGE_SECONDS,
            registry=registry,
        )
        self._worked = Counter(
            "sightline_task_items",
            "What tasks worked on besides images: labels, tokens of prompts, chunks, proposals, boxes",
            ["model", "item"],
            registry=registry,
        )
        self._rejected = Counter("sightline_rejected", "Requests refused", ["reason"], registry=registry)
        self._blocked = Counter(
            "sightline_fetch_blocked", "Remote images that were not fetched", ["reason"], registry=registry
        )
        self._steps = Counter(
            "sightline_torch_steps", "Steps that runs in the torch worker took", ["model"], registry=registry
        )
        self._inflight = Gauge(
            "sightline_inflight", "Requests being answered", registry=registry, multiprocess_mode="livesum"
        )
        self._batch_size = Histogram(
            "sightline_batch_size", "Rows that ran together", ["model"], buckets=BATCHES, registry=registry
        )
        self.queue_depth = Gauge(
            "sightline_queue_depth",
            "Items waiting for a batch",
            ["model"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.model_ready = Gauge(
            "sightline_model_ready",
            "1 when every worker serves the model's version; NaN when it was unloaded or removed on request",
            ["model", "version"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.inflight_units = Gauge(
            "sightline_inflight_units",
            "Inferences in flight by what they cost: an ordinary request is 1; SIGHTLINE_MAX_INFLIGHT of a worker",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.resident_memory = Gauge(
            "sightline_resident_memory_bytes", "Memory of the workers", registry=registry, multiprocess_mode="livesum"
        )
        self.loop_lag = Gauge(
            "sightline_event_loop_lag_seconds",
            "How late the event loop's last timer was, of the worst worker",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.torch_worker = TorchGauges(registry)
        build = Gauge(
            "sightline_build_info",
            "1, with what runs in the labels",
            ["version", "python", "onnxruntime"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        build.labels(_installed("sightline"), platform.python_version(), _installed("onnxruntime")).set(1)
        self._shared: list[Collector] = []
        # Looking a child up by its labels costs more than counting: each is looked up once.
        self._count: dict[tuple[str, str, int], Callable[[], None]] = {}
        self._observe: dict[tuple[str, str], Callable[[float], None]] = {}
        self._observe_stages: dict[str, tuple[Callable[[float], None], ...]] = {}
        self._batches: dict[str, Callable[[float], None]] = {}

    def include(self, collector: Collector) -> None:
        """Also tell what ``collector`` finds when asked: the same in every worker, so it is told once."""
        self._shared.append(collector)
        self.registry.register(collector)

    def began(self) -> None:
        self._inflight.inc()

    def ended(self, request_context: RequestContext, status: int, elapsed: float) -> None:
        """One request answered with ``status`` after ``elapsed`` seconds."""
        self._inflight.dec()
        labels = model, task = request_context.model or "none", request_context.task or "none"
        count = self._count.get((model, task, status))
        if count is None:
            count = self._requests.labels(model, task, str(status or 499)).inc
            self._count[model, task, status] = count

        count()
        observe = self._observe.get(labels)
        if observe is None:
            observe = self._observe[labels] = self._durations.labels(model, task).observe

        observe(elapsed)
        if request_context.problem is not None:
            self._refused(request_context.problem)
        elif request_context.model:
            each = self._observe_stages.get(model)
            if each is None:
                each = tuple(self._stages.labels(model, stage).observe for stage in STAGES)
                self._observe_stages[model] = each
            stages = request_context.stages
            decode, queue, infer, encode = each
            decode(stages.decode)
            queue(stages.queue)
            infer(stages.infer)
            encode(stages.encode)
            for item, amount in stages.counts.items():
                self._worked.labels(model, item).inc(amount)

    def on_batch(self, model: str, version: str, size: int, queue_seconds: float, infer_seconds: float) -> None:
        """One batch that the runtime ran; see ``services.runtime.served.Observer``."""
        observe = self._batches.get(model)
        if observe is None:
            observe = self._batches[model] = self._batch_size.labels(model).observe
        observe(size)

    def on_rejected(self, model: str, reason: str) -> None:
        """Counted when its problem becomes an answer: one refusal, one count."""

    def on_steps(self, model: str, steps: int) -> None:
        """A run in the torch worker has ended after so many steps."""
        self._steps.labels(model).inc(steps)

    def blocked(self, reason: str) -> None:
        """One remote image that was not fetched."""
        self._blocked.labels(reason).inc()

    def _refused(self, problem: Problem) -> None:
        if problem.kind in _NOT_REJECTED:
            return
        self._rejected.labels(reason(problem)).inc()

    def scrape(self) -> bytes:
        """The metrics of all workers in Prometheus' text form."""
        if self._directory is None:
            return generate_latest(self.registry)

        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, str(self._directory))  # type: ignore[no-untyped-call]
        for collector in (_Restarts(self._directory), *self._shared):
            registry.register(collector)

        for _ in range(2):
            try:
                return generate_latest(registry)
            except (ValueError, RuntimeError, OSError):
                # A sibling was just writing a new series, or its gauges were just removed: look again.
                continue

        return generate_latest(registry)


def reason(problem: Problem) -> str:
    """The label of ``sightline_rejected_total``: few values, whatever the code is."""
    if problem.code == "rate-limited":
        return "quota"
    if problem.code.startswith("image-"):
        return "bad_image"
    return _REASONS.get(problem.kind, "invalid")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
