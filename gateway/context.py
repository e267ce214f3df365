"""Everything that routes need, built once when the process starts and handed down; it lies at ``app.state.context``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from starlette.requests import Request

from gateway.imports import Imports
from gateway.job_stream import JobStream
from gateway.lifecycle import Lifecycle
from gateway.logs import RequestLog
from gateway.middleware.keys import Keys
from gateway.middleware.limits import RateLimiter
from gateway.request.admission import Admission
from gateway.request.images import ImageReader
from gateway.request.references import References, SentImages
from gateway.request.request_context import Caller, RequestContext
from gateway.stream import OpenStreams
from gateway.telemetry import Telemetry
from services import tracing
from services.dialog.kind import bot_store
from services.dialog.sessions import SessionStore
from services.dialog.talking import Talking
from services.dialog.teaching import TeachingStore
from services.errors import Kind, Problem
from services.job_kinds import registry
from services.jobs.kind import JobKind
from services.jobs.metrics import JobMetrics
from services.jobs.services import JobServices
from services.media.image import Picture
from services.media.intake import Limits
from services.media.remote import RemoteImages
from services.net.guard import SystemResolver
from services.ownership import Owners
from services.runtime.choosing import open_backend
from services.runtime.problems import model_not_found
from services.runtime.protocol import Backend, ModelHandle, ModelStatus
from services.settings import Settings
from services.storage.database import connect, upgrade
from services.storage.keys import KeyStore
from services.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one gateway process."""

    settings: Settings
    backend: Backend
    owners: Owners
    database: Engine
    remote: RemoteImages
    images: ImageReader
    keys: Keys
    limiter: RateLimiter
    admission: Admission
    telemetry: Telemetry
    log: RequestLog
    lifecycle: Lifecycle
    jobs: JobServices
    job_kinds: Mapping[str, JobKind[Any]]
    job_stream: JobStream
    streams: OpenStreams
    imports: Imports
    resolver: SystemResolver
    tracing: Tracing | None
    bots: Talking

    async def look_up(
        self, caller: Caller | None, name: str, version: str | None = None, *, deadline: float | None = None
    ) -> ModelHandle:
        """Return what serves ``name`` now, where it is there for ``caller``.

        Raises what ``Backend.resolve`` does: of another's model what it raises of a name that nobody has given.
        """
        try:
            return await self.backend.resolve(name, version, deadline=deadline)
        finally:  # what is wrong with another's model is not told either
            if caller is None or not self.owners.sees(caller.viewer, name):
                raise model_not_found(name)

    def seen(self, caller: Caller) -> list[ModelStatus]:
        """Every version in the repository that is there for ``caller``, loaded or not."""
        return [status for status in self.backend.index() if self.owners.sees(caller.viewer, status.name)]

    async def resolve(self, request_context: RequestContext, name: str, version: str | None) -> ModelHandle:
        """Return what serves ``name`` now; from here on the request counts as that model's.

        Looked up once: the request works with it to its end, and holds it open (``with await context.resolve(...)``).
        Raises the backend's ``model-*`` and ``version-not-found``, pointing at the field.
        """
        try:
            caller, deadline = request_context.caller, request_context.deadline
            model = await self.look_up(caller, name, version, deadline=deadline)
        except Problem as problem:
            raise problem.at("/version" if problem.code == "version-not-found" else "/model") from None
        request_context.model = model.card.name
        return model

    def read_images(
        self, request_context: RequestContext, images: SentImages, admit: Callable[[int], None]
    ) -> AbstractAsyncContextManager[list[Picture]]:
        """The images of a request, see :meth:`ImageReader.read`; what it names must be its caller's."""
        owner = "" if request_context.caller is None else request_context.caller.key_id
        return self.images.read(
            images, request_context.stages, owner=owner, deadline=request_context.deadline, admit=admit
        )

    @property
    def takes_work(self) -> bool:
        """Whether the process is to be sent requests."""
        return self.lifecycle.takes_work and self.backend.takes_work()

    async def start(self) -> None:
        """Load models; then the process is ready."""
        await self.backend.start()
        self.lifecycle.ready = True

    async def close(self) -> None:
        """Let go of everything, the models last begun first."""
        self.lifecycle.ready = False
        await self.backend.close()
        await self.remote.aclose()
        self.resolver.close()
        self.images.close()
        self.imports.close()
        self.limiter.close()
        self.database.dispose()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)


def build(settings: Settings, backend: Backend | None, *, exposed: bool, metrics: Path | None) -> Context:
    """Put a process together. ``exposed`` says whether other machines can reach it; ``metrics`` is the workers' folder.

    Raises ``exposed-without-key`` when it would answer strangers, and what :func:`open_backend` raises.
    """
    upgrade(settings.database)
    database = connect(settings.database)
    store = KeyStore(database)
    refuse_strangers(settings, store, exposed=exposed)
    telemetry = Telemetry(metrics)
    telemetry.include(JobMetrics(database))
    lifecycle = Lifecycle()
    remote = RemoteImages(settings, blocked=telemetry.blocked)
    jobs, limits = JobServices.over(settings, database), Limits.of(settings)
    references = References(
        limits, remote, jobs.artifacts, per_request=settings.max_body_bytes, held=settings.max_held_bytes
    )
    backend = backend or open_backend(settings, telemetry)

    return Context(
        settings=settings,
        backend=backend,
        owners=Owners(settings.models_dir, lambda: backend.generation),
        database=database,
        remote=remote,
        images=ImageReader(limits, references, pixels=settings.max_decoded_pixels, threads=max(2, os.cpu_count() or 1)),
        keys=Keys(store, settings.auth, exposed=exposed, metrics_token=settings.metrics_token),
        limiter=RateLimiter(settings.run_dir / "limits", rate=settings.rate_limit, burst=settings.rate_burst),
        admission=Admission(settings.max_inflight),
        telemetry=telemetry,
        log=RequestLog(settings.log_level, settings.log_format),
        lifecycle=lifecycle,
        jobs=jobs,
        job_kinds=registry(settings.job_modules),
        job_stream=JobStream(database, lambda: lifecycle.draining),
        streams=OpenStreams(),
        imports=Imports(settings.import_seconds),
        resolver=SystemResolver(threads=2),
        tracing=tracing.start(settings, "sightline-gateway"),
        bots=Talking(
            bot_store(jobs),
            SessionStore(
                database,
                expire_seconds=settings.session_seconds,
                keep_seconds=settings.job_retention_days * 86_400,
            ),
            TeachingStore(database),
        ),
    )


def refuse_strangers(settings: Settings, store: KeyStore, *, exposed: bool) -> None:
    """Raise ``exposed-without-key`` if other machines can reach the server and no key keeps them out."""
    if not exposed or settings.auth == "required" or (settings.auth == "auto" and store.any()):
        return
    why = "SIGHTLINE_AUTH is off" if settings.auth == "off" else "no API key exists"
    raise Problem(
        Kind.CONFLICT,
        "exposed-without-key",
        "The server would answer to everybody",
        f"It would listen beyond this machine ({settings.host}), and {why}.",
        remedy="Run `sightline keys create`, or listen on 127.0.0.1.",
    )


def context_of(request: Request) -> Context:
    """The context of the application that serves ``request``."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context
