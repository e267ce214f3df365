"""The worker's event loop: takes connections, lets gateways in that prove who they are, tells them once a second how
it is, and drains when told to stop."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from services.errors import Kind, Problem
from services.runtime.repository import Repository
from services.runtime.torch_worker import frames
from services.runtime.torch_worker.endpoint import VERSION, proof
from services.runtime.torch_worker.frames import FrameError
from services.runtime.torch_worker.process.device import prepare
from services.runtime.torch_worker.process.memory import Memory, resident
from services.runtime.torch_worker.process.runs import Runs
from services.runtime.torch_worker.process.session import Session, document
from services.runtime.torch_worker.process.versions import Versions
from services.settings import Settings

HELLO_SECONDS = 10.0
"""For a gateway to prove who it is."""

STATUS_SECONDS = 1.0
_SILENT_MS = 30_000
"""A gateway whose machine takes nothing for so long is gone."""

_log = logging.getLogger("sightline.torch")


def serve(settings: Settings, listening: socket.socket, *, token: str, programs: Mapping[str, str]) -> None:
    """Serve on ``listening`` until SIGTERM. ``token`` is empty where only this user can connect."""
    memory = Memory(settings.torch_memory_bytes)
    device = prepare(settings, memory)
    asyncio.run(_Server(settings, token, programs, device, memory).run(listening))


class _Server:
    def __init__(
        self, settings: Settings, token: str, programs: Mapping[str, str], device: str | None, memory: Memory
    ) -> None:
        self._settings = settings
        self._token = token
        self._device = device
        self._memory = memory
        self._programs = programs
        self._sessions: set[Session] = set()
        self._started = time.time()
        self._versions: Versions
        self._runs: Runs

    async def run(self, listening: socket.socket) -> None:
        settings = self._settings
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        self._versions = Versions(Repository(settings.models_dir), self._programs, self._device, self._memory)
        self._runs = Runs(settings.torch_concurrency, self._memory, settings.torch_stop_seconds)
        start = asyncio.start_unix_server if listening.family == socket.AF_UNIX else asyncio.start_server
        server = await start(self._connected, sock=listening)
        _log.info("The torch worker computes on %s", self._device or "nothing: PyTorch is not installed")
        await stop.wait()
        server.close()
        for session in self._sessions:
            session.draining = True

        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_seconds):
                await self._runs.drain()

        self._runs.close()
        self._versions.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await self._admitted(reader, writer):
                await self._attend(reader, writer)
        except (FrameError, TimeoutError) as error:
            _log.warning("A connection to the torch worker is closed: %s", error or "it was silent")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway has left
        finally:
            writer.transport.abort()

    async def _admitted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Say hello, and hear who it is. Until then nobody may send more than a few bytes."""
        nonce = secrets.token_hex(16)
        writer.write(frames.encode({"version": VERSION, "nonce": nonce}))
        async with asyncio.timeout(HELLO_SECONDS):
            header = (await frames.read(reader, max_header=1024, max_arrays=0)).header

        refusal = None
        if header.get("version") != VERSION:
            refusal = _refusal("the gateway is of another release than the torch worker")
        elif not hmac.compare_digest(str(header.get("proof")).encode(), proof(self._token, nonce).encode()):
            refusal = _refusal("the gateway has another SIGHTLINE_TORCH_TOKEN than the torch worker")

        if refusal is not None:
            _log.warning("A connection to the torch worker is refused: %s", refusal.detail)
            writer.write(frames.encode({"problem": document(refusal)}))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return False

        return True

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _watch_for_loss(writer)
        session = Session(writer, self._versions, self._runs, self._memory)
        facts = {"device": self._device or "none", "memory": self._memory.limit, "started": self._started}
        session.tell({"ready": facts})
        self._sessions.add(session)
        telling = asyncio.create_task(self._tell(session))
        try:
            await session.follow(reader)
        finally:
            telling.cancel()
            self._sessions.discard(session)

    async def _tell(self, session: Session) -> None:
        while True:
            runs = {"running": self._runs.running, "waiting": self._runs.waiting}
            session.tell({"status": {"resident": resident(), "versions": len(self._versions), **runs}})
            await asyncio.sleep(STATUS_SECONDS)


def _refusal(detail: str) -> Problem:
    return Problem(Kind.FORBIDDEN, "torch-worker-refused", "The torch worker does not take this gateway", detail)


def _watch_for_loss(writer: asyncio.StreamWriter) -> None:
    """Notice a machine that is gone without a word: what it is told once a second is not acknowledged."""
    connection = writer.get_extra_info("socket")
    if connection.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
