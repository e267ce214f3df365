"""``/healthz``: the process lives. ``/readyz``: it can take work."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.context import context_of

router = APIRouter(tags=["Health"])

_OK = b'{"status":"ok"}'


@router.get("/healthz", summary="The process lives")
async def live(request: Request) -> Response:
    """200 as long as the event loop turns."""
    return Response(_OK, media_type="application/json")


@router.get("/readyz", summary="The process takes work", responses={503: {"description": "Starting, or draining"}})
async def ready(request: Request) -> Response:
    """200 once models are loaded; 503 before that, while no server that runs models is reached, and from the moment
    the process is told to stop."""
    context = context_of(request)
    lifecycle = context.lifecycle
    if context.takes_work:
        return Response(_OK, media_type="application/json")
    going = lifecycle.lame_duck or lifecycle.draining
    status = "draining" if going else "no-engine" if lifecycle.ready else "starting"
    body = b'{"status":"%s"}' % status.encode()
    return Response(body, status_code=503, headers={"Retry-After": "1"}, media_type="application/json")
