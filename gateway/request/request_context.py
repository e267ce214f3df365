"""What one request carries through the gateway: its id, who calls, which model answers, how long each stage took."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import Literal

from starlette.types import Scope

from services.errors import Problem
from services.ownership import Viewer
from services.runtime.protocol import Options
from services.stages import Stages

SCOPE_KEY = "sightline.request_context"

HEAD_KEY = "sightline.head"
"""Set in the scope of a HEAD that is routed as GET: who would read much content for the answer need not."""

_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


ApiScope = Literal["infer", "jobs", "metrics", "admin"]
"""What a key may do. ``admin`` includes the others; ``metrics`` belongs to the token of ``settings.metrics_token``."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: the id of its key, ``anonymous`` where keys are not asked for. ``rate`` is the key's own.

    ``background``: a job calls for its owner, and may wait behind people. ``sees_all``: the models of every key are
    there for it.
    """

    key_id: str
    scopes: frozenset[ApiScope]
    rate: float | None = None
    background: bool = False
    sees_all: bool = False

    def may(self, scope: ApiScope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    @property
    def viewer(self) -> Viewer:
        """As who it looks at models."""
        return Viewer(self.key_id, self.sees_all)


@dataclass(slots=True)
class RequestContext:
    """One request and its answer. Routes fill in ``model`` and ``task``; logs, metrics and headers read them.

    ``head`` has the request's headers by lower-case name. ``started`` and ``deadline`` are on the clock of
    ``time.perf_counter()``. ``model`` is set only to names that the backend knows, so that metrics stay bounded.
    """

    head: dict[bytes, bytes]
    request_id: str
    started: float
    deadline: float
    traceparent: str = ""
    caller: Caller | None = None
    model: str = ""
    task: str = ""
    problem: Problem | None = None
    stages: Stages = field(default_factory=Stages)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Headers that the answer gets, whatever it is."""

    def options(self) -> Options:
        """Return how the runtime is to treat this request's inferences: its deadline counts from the first byte."""
        background = self.caller is not None and self.caller.background
        return Options(priority=2 if background else 1, deadline=self.deadline, traceparent=self.traceparent)

    @staticmethod
    def begin(scope: Scope, deadline_seconds: float) -> RequestContext:
        """Start one for an HTTP scope. A caller's request id is kept if it is short and plain."""
        head = dict(scope["headers"])
        given = head.get(b"x-request-id")
        sane = given is not None and _SANE_ID.fullmatch(given) is not None
        trace = head.get(b"traceparent", b"")
        now = time.perf_counter()
        request_context = RequestContext(
            head=head,
            request_id=given.decode("ascii") if sane and given is not None else f"req_{os.urandom(12).hex()}",
            started=now,
            deadline=now + deadline_seconds,
            traceparent=trace.decode("ascii") if trace and _TRACEPARENT.fullmatch(trace) else "",
        )
        scope[SCOPE_KEY] = request_context

        return request_context

    @staticmethod
    def of(scope: Scope) -> RequestContext:
        """The request_context of an ASGI scope; the outermost middleware put it there."""
        request_context = scope[SCOPE_KEY]
        assert isinstance(request_context, RequestContext)
        return request_context
