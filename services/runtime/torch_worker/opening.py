"""Opens a version of a model that the torch worker is to run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from models.catalog.card import Card
from services.runtime.problems import model_invalid
from services.runtime.repository import CARD_FILE
from services.runtime.served import Observer
from services.runtime.torch_worker.endpoint import Endpoint
from services.runtime.torch_worker.served import TorchServed
from services.runtime.torch_worker.worker import TorchWorker, key_of
from services.settings import Settings


class TorchModels:
    """The torch worker, and what this process serves by it.

    The worker is looked for when the first version is opened, and not before.
    """

    def __init__(self, settings: Settings, observer: Observer) -> None:
        self.worker = TorchWorker(Endpoint.of(settings), observer.on_steps)
        self._slots = settings.torch_concurrency
        self._observer = observer
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """On the event loop that requests come on."""
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        await self.worker.close()

    def open(self, folder: Path, card: Card) -> TorchServed:
        """Called in a thread; blocks until the worker has opened it, or is found to be away.

        Raises what :meth:`TorchWorker.hold` raises.
        """
        try:
            key = key_of(folder, card)
        except OSError as error:
            why = f"{card.name}/{card.version}/{CARD_FILE} cannot be read: {error.strerror}."
            raise model_invalid(why, "Pull or import the model again.") from error
        asyncio.run_coroutine_threadsafe(self.worker.hold(key), self._loop).result()
        return TorchServed(folder, card, self.worker, self._observer, key=key, slots=self._slots)
