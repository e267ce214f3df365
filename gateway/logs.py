"""Structured logs: one JSON object a line, or a readable line for people; one line a request at level info."""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson
from starlette.types import Scope

if TYPE_CHECKING:
    # Workers log too, and fork: NumPy, which it brings, would start threads in them first.
    from gateway.request.request_context import RequestContext

Format = Literal["json", "console"]

PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""Told at level debug only, never traced, counted as a task of their own: they are not what the server is for."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object; what was passed as ``extra`` becomes its fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((key, value) for key, value in record.__dict__.items() if key not in _STANDARD)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class ConsoleFormatter(logging.Formatter):
    """A record as a line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


def configure(level: str, form: Format) -> None:
    """Send every logger of the process to standard error in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True

    # uvicorn tells of its own start and stop; the gateway says the same in its own words.
    logging.getLogger("uvicorn.error").setLevel("WARNING" if level != "debug" else "DEBUG")
    for name in ("httpx", "httpcore", "asyncio", "PIL", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel("WARNING")

    logging.getLogger("python_multipart").setLevel("ERROR")  # what is wrong with a form is told to its sender


class RequestLog:
    """Writes the line of a request past ``logging``: a tenth of its cost, the same fields in both forms."""

    def __init__(self, level: str, form: Format, descriptor: int = 2) -> None:
        self._requests = level in ("debug", "info")
        self._probes = level == "debug"
        self._json = form == "json"
        self._descriptor = descriptor

    def write(self, scope: Scope, request_context: RequestContext, status: int, elapsed: float) -> None:
        """One request that has been answered with ``status`` after ``elapsed`` seconds; 0 is no answer at all."""
        if not self._requests or (not self._probes and scope["path"] in PROBES):
            return

        now = time.time()
        if self._json:
            line = self._object(now, scope, request_context, status, elapsed)
        else:
            note = f" {request_context.model}" if request_context.model else ""
            note += f" {request_context.problem.code}" if request_context.problem else ""
            clock = time.strftime("%H:%M:%S", time.localtime(now))
            path = ascii(scope["path"])[1:-1]
            line = f"{clock} INFO    {status} {scope['method']} {path} {elapsed * 1e3:.1f} ms{note}\n".encode()

        try:
            os.write(self._descriptor, line)
        except OSError:
            # Nobody reads the log any more, or its disk is full: requests are still to be answered.
            return

    @staticmethod
    def _object(now: float, scope: Scope, request_context: RequestContext, status: int, elapsed: float) -> bytes:
        stages = request_context.stages
        route = scope.get("route")
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
            "level": "info",
            "event": "request",
            "request_id": request_context.request_id,
            "key": request_context.caller.key_id if request_context.caller else None,
            "method": scope["method"],
            "route": getattr(route, "path", None),
            "path": scope["path"][:200],
            "status": status,
            "duration_ms": round(elapsed * 1e3, 3),
        }
        if request_context.model:
            line["model"] = request_context.model
            line["decode_ms"] = round(stages.decode * 1e3, 3)
            line["queue_ms"] = round(stages.queue * 1e3, 3)
            line["infer_ms"] = round(stages.infer * 1e3, 3)
            line["encode_ms"] = round(stages.encode * 1e3, 3)

        if request_context.problem:
            line["problem"] = request_context.problem.code

        if request_context.traceparent:
            line["traceparent"] = request_context.traceparent

        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
