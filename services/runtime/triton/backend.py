"""The backend of ``SIGHTLINE_RUNTIME=triton``: cards, labels, tokenizers from the local repository, tensors to Triton.

What is wanted stands in the data folder, as with the embedded engines; every gateway process sees to it that every
server has it. A server that is away when a model is loaded gets it when it is back.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from models.catalog.card import Card
from services.runtime.protocol import Statistics
from services.runtime.repository_backend import RepositoryBackend
from services.runtime.served import Observer, Served
from services.runtime.triton import memory, statistics
from services.runtime.triton.fleet import Fleet
from services.runtime.triton.remote import Remote
from services.settings import Settings


class TritonBackend(RepositoryBackend):
    """Implements :class:`services.runtime.protocol.Backend`; used from one event loop."""

    def __init__(self, settings: Settings, *, observer: Observer | None = None) -> None:
        super().__init__(settings, observer)
        self._fleet: Fleet
        self._loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        """Look for the servers and have them load what is wanted. Servers that are away are waited for later."""
        memory.clean_up()
        self._loop = asyncio.get_running_loop()
        self._fleet = Fleet(self._settings.triton_urls, self._settings.data_dir / "triton", self._repository.card)
        await self._fleet.start()
        self._torch.start()
        await self._library.start(self._settings.preload)
        self._fleet.look_after()

    async def close(self) -> None:
        """Refuse what waits and finish what runs; the servers keep what they have, since others use them, too."""
        self._fleet.detach()
        await self._library.close()
        await self._torch.close()
        await self._fleet.close()

    def takes_work(self) -> bool:
        """Return whether a server answers and has been given what is wanted."""
        return self._fleet.serving

    async def counted(self, model: str | None = None) -> None:
        """Ask the servers for their counters; those of a server that is away are missing."""
        found = [served for served in set(self._library.models.served()) if model in (None, served.card.name)]
        await asyncio.gather(*(statistics.refresh(one, self._fleet) for one in found if isinstance(one, Remote)))

    def statistics(self, model: str, version: str) -> Statistics:
        """As the servers counted when last asked (:meth:`counted`): of everybody who uses them, not this process."""
        found = self._ready(model, version)
        if not isinstance(found, Remote):
            return super().statistics(model, version)
        return replace(found.counted, pending=sum(found.depth.values()))

    def _open_served(self, folder: Path, card: Card) -> Served:
        held = self._library.models.find(card.name, card.version)
        served = Remote(
            folder,
            card,
            self._fleet,
            self._observer,
            slots=self._settings.triton_batches * card.engine.instances * self._fleet.servers_for(card.name),
            leave=lambda one: self._fleet.drop(one.card, one.wire),
        )
        bringing = self._fleet.bring(card, served.wire, anew=held is not None)
        asyncio.run_coroutine_threadsafe(bringing, self._loop).result()
        return served
