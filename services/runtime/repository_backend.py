"""What every backend over a model repository does alike, whoever runs the models.

Several gateway processes share one data folder; ``desired_state.py`` keeps what is loaded the same in all of them. A
request that names no version gets the latest that is served. While a newer one loads, the old one answers; a request
for a model that another process has loaded waits until this one has, too.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from models.catalog.card import Card
from services.errors import Problem
from services.runtime.desired_state import DesiredStates
from services.runtime.library import Library
from services.runtime.loaded import Version
from services.runtime.problems import (
    deadline_exceeded,
    model_not_found,
    model_not_ready,
    model_unreachable,
    version_not_found,
    worker_away,
)
from services.runtime.protocol import NOT_WANTED, Inference, ModelStatus, Options, Statistics, Tensor, WorkerStatus
from services.runtime.repository import Repository
from services.runtime.served import DEFAULT, NoObserver, Observer, Served
from services.runtime.torch_worker.opening import TorchModels
from services.runtime.version_policy import VersionPolicy
from services.settings import Settings


class RepositoryBackend(ABC):
    """Most of :class:`services.runtime.protocol.Backend`; used from one event loop."""

    def __init__(self, settings: Settings, observer: Observer | None) -> None:
        self._settings = settings
        self._observer = observer or NoObserver()
        self._repository = Repository(settings.models_dir)
        self._torch = TorchModels(settings, self._observer)
        self._library = Library(self._repository, DesiredStates.of(settings), self._open)

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    def _open_served(self, folder: Path, card: Card) -> Served:
        """A version that is about to be served. Called in a thread, and blocks."""

    async def resolve(self, model: str, version: str | None = None, *, deadline: float | None = None) -> Version:
        """See ``Backend.resolve``."""
        found = self._find(model, version)
        if found is None:
            await self._wait(model, deadline)
            found = self._find(model, version)
            if found is None:
                raise self._absence(model, version)
        trouble = found.trouble
        if trouble:
            raise self._troubled(found, trouble)
        return found

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Tensor],
        *,
        version: str | None = None,
        outputs: Sequence[str] | None = None,
        options: Options = DEFAULT,
    ) -> Inference:
        """See ``Backend.infer``."""
        found = await self.resolve(model, version, deadline=options.deadline)
        return await found.infer(inputs, outputs, options)

    async def stream(
        self,
        model: str,
        inputs: Mapping[str, Tensor],
        *,
        version: str | None = None,
        outputs: Sequence[str] | None = None,
        options: Options = DEFAULT,
    ) -> AsyncGenerator[Inference, None]:
        """See ``Backend.stream``."""
        with await self.resolve(model, version, deadline=options.deadline) as found:
            async with aclosing(found.stream(inputs, outputs, options)) as parts:
                async for part in parts:
                    yield part

    async def load(self, model: str, policy: VersionPolicy | None = None) -> None:
        """See ``Backend.load`` and :meth:`Library.load`."""
        await self._library.load(model, policy)

    async def unload(self, model: str) -> None:
        """See ``Backend.unload``. No process takes new requests for it once this has been written down."""
        await self._library.unload(model)

    async def settled(self, model: str, *, deadline: float | None = None) -> None:
        """Return once a load of another process that is being followed is done: before an answer about ``model``."""
        self._library.look()
        await self._wait(model, deadline)

    @property
    def generation(self) -> object:
        """See ``Backend.generation``."""
        return self._library.desired.stamp

    def ready(self, model: str, version: str | None = None) -> bool:
        """Return whether it is served and can answer; a pipeline, whether its components are."""
        found = self._find(model, version)
        return found is not None and not found.trouble

    def statistics(self, model: str, version: str) -> Statistics:
        """Counters of a ready version; those of a pipeline stay zero."""
        found = self._ready(model, version)
        if not isinstance(found, Served):
            return Statistics()
        return replace(found.statistics, pending=sum(found.depth.values()))

    def index(self) -> list[ModelStatus]:
        """See ``Backend.index``. A version that is served although its folder is gone is shown, too."""
        self._library.look()
        loaded = (name for name, held in self._library.models.items() if held.versions)
        names = sorted({*self._repository.names(), *loaded})
        return [self._status(name, version) for name in names for version in self._versions(name)]

    @property
    def torch_worker(self) -> WorkerStatus | None:
        """See ``Backend.torch_worker``."""
        return self._torch.worker.status

    # Opening a version (in a thread)

    def _open(self, card: Card) -> Served:
        folder = self._repository.folder(card.name, card.version)
        self._repository.verify(card.name, card.version)
        if card.engine.name == "torch":
            return self._torch.open(folder, card)
        return self._open_served(folder, card)

    # Looking up

    def _find(self, model: str, version: str | None) -> Version | None:
        self._library.look()
        return self._library.models.find(model, version)

    async def _wait(self, model: str, deadline: float | None) -> None:
        held = self._library.models.get(model)
        if held is None or held.loading is None:
            return
        left = None if deadline is None else max(0.0, deadline - time.perf_counter())
        done, _ = await asyncio.wait([held.loading], timeout=left)
        if not done:
            raise deadline_exceeded()

    def _ready(self, model: str, version: str | None) -> Version:
        found = self._find(model, version)
        if found is None:
            raise self._absence(model, version)
        trouble = found.trouble
        if trouble:
            raise self._troubled(found, trouble)
        return found

    def _troubled(self, found: Version, trouble: str) -> Problem:
        if isinstance(found, Served) and found.engine == "torch":
            return worker_away(found.card.name, trouble)
        if isinstance(found, Served) or not (found.missing or found.superseded):  # nobody has to load anything
            return model_unreachable(found.card.name, trouble)
        return model_not_ready(found.card.name, f"{trouble}.")

    def _versions(self, model: str) -> list[str]:
        held = self._library.models.get(model)
        served = held.versions if held is not None else {}
        return sorted({*self._repository.versions(model), *served}, key=int)

    def _absence(self, model: str, version: str | None) -> Problem:
        """Return why a model is not served: there is none, there is no such version, or it is not loaded."""
        available = self._versions(model)
        if not available:
            return model_not_found(model)
        if version is not None and version not in available:
            return version_not_found(model, version)
        held = self._library.models.of(model)
        if held.busy:
            return model_not_ready(model, "it is being loaded.", loading=True)
        return model_not_ready(model, f"{self._why_not(model, version)}.")

    def _why_not(self, model: str, version: str | None) -> str:
        held = self._library.models.of(model)
        if held.reason:
            return held.reason.rstrip(".")
        return f"version {version} is not among those served" if version and held.versions else NOT_WANTED

    def _status(self, name: str, version: str) -> ModelStatus:
        found = self._library.models.find(name, version)
        if found is None:
            return self._status_of_absent(name, version)
        trouble = found.trouble
        return ModelStatus(
            name,
            version,
            "UNAVAILABLE" if trouble else "READY",
            reason=trouble or found.reason,
            runtime=found.engine,
            providers=found.providers,
            card=found.card,
        )

    def _status_of_absent(self, name: str, version: str) -> ModelStatus:
        held = self._library.models.of(name)
        try:
            card, trouble = self._repository.card(name, version), ""
        except Problem as problem:
            card, trouble = None, problem.detail
        if version in held.unloading.values():
            return ModelStatus(name, version, "UNLOADING", card=card)
        if held.busy:
            return ModelStatus(name, version, "LOADING", card=card)
        return ModelStatus(name, version, "UNAVAILABLE", trouble or self._why_not(name, version), card=card)
