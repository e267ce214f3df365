"""Traces for OpenTelemetry: a span for each request, its stages below it, the jobs that it began below those.

Off unless ``settings.otlp_endpoint`` is set: then nothing of OpenTelemetry is imported, and nothing is noted. Where a
trace goes on, in a job or another server, it is named by the text of W3C's ``traceparent`` header.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from services.errors import Kind, Problem
from services.settings import Settings
from services.stages import Stages

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from services.runtime.protocol import Inference  # with NumPy, whose threads a worker must not have before it forks

Attributes = Mapping[str, str | int | float | bool]

_EXPORT_SECONDS = 2.0
"""How long an export may take: a collector that is away costs no more than this when a process ends."""

_DELAY_MILLISECONDS = 1000


class Tracing:
    """Sends the spans of one process. Make one with :func:`start`, after a fork, never before."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("sightline")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, traceparent: str, kind: Literal["server", "consumer"]) -> Trace:
        """A span that begins now, in the trace that ``traceparent`` names or in one of its own."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        parent = self._propagator.extract({"traceparent": traceparent}) if traceparent else None
        span_kind = SpanKind.SERVER if kind == "server" else SpanKind.CONSUMER
        span = self._tracer.start_span(kind, parent, kind=span_kind)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return Trace(self, span, carrier["traceparent"])

    def below(self, span: Span, stages: TimedStages) -> None:
        """Add the stages of ``span`` as its children."""
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(span)
        for name, began, ended, attributes in stages.noted:
            self._tracer.start_span(name, context, attributes=attributes, start_time=began).end(ended)

    def close(self) -> None:
        """Send what is left; takes a few seconds at most."""
        self._provider.shutdown()


class Trace:
    """One span that goes on. ``traceparent`` names it to whoever is handed a part of the work."""

    def __init__(self, tracing: Tracing, span: Span, traceparent: str) -> None:
        self._tracing = tracing
        self._span = span
        self.traceparent = traceparent
        self.stages: Stages = TimedStages() if span.is_recording() else Stages()

    def end(self, name: str, attributes: Attributes, *, failed: bool = False) -> None:
        """The work is done."""
        from opentelemetry.trace import StatusCode

        span = self._span
        if not span.is_recording():
            return
        span.update_name(name)
        span.set_attributes(dict(attributes))
        if failed:
            span.set_status(StatusCode.ERROR)
        if isinstance(self.stages, TimedStages):
            self._tracing.below(span, self.stages)
        span.end()


class TimedStages(Stages):
    """Stages that also note when each part of them was: a stage may be entered several times."""

    __slots__ = ("noted",)
    noted: list[tuple[str, int, int, Attributes]]
    """Stage, begin and end in nanoseconds of Unix time, and what else there is to tell."""

    def __init__(self) -> None:
        object.__setattr__(self, "noted", [])
        super().__init__()

    def __setattr__(self, stage: str, total: float | dict[str, int]) -> None:
        """Stages are told as growing sums, when a part of one has just ended."""
        if isinstance(total, dict):  # what was counted is no stage
            object.__setattr__(self, stage, total)
            return
        added = total - getattr(self, stage, 0.0)
        object.__setattr__(self, stage, total)
        if added > 0:
            now = time.time_ns()
            self.noted.append((stage, now - round(added * 1e9), now, {}))

    def ran(self, inference: Inference) -> None:
        """It has just ended: it waited first and ran then."""
        now = time.time_ns()
        began = now - round(inference.infer_seconds * 1e9)
        told: Attributes = {"sightline.batch_size": inference.batch_size, "sightline.version": inference.version}
        object.__setattr__(self, "queue", self.queue + inference.queue_seconds)
        object.__setattr__(self, "infer", self.infer + inference.infer_seconds)
        self.noted.append(("queue", began - round(inference.queue_seconds * 1e9), began, {}))
        self.noted.append(("infer", began, now, told))


def start(settings: Settings, service: str) -> Tracing | None:
    """Tracing for a process that is ``service``; ``None`` when it is off. Raises ``tracing-missing``."""
    if settings.otlp_endpoint is None:
        return None

    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise Problem(
            Kind.UNAVAILABLE,
            "tracing-missing",
            "Traces cannot be sent",
            f"SIGHTLINE_OTLP_ENDPOINT is set, and OpenTelemetry is not installed: {error.name}.",
            remedy="pip install 'sightline[otel]', or unset SIGHTLINE_OTLP_ENDPOINT.",
        ) from error

    # A collector that is away would fill the log with every batch that is lost.
    logging.getLogger("opentelemetry").setLevel("ERROR")
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_ratio)),
        resource=Resource.create({"service.name": service, "service.version": version("sightline")}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_DELAY_MILLISECONDS))
    return Tracing(provider)


@contextmanager
def job(tracing: Tracing | None, traceparent: str | None, name: str, attributes: Attributes) -> Iterator[JobTrace]:
    """Trace one attempt at a job, if traces are sent."""
    told = JobTrace(traceparent or "")
    if tracing is None:
        yield told
        return
    trace = tracing.begin(told.traceparent, "consumer")
    told.traceparent = trace.traceparent
    try:
        yield told
    finally:
        outcome = told.outcome or "crashed"
        trace.end(name, {**attributes, "sightline.job.outcome": outcome}, failed=outcome in ("failed", "crashed"))


class JobTrace:
    """What a job is told of its trace, ``traceparent``, and what it tells in the end, ``outcome``."""

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent
        self.outcome = ""
