"""The embedded backend: models of the repository run in this process, by ONNX Runtime or the engine of their card."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.catalog.card import Card
from services.runtime.onnx.cores import physical_cores
from services.runtime.onnx.onnxruntime import check_onnxruntime_install
from services.runtime.onnx.opening import open_served
from services.runtime.repository_backend import RepositoryBackend
from services.runtime.served import Observer, Served
from services.settings import Settings


class OnnxBackend(RepositoryBackend):
    """Implements :class:`services.runtime.protocol.Backend`; used from one event loop. Each process runs the models."""

    def __init__(self, settings: Settings, *, observer: Observer | None = None) -> None:
        super().__init__(settings, observer)
        self._executor = ThreadPoolExecutor(max(2, physical_cores()), thread_name_prefix="infer")

    async def start(self) -> None:
        """Load what ``settings.preload`` and earlier loads ask for; a model that fails is shown as unavailable.

        Raises ``onnxruntime-missing`` or ``onnxruntime-conflict``.
        """
        check_onnxruntime_install()
        self._torch.start()
        await self._library.start(self._settings.preload)

    async def close(self) -> None:
        """Refuse what waits, finish what runs, free everything."""
        await self._library.close()
        await self._torch.close()
        await asyncio.to_thread(self._executor.shutdown)

    def takes_work(self) -> bool:
        """Always: what runs the models is this process."""
        return True

    async def counted(self, model: str | None = None) -> None:
        """Nothing to wait for: this process counts."""

    def _open_served(self, folder: Path, card: Card) -> Served:
        return open_served(folder, card, self._settings, self._executor, self._observer)
