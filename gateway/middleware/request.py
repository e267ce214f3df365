"""The outermost layer: every request gets an id, a clock, a line in the log and its metrics; every answer its headers.

Whatever the application raises and nobody caught ends here: a problem body for the client, the trace for the log.
"""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.lifecycle import Lifecycle
from gateway.logs import PROBES, RequestLog
from gateway.problems import internal_problem, problem_response
from gateway.request.request_context import RequestContext
from gateway.telemetry import Telemetry
from services.stages import Stages
from services.tracing import Trace, Tracing

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Of every answer, where its route does not say otherwise."""


def server_timing(stages: Stages) -> bytes:
    """The ``Server-Timing`` value, in milliseconds; ``chunks`` says that a vocabulary was split, and into how many."""
    chunks = stages.counts.get("chunks", 1)
    split = f', chunks;desc="{chunks}"' if chunks > 1 else ""
    return (
        f"decode;dur={stages.decode * 1e3:.2f}, queue;dur={stages.queue * 1e3:.2f}, "
        f"infer;dur={stages.infer * 1e3:.2f}, encode;dur={stages.encode * 1e3:.2f}{split}"
    ).encode()


class RequestMiddleware:
    """ASGI middleware around everything else. ``draining`` says whether connections are to be closed."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        deadline: float,
        lifecycle: Lifecycle,
        telemetry: Telemetry,
        log: RequestLog,
        tracing: Tracing | None = None,
    ) -> None:
        self._app = app
        self._deadline = deadline
        self._lifecycle = lifecycle
        self._telemetry = telemetry
        self._log = log
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_context = RequestContext.begin(scope, self._deadline)
        trace = None
        if scope["path"] in PROBES:
            request_context.task = "probe"
        elif self._tracing is not None:
            trace = self._tracing.begin(request_context.traceparent, "server")
            request_context.traceparent, request_context.stages = trace.traceparent, trace.stages
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": self._headers(scope, request_context, message)}
            await send(message)

        self._telemetry.began()
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            problem = internal_problem(error, scope)
            if status == 0:
                await problem_response(problem, scope)(scope, receive, answer)
            else:
                # The status line has gone out: cutting the connection is the only way left to say it.
                request_context.problem = problem
        finally:
            elapsed = time.perf_counter() - request_context.started
            self._telemetry.ended(request_context, status, elapsed)
            self._log.write(scope, request_context, status, elapsed)
            if trace is not None:
                _end_trace(trace, scope, request_context, status)

    def _headers(self, scope: Scope, request_context: RequestContext, message: Message) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = [*message.get("headers", ()), *request_context.headers]
        said = {name for name, _ in headers}
        headers += [header for header in SECURITY_HEADERS if header[0] not in said]
        headers.append((b"x-request-id", request_context.request_id.encode("ascii")))
        if scope["path"].startswith("/v1/"):
            headers.append((b"server-timing", server_timing(request_context.stages)))
        if self._lifecycle.draining:
            headers.append((b"connection", b"close"))
        return headers


def _end_trace(trace: Trace, scope: Scope, request_context: RequestContext, status: int) -> None:
    route = getattr(scope.get("route"), "path", "")  # as declared: a path as sent would be another name each time
    told: dict[str, str | int] = {
        "http.request.method": scope["method"],
        "http.response.status_code": status or 499,
        "sightline.request_id": request_context.request_id,
    }
    if route:
        told["http.route"] = route
    if request_context.model:
        told["sightline.model"] = request_context.model
    if request_context.problem is not None:
        told["error.type"] = request_context.problem.code
    trace.end(f"{scope['method']} {route}".rstrip(), told, failed=status >= 500)
