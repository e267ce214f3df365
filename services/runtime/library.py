"""The models of one process: opens and closes versions, and follows what other processes were asked to load.

A swap is one assignment on the event loop, so a request finds the old versions or the new ones, never neither; what
it has found it keeps until it is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from models.catalog.card import Card
from services.errors import Problem
from services.runtime.desired_state import Control, DesiredState
from services.runtime.loaded import LoadedModel, Version, Versions, components_of
from services.runtime.problems import model_closing, model_invalid, model_not_found, state_unwritable, version_not_found
from services.runtime.protocol import UNLOADED
from services.runtime.repository import Repository
from services.runtime.served import Served
from services.runtime.version_policy import LATEST, VersionPolicy

WATCH_SECONDS = 1.0
"""How often a process without requests looks what others have loaded."""

_log = logging.getLogger("sightline.runtime")


class Library:
    """``open_version`` makes a version ready to serve from its card; it blocks, and is called in a thread."""

    def __init__(self, repository: Repository, control: Control, open_version: Callable[[Card], Version]) -> None:
        self.repository = repository
        self.control = control
        self.models: dict[str, LoadedModel] = {}
        self._open_version = open_version
        self._watching: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self, preload: tuple[str, ...]) -> None:
        """Load what ``preload`` and earlier loads ask for. What fails is logged, and the rest is served."""
        self.control.refresh()
        wishes = self.control.wishes
        for name in self._wanted(preload):
            await self._carry_out(name, wishes.get(name, DesiredState(True, 0)))
        for name, wish in wishes.items():
            if not wish.loaded:
                self._take_out(self.model(name), wish)
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Refuse what waits, finish what runs, free everything."""
        self._closing = True
        tasks = [task for task in (self._watching, *(held.loading for held in self.models.values())) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for held in self.models.values():
            for served in held.versions.values():
                if isinstance(served, Served):
                    served.abort()
            self._swap(held, {})
        await asyncio.gather(*(task for held in self.models.values() for task in held.leaving))

    def model(self, name: str) -> LoadedModel:
        """What this process holds of a model. Only for names that the repository or the control file has."""
        held = self.models.get(name)
        if held is None:
            held = self.models[name] = LoadedModel()
        return held

    async def load(self, name: str, policy: VersionPolicy | None = None) -> None:
        """Load, or reload, the versions of ``policy`` (as before, when absent) here and in every other process.

        A version whose card has not changed is left as it is. A pipeline's components are loaded with it.
        Raises ``model-not-found``, ``version-not-found``, ``model-invalid``, ``model-damaged``; then all is as it was.
        """
        if self._closing:
            raise model_closing()
        if not self.repository.versions(name):
            raise model_not_found(name)
        held = self.model(name)
        async with held.lock:
            held.opening = True
            try:
                opened = await self._load(name, held, policy)
            finally:
                held.opening = False
        _log.info("loaded %s version %s", name, ", ".join(opened))

    async def _load(self, name: str, held: LoadedModel, policy: VersionPolicy | None) -> Versions:
        self.look()
        wish = self.control.wishes.get(name)
        policy = policy or (wish.policy if wish is not None else LATEST)
        for component in self._components(name, policy):
            if not self.model(component).versions:
                await self.load(component)
        opened = await self._open(name, held, policy)
        made = await self._wish(name, loaded=True, policy=policy)
        while any(one.retired for one in opened.values()):
            # Another process's unload came in between and took out what was to be taken over.
            self._retire(held, opened)
            opened = await self._open(name, held, policy)
        self._install(held, made, opened)
        return opened

    async def unload(self, name: str) -> None:
        """Stop serving it in every process, and wait for the requests that this one has begun."""
        if name not in self.models and not self.repository.versions(name):
            raise model_not_found(name)
        held = self.model(name)
        async with held.lock:
            self._take_out(held, await self._wish(name, loaded=False))
        if held.leaving:
            await asyncio.wait(list(held.leaving))
        _log.info("unloaded %s", name)

    async def _wish(self, name: str, *, loaded: bool, policy: VersionPolicy = LATEST) -> DesiredState:
        try:
            return await asyncio.to_thread(self.control.wish, name, loaded=loaded, policy=policy)
        except OSError as error:
            raise state_unwritable(error) from error

    def look(self) -> None:
        """See what was asked for since the last look: unload at once, begin to load. Costs one ``stat``."""
        if not self.control.refresh() or self._closing:
            return
        for name, wish in self.control.wishes.items():
            held = self.model(name)
            if wish.generation <= held.generation:
                continue
            if not wish.loaded:
                self._take_out(held, wish)
            elif held.loading is None:
                held.loading = asyncio.get_running_loop().create_task(self._catch_up(name, held))

    def awaited(self, name: str, version: str | None) -> Card | None:
        """The card of a version that is about to be served, because a load of another process is being followed."""
        held = self.models.get(name)
        wish = self.control.wishes.get(name)
        if held is None or held.loading is None or wish is None:
            return None
        chosen = wish.policy.choose(self.repository.versions(name))
        if version is None and chosen:
            version = chosen[-1]
        return self.repository.card(name, version) if version is not None and version in chosen else None

    # Opening

    async def _open(self, name: str, held: LoadedModel, policy: VersionPolicy) -> dict[str, Version]:
        """Everything that ``policy`` wants, versions that are served already taken over as they are.

        What is taken over may be retired by an unload before it is installed again.
        """
        available = self.repository.versions(name)
        absent = [version for version in policy.versions if version not in available]
        if absent:
            raise version_not_found(name, absent[0])
        chosen = policy.choose(available)
        if not chosen:
            raise model_not_found(name)
        opened: dict[str, Version] = {}
        for version in chosen:
            card = self.repository.card(name, version)
            old = held.versions.get(version)
            # The card holds the hash of every file: the same card is the same model.
            if old is not None and old.card == card:
                opened[version] = old
            else:
                opened[version] = await asyncio.to_thread(self._open_version, card)
        return opened

    def _components(self, name: str, policy: VersionPolicy) -> list[str]:
        """The models that a pipeline is made of; empty for a model that is none. Raises ``model-invalid``."""
        names: list[str] = []
        for version in policy.choose(self.repository.versions(name)):
            for component in components_of(self.repository.card(name, version)):
                available = self.repository.versions(component)
                if not available or self.repository.card(component, available[-1]).pipeline is not None:
                    raise model_invalid(
                        f"{name}/{version}/card.json: pipeline: {component!r} is not a model with tensors.",
                        f"`sightline models pull {component}`.",
                    )
                names.append(component)
        return names

    # Taking in and out

    def _install(self, held: LoadedModel, wish: DesiredState, opened: dict[str, Version]) -> None:
        """Serve what was opened, unless somebody has asked for something else in the meantime."""
        if held.generation > wish.generation:
            self._retire(held, opened)
            return
        held.generation = wish.generation
        held.reason = ""
        self._swap(held, opened)

    def _take_out(self, held: LoadedModel, wish: DesiredState) -> None:
        if held.generation <= wish.generation:
            held.generation = wish.generation
            held.reason = UNLOADED
            self._swap(held, {})

    def _swap(self, held: LoadedModel, versions: Versions) -> None:
        before = held.versions
        held.replace(versions)
        self._retire(held, before)

    def _retire(self, held: LoadedModel, gone: Versions) -> None:
        """Nobody finds these any more, unless they are served: let what they have begun finish, then free them."""
        for version, old in gone.items():
            if isinstance(old, Served) and not old.retired and held.get(version) is not old:
                old.retired = True
                task = asyncio.get_running_loop().create_task(old.retire())
                held.leaving[task] = version
                task.add_done_callback(lambda done: held.leaving.pop(done))

    # Following the other processes

    def _wanted(self, preload: tuple[str, ...]) -> list[str]:
        """Models to load at start: those of ``preload``, and what was loaded since; not what was unloaded since."""
        names = self.repository.names()
        for name in preload:
            if name != "*" and name not in names:
                _log.error("preload names %r, which is not in the repository", name)
        wishes = self.control.wishes
        return [
            name for name in names if (wishes[name].loaded if name in wishes else name in preload or "*" in preload)
        ]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.look()

    async def _catch_up(self, name: str, held: LoadedModel) -> None:
        try:
            while (wish := self.control.wishes.get(name)) and wish.loaded and wish.generation > held.generation:
                async with held.lock:
                    if wish.generation > held.generation:  # else it was this process's own
                        await self._carry_out(name, wish)
        finally:
            held.loading = None

    async def _carry_out(self, name: str, wish: DesiredState) -> None:
        """Load as ``wish`` says. A failure leaves what is served, and is not tried again and again."""
        if not wish.loaded:
            return
        held = self.model(name)
        try:
            for component in self._components(name, wish.policy):
                if not self.model(component).versions:
                    await self._carry_out(component, self.control.wishes.get(component, DesiredState(True, 0)))
            self._install(held, wish, await self._open(name, held, wish.policy))
        except Exception as error:  # whatever a file makes an engine do: the other models are served
            held.generation = max(held.generation, wish.generation)
            held.reason = str(error)
            _log.error("%s was not loaded: %s", name, error, exc_info=not isinstance(error, Problem))
