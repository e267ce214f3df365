"""The models of one process: loads and unloads them, and follows what other processes were asked to load."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import chain

from models.catalog.card import Card
from services.errors import Problem
from services.runtime.desired_state import DesiredState, DesiredStates
from services.runtime.loaded import LoadedModel, LoadedModels, Version, Versions
from services.runtime.opening import Opening
from services.runtime.problems import model_closing, model_not_found, state_unwritable
from services.runtime.protocol import UNLOADED
from services.runtime.repository import Repository
from services.runtime.served import Served
from services.runtime.version_policy import LATEST, VersionPolicy

WATCH_SECONDS = 1.0
"""How often a process without requests looks what others have loaded."""

_log = logging.getLogger("sightline.runtime")


class Library:
    """``open_version`` makes a version ready to serve from its card; it blocks, and is called in a thread."""

    def __init__(self, repository: Repository, desired: DesiredStates, open_version: Callable[[Card], Served]) -> None:
        self.repository = repository
        self.desired = desired
        self.models = LoadedModels()
        self.opening = Opening(repository, desired, self.models, open_version)
        self._watching: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self, preload: tuple[str, ...]) -> None:
        """Load what ``preload`` and earlier loads ask for. What fails is logged, and the rest is served."""
        self.desired.refresh()
        states = self.desired.states
        for name in self._wanted(preload):
            await self._carry_out(name, states.get(name, DesiredState(True, 0)))
        for name, state in states.items():
            if not state.loaded:
                self._take_out(name, state)
        await self._complete()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Refuse what waits, finish what runs, free everything."""
        self._closing = True
        loading = [held.loading for held in self.models.values()]
        tasks = [task for task in (self._watching, *loading) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        for served in [*self.models.served()]:
            served.abort()
        for held in self.models.values():
            self.models.swap(held, {})
        await asyncio.gather(*chain.from_iterable(held.unloading for held in self.models.values()))

    async def load(self, name: str, policy: VersionPolicy | None = None) -> None:
        """Load, or reload, the versions of ``policy`` (as before, when absent) here and in every other process.

        A version whose card has not changed is left as it is. A pipeline's parts are loaded with it.
        Raises ``model-not-found``, ``version-not-found``, ``model-invalid``, ``model-damaged``; then all is as it was.
        """
        if self._closing:
            raise model_closing()
        if not self.repository.versions(name):
            raise model_not_found(name)

        held = self.models.of(name)
        async with held.lock:
            held.opening = True
            try:
                opened = await self._load(name, held, policy)
            finally:
                held.opening = False

        await self._complete()
        _log.info("loaded %s version %s", name, ", ".join(opened))

    async def _load(self, name: str, held: LoadedModel, policy: VersionPolicy | None) -> Versions:
        self.look()
        state = self.desired.states.get(name)
        policy = policy or (state.policy if state is not None else LATEST)
        for part in self.opening.parts(name, policy):
            if not self.models.of(part).versions:
                await self.load(part)

        opened = await self.opening.versions(name, held, policy)
        made = await self._write_down(name, loaded=True, policy=policy)
        while any(one.retired or self.opening.can_complete(one) for one in opened.values()):
            # Another process's unload or load came in between, and took out or brought what was to be taken over.
            self.models.retire(opened.values())
            opened = await self.opening.versions(name, held, policy)

        self._install(held, made, opened)
        return opened

    async def unload(self, name: str) -> None:
        """Stop serving it in every process, and wait for the requests that this one has begun."""
        if name not in self.models and not self.repository.versions(name):
            raise model_not_found(name)
        held = self.models.of(name)
        async with held.lock:
            self._take_out(name, await self._write_down(name, loaded=False))
        if held.unloading:
            await asyncio.wait(list(held.unloading))
        _log.info("unloaded %s", name)

    async def _write_down(self, name: str, *, loaded: bool, policy: VersionPolicy = LATEST) -> DesiredState:
        try:
            return await asyncio.to_thread(self.desired.write, name, loaded=loaded, policy=policy)
        except OSError as error:
            raise state_unwritable(error) from error

    def look(self) -> None:
        """See what was asked for since the last look: unload at once, begin to load. Costs one ``stat``."""
        if not self.desired.refresh() or self._closing:
            return
        for name, state in self.desired.states.items():
            held = self.models.of(name)
            if state.generation <= held.generation:
                continue
            if not state.loaded:
                self._take_out(name, state)
            elif held.loading is None:
                held.loading = asyncio.get_running_loop().create_task(self._catch_up(name, held))

    async def _complete(self) -> None:
        """Put together pipelines that had to do without a part which is served again."""
        for held in list(self.models.values()):
            for version, old in list(held.versions.items()):
                if held.busy or not self.opening.can_complete(old):
                    continue

                async with held.lock:
                    try:
                        whole = await self.opening.pipeline(old.card, old)
                    except Exception as error:
                        _log.error("%s is not put together again: %s", old.card.name, error)
                        continue

                    if held.versions.get(version) is old and not self._closing:
                        self.models.swap(held, {**held.versions, version: whole})
                    else:
                        self.models.retire([whole])

    # Taking in and out

    def _install(self, held: LoadedModel, state: DesiredState, opened: dict[str, Version]) -> None:
        """Serve what was opened, unless somebody has asked for something else in the meantime."""
        if held.generation > state.generation:
            self.models.retire(opened.values())
            return
        held.generation = state.generation
        held.reason = ""
        self.models.swap(held, opened)

    def _take_out(self, name: str, state: DesiredState) -> None:
        held = self.models.of(name)
        if held.generation <= state.generation:
            held.generation = state.generation
            held.reason = UNLOADED
            self.models.take_out(name)

    # Following the other processes

    def _wanted(self, preload: tuple[str, ...]) -> list[str]:
        """Models to load at start: those of ``preload``, and what was loaded since; not what was unloaded since."""
        names = self.repository.names()
        for name in preload:
            if name != "*" and name not in names:
                _log.error("preload names %r, which is not in the repository", name)
        states = self.desired.states
        return [
            name for name in names if (states[name].loaded if name in states else name in preload or "*" in preload)
        ]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.look()

    async def _catch_up(self, name: str, held: LoadedModel) -> None:
        try:
            while (state := self.desired.states.get(name)) and state.loaded and state.generation > held.generation:
                async with held.lock:
                    if state.generation > held.generation:  # else it was this process's own
                        await self._carry_out(name, state)
            await self._complete()
        finally:
            held.loading = None

    async def _carry_out(self, name: str, state: DesiredState) -> None:
        """Load as ``state`` says. A failure leaves what is served, and is not tried again and again."""
        if not state.loaded:
            return

        held = self.models.of(name)
        try:
            for part in self.opening.parts(name, state.policy):
                async with self.models.of(part).lock:
                    if not self.models.of(part).versions:
                        await self._carry_out(part, self.desired.states.get(part, DesiredState(True, 0)))
            self._install(held, state, await self.opening.versions(name, held, state.policy))
        except Exception as error:  # whatever a file makes an engine do: the other models are served
            held.generation = max(held.generation, state.generation)
            held.reason = str(error)
            _log.error("%s was not loaded: %s", name, error, exc_info=not isinstance(error, Problem))
