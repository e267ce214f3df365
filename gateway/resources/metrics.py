"""``/metrics``: Prometheus' text form, for all worker processes."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import context_of
from gateway.middleware.keys import allow
from gateway.telemetry import CONTENT_TYPE

router = APIRouter(tags=["Health"])


@router.get(
    "/metrics",
    summary="Metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **openapi.refusals(*openapi.ASKED)},
)
async def metrics(request: Request) -> Response:
    """Prometheus' text form. Where keys are asked for, it needs the token for metrics or the scope `admin`."""
    context = context_of(request)
    if not context.settings.metrics_open:
        allow(request, "metrics")
    return Response(await asyncio.to_thread(context.telemetry.scrape), headers={"Content-Type": CONTENT_TYPE})
