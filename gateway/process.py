"""One gateway process on an inherited listening socket: set up, serve, drain on SIGTERM.

The drain loses nothing. At the signal ``/readyz`` turns 503 and every answer closes its connection, so clients move
on by themselves; then no new connection is accepted; idle connections get a moment more, because a request may be on
its way on any of them; what is in flight is finished. A second signal ends the process at once.

``LAME_DUCK_SIGNAL`` comes before: workers of jobs, which call the gateway, are stopped first and may take their time.
``/readyz`` turns 503, and everything is answered as before.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import socket
import time
from types import FrameType

import uvicorn

from gateway import LAME_DUCK_SIGNAL, logs, telemetry
from gateway.app import create_app
from gateway.context import Context
from gateway.http_protocol import BoundedProtocol
from gateway.lifecycle import Lifecycle
from gateway.middleware.keys import is_loopback
from services.errors import Problem
from services.settings import Settings

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s that proxies keep idle connections: the side that closes first must be the client's."""

IDLE_GRACE_SECONDS = 0.5

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_log = logging.getLogger("sightline.gateway")


class DrainingServer(uvicorn.Server):
    """uvicorn's server with the drain that this module describes, and exit code 0 after it."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, settings: Settings) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._settings = settings

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not kept for uvicorn to raise again: a drained process has done what it was told, and exits with 0.
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        self._lifecycle.draining = True

    def handle_lame_duck(self, sig: int, frame: FrameType | None) -> None:
        self._lifecycle.lame_duck = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What lives from start to end need not be looked at in every collection: a full one would take 50 ms.
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _log.info("Draining", extra={"connections": len(self.server_state.connections)})
        end = time.monotonic() + self._settings.drain_seconds
        await self._serve_until(time.monotonic() + self._settings.lame_duck_seconds, even_alone=True)
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        await self._serve_until(time.monotonic() + IDLE_GRACE_SECONDS, even_alone=False)
        self.config.timeout_graceful_shutdown = max(1, round(end - time.monotonic()))
        await super().shutdown([])
        _log.info("Stopped", extra={"forced": self.force_exit})

    async def _serve_until(self, end: float, *, even_alone: bool) -> None:
        while time.monotonic() < end and not self.force_exit:
            if not even_alone and not self.server_state.connections:
                return
            await asyncio.sleep(0.02)


def serve(settings: Settings, descriptor: int, worker: str) -> int:
    """Serve on the listening socket ``descriptor`` until told to stop; the exit code."""
    logs.configure(settings.log_level, settings.log_format)
    listening = socket.socket(fileno=descriptor)
    address = listening.getsockname()
    host = address[0] if isinstance(address, tuple) else "localhost"
    _tune_memory()
    directory = settings.run_dir / "metrics"
    telemetry.join_workers(directory, worker)
    try:
        app = create_app(settings, exposed=not is_loopback(host), metrics=directory)
    except Problem as problem:
        _log.error("%s %s", problem.detail or problem.title, problem.remedy or "", extra={"code": problem.code})
        return 2

    context: Context = app.state.context
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        backlog=2048,
    )
    server = DrainingServer(config, context.lifecycle, settings)
    signal.signal(signal.SIGTERM, server.handle_exit)  # also while models load, before uvicorn listens for it
    signal.signal(LAME_DUCK_SIGNAL, server.handle_lame_duck)
    server.run(sockets=[listening])
    return 1 if server.force_exit or not server.started else 0


def _tune_memory() -> None:
    """Keep image-sized blocks in the heap: glibc else maps and unmaps each, and every page of it faults in anew.

    Bigger blocks (bodies, large pictures) still go back to the system as soon as they are free.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # not glibc
    mallopt(_M_MMAP_THRESHOLD, 8 * 1024 * 1024)
    mallopt(_M_TRIM_THRESHOLD, 32 * 1024 * 1024)
    mallopt(_M_ARENA_MAX, 4)
