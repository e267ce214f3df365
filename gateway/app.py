"""Builds the HTTP application: the context, the middleware around it, the routes in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import context as contexts
from gateway import openapi, problems, sampler
from gateway.context import Context
from gateway.middleware.body_guard import BodyGuard
from gateway.middleware.keys import PUBLIC, KeyGate, is_loopback
from gateway.middleware.request import RequestMiddleware
from gateway.oip import routes as oip
from gateway.request.request_context import HEAD_KEY
from gateway.request.uploads import FORM_BYTES
from gateway.resources import (
    artifacts,
    bot_sessions,
    bots,
    chat,
    datasets,
    docs,
    health,
    jobs,
    label_sets,
    leaderboard,
    metrics,
    models,
    promotion,
)
from gateway.resources.schemas.bots import BODIES as BOT_BODIES
from gateway.resources.schemas.jobs import JobBody
from gateway.resources.schemas.leaderboard import PromoteBody
from gateway.tasks import TASKS
from gateway.tasks.task import Endpoint, Task
from services.runtime.protocol import Backend
from services.settings import Settings

ROUTERS = (
    models.router,
    label_sets.router,
    oip.router,
    jobs.router,
    leaderboard.router,
    promotion.router,
    bots.router,
    bot_sessions.router,
    chat.router,
    artifacts.router,
    datasets.router,
    health.router,
    metrics.router,
)
"""Every resource. What is neither here nor in ``TASKS`` is not served."""

STREAMED = ("/v1/artifacts", "/v1/datasets")
"""Where bodies go straight to the disk, and may be as long as an upload."""


def create_app(
    settings: Settings,
    *,
    backend: Backend | None = None,
    exposed: bool | None = None,
    metrics: Path | None = None,
    tasks: Sequence[Task[Any, Any, Any]] = TASKS,
) -> FastAPI:
    """The application over ``backend``, the embedded one when absent; models load when its lifespan starts.

    ``exposed``: whether other machines can reach it; as ``settings.host`` says when absent. ``metrics``: the folder
    that worker processes share; ``tasks``: what ``/v1`` answers besides resources. Raises ``exposed-without-key``.
    """
    if exposed is None:
        exposed = not is_loopback(settings.host)

    context = contexts.build(settings, backend, exposed=exposed, metrics=metrics)
    app = FastAPI(
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # to an address made of Host and http, which leads astray behind a proxy with TLS
        **openapi.METADATA,
    )
    app.state.context = context
    app.state.bodies = (*(task.body for task in tasks), JobBody, PromoteBody, *BOT_BODIES)
    services = {make: make(context.backend, context.settings) for make in dict.fromkeys(task.service for task in tasks)}
    endpoints = [Endpoint(task, context, services[task.service]) for task in tasks]
    answering = APIRouter()
    for endpoint in endpoints:
        endpoint.describe(answering)

    routers = (answering, *ROUTERS)
    problems.install(app, [route for router in routers for route in router.routes if isinstance(route, Route)])
    app.router.routes.extend(fast_routes(endpoints))
    for router in routers:
        app.include_router(router)

    if settings.docs:
        app.include_router(docs.router)

    _surround(app, context)
    return app


class FastRoute(Route):
    """A route of Starlette's own, which says where a request went as FastAPI's do."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        return match, {**found, "route": self} if match is Match.FULL else found


class HeadAsGet:
    """Answers HEAD wherever GET is answered (RFC 9110, section 9.3.2): FastAPI's routes refuse it.

    It is routed as GET and its body kept back. Streams of events are left out: they have no end to wait for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"].endswith("/events"):
            await self._app(scope, receive, send)
            return
        ended = False

        async def send_head(message: Message) -> None:
            nonlocal ended
            scope["method"] = "HEAD"  # from here on the server is to know that no body follows
            if message["type"] == "http.response.start":
                await send(message)
            elif not ended:
                ended = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        scope["method"], scope[HEAD_KEY] = "GET", True
        await self._app(scope, receive, send_head)


def fast_routes(endpoints: Iterable[Endpoint[Any, Any, Any]]) -> list[FastRoute]:
    """Endpoints of the routers once more as plain Starlette routes, to stand before all others.

    FastAPI's way to an endpoint costs a tenth of a millisecond, and these are called thousands of times a second. The
    document comes from the routers.
    """
    paths = {endpoint.task.path: endpoint.serve for endpoint in endpoints} | oip.FAST_ROUTES
    return [FastRoute(path, serve, methods=["POST"], include_in_schema=False) for path, serve in paths.items()]


def _surround(app: FastAPI, context: Context) -> None:
    """Add the middleware, innermost first."""
    settings = context.settings
    public = PUBLIC | {"/metrics"} if settings.metrics_open else PUBLIC
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        KeyGate, keys=context.keys, limiter=context.limiter, public=public, origins=settings.cors_origins
    )
    app.add_middleware(
        BodyGuard,
        limit=settings.max_body_bytes,
        timeout=settings.body_timeout,
        held=settings.max_held_bytes,
        streams=tuple((path, settings.max_upload_bytes + FORM_BYTES) for path in STREAMED),
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID", "Idempotency-Key"],
            expose_headers=["X-Request-ID", "Server-Timing", "Location", "Retry-After"],
            max_age=600,
        )

    app.add_middleware(
        RequestMiddleware,
        deadline=settings.deadline,
        lifecycle=context.lifecycle,
        telemetry=context.telemetry,
        log=context.log,
        tracing=context.tracing,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    await context.start()
    sampling = asyncio.create_task(sampler.run(context.backend, context.telemetry, context.admission))
    try:
        yield
    finally:
        sampling.cancel()
        await context.close()
