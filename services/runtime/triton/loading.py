"""What one Triton server has loaded, made to be what is wanted.

Triton has one configuration for all versions of a model, and by it serves the latest one. Where that is not what is
wanted, the request to load says which. Before a new version takes over, both are loaded, so that what was prepared for
the old one still finds it.

Gateway processes of one data folder take turns by a file lock, and each looks first whether another has done it.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from google.protobuf.json_format import MessageToJson
from google.protobuf.text_format import Parse
from tritonclient.grpc import model_config_pb2

from models.catalog.card import Card
from models.repository.triton_config import config_pbtxt
from services.errors import Problem
from services.runtime.triton.channel import Channel, Failure

PATIENCE = 120.0
UNLOAD_SECONDS = 1.0
POLL_SECONDS = 0.05

_log = logging.getLogger("sightline.runtime")


class Loader:
    """Loads and unloads on one server. ``folder`` is where processes meet, ``card_of`` the repository's."""

    def __init__(self, channel: Channel, folder: Path, card_of: Callable[[str, str], Card]) -> None:
        self._channel = channel
        self._path = folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', channel.address)}.lock"
        self._card_of = card_of
        self._mine = asyncio.Lock()

    async def bring(self, model: str, version: str, keep: Collection[str], *, anew: bool = False) -> None:
        """Return once ``version`` is served. When it has to be loaded, ``keep`` stay served beside it, or come back,
        and with them whatever else is served; without ``keep`` it takes the place of everything.

        ``anew``: its files have changed. Raises :class:`Failure`.
        """
        async with self._turn():
            ready = await self._ready(model)
            if version in ready and not anew:
                return

            if not ready or anew:
                await self._channel.load(model)
                ready = await self._ready(model)

            if version not in ready:
                await self._serve(model, {version, *keep, *(ready if keep else ())})

    async def drop(self, model: str, used: Callable[[str], bool]) -> None:
        """Let go of every version that is not ``used``."""
        async with self._turn():
            ready = await self._ready(model)
            left = {version for version in ready if used(version)}
            if not left:
                await self._unload(model)
            elif left != ready:
                await self._serve(model, left)

    async def repair(self, model: str, versions: Collection[str], works: Callable[[], Awaitable[bool]]) -> None:
        """Start a model anew whose process has died: loading alone does nothing, since Triton believes it loaded."""
        async with self._turn():
            if await works():
                return  # another has done it
            _log.warning("%s on %s has died and is unloaded and loaded again", model, self._channel.address)
            await self._unload(model)
            await self._channel.load(model)
            if not (await self._ready(model)).issuperset(versions):
                await self._serve(model, versions)

    async def _serve(self, model: str, versions: Collection[str]) -> None:
        """Load exactly ``versions``, configured as the newest of them is.

        What was removed from the repository while it was served cannot be loaded, nor be kept beside what is: it is let
        go of, unless all are such.
        """
        cards = self._cards(model, versions)
        if not cards:
            return
        await self._channel.load(model, configuration(cards[max(cards)], sorted(cards)))
        missing = set(map(str, cards)) - await self._ready(model)
        if missing:
            raise Failure("absent", f"version {min(missing, key=int)} of {model!r} did not become ready")

    def _cards(self, model: str, versions: Collection[str]) -> dict[int, Card]:
        """Those of ``versions`` that the repository has."""
        cards = {}
        for version in versions:
            try:
                cards[int(version)] = self._card_of(model, version)
            except Problem as problem:
                if problem.code not in ("model-not-found", "version-not-found"):
                    raise
        return cards

    async def _unload(self, model: str) -> None:
        """A model whose process has died stays in UNLOADING for good, in which it can be loaded all the same."""
        await self._channel.unload(model)
        await self._ready(model, "UNLOADING", patience=UNLOAD_SECONDS)

    async def _ready(self, model: str, *moving: str, patience: float = PATIENCE) -> set[str]:
        """The versions that are served, once none is on its way."""
        end = time.monotonic() + patience
        while True:
            states = {
                version: state for (name, version), (state, _) in (await self._channel.index()).items() if name == model
            }
            if not any(state in ("LOADING", *moving) for state in states.values()) or time.monotonic() > end:
                return {version for version, state in states.items() if state == "READY"}
            await asyncio.sleep(POLL_SECONDS)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Asked for again and again: loads wait in threads for what happens in here, and may have all of them."""
        async with self._mine:
            file = self._lock()
            while file is None:
                await asyncio.sleep(POLL_SECONDS)
                file = self._lock()
            with file:
                yield

    def _lock(self) -> IO[str] | None:
        """The locked file, or nothing while another process has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file


def configuration(card: Card, versions: Sequence[int]) -> str:
    """Return what ``config.pbtxt`` says of a model, as JSON and with these versions to be served."""
    config = Parse(config_pbtxt(card), model_config_pb2.ModelConfig())
    config.ClearField("version_policy")
    config.version_policy.specific.versions.extend(versions)
    return str(MessageToJson(config, preserving_proto_field_name=True, indent=None))
