"""The models of one process: opens and closes versions, and follows what other processes were asked to load.

A swap is one assignment on the event loop, so a request finds the old versions or the new ones, never neither; what
it has found it keeps until it is done. A pipeline is swapped with all of its parts: these stay open while it is served,
though newer versions may have taken their names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from models.catalog.card import Card, PartName
from services.errors import Problem
from services.runtime.desired_state import DesiredState, DesiredStates
from services.runtime.loaded import LoadedModel, LoadedPipeline, Version, Versions
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

    def __init__(self, repository: Repository, desired: DesiredStates, open_version: Callable[[Card], Served]) -> None:
        self.repository = repository
        self.desired = desired
        self.models: dict[str, LoadedModel] = {}
        self._open_version = open_version
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

        for served in [*self.served()]:
            served.abort()
        for held in self.models.values():
            self._swap(held, {})
        await asyncio.gather(*chain.from_iterable(held.leaving for held in self.models.values()))

    def model(self, name: str) -> LoadedModel:
        """Return what this process holds of a model. Only for names that the repository or the control file has."""
        held = self.models.get(name)
        if held is None:
            held = self.models[name] = LoadedModel()
        return held

    def find(self, name: str, version: str | None) -> Version | None:
        """Find what serves a version; also one that is kept for a pipeline only, to who asks for its number."""
        held = self.models.get(name)
        found = None if held is None else held.get(version)
        return found if found is not None or version is None else self._pinned(name, version)

    async def load(self, name: str, policy: VersionPolicy | None = None) -> None:
        """Load, or reload, the versions of ``policy`` (as before, when absent) here and in every other process.

        A version whose card has not changed is left as it is. A pipeline's parts are loaded with it.
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

        await self._complete()
        _log.info("loaded %s version %s", name, ", ".join(opened))

    async def _load(self, name: str, held: LoadedModel, policy: VersionPolicy | None) -> Versions:
        self.look()
        state = self.desired.states.get(name)
        policy = policy or (state.policy if state is not None else LATEST)
        for part in self._parts(name, policy):
            if not self.model(part).versions:
                await self.load(part)

        opened = await self._open(name, held, policy)
        made = await self._write_down(name, loaded=True, policy=policy)
        while any(one.retired or self._can_complete(one) for one in opened.values()):
            # Another process's unload or load came in between, and took out or brought what was to be taken over.
            self._retire(opened.values())
            opened = await self._open(name, held, policy)

        self._install(held, made, opened)
        return opened

    async def unload(self, name: str) -> None:
        """Stop serving it in every process, and wait for the requests that this one has begun."""
        if name not in self.models and not self.repository.versions(name):
            raise model_not_found(name)
        held = self.model(name)
        async with held.lock:
            self._take_out(name, await self._write_down(name, loaded=False))
        if held.leaving:
            await asyncio.wait(list(held.leaving))
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
            held = self.model(name)
            if state.generation <= held.generation:
                continue
            if not state.loaded:
                self._take_out(name, state)
            elif held.loading is None:
                held.loading = asyncio.get_running_loop().create_task(self._catch_up(name, held))

    # Opening

    async def _open(self, name: str, held: LoadedModel, policy: VersionPolicy) -> dict[str, Version]:
        """Open everything that ``policy`` wants, versions that are served already taken over as they are.

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
        try:
            for version in chosen:
                card = self.repository.card(name, version)
                if card.pipeline is None:
                    opened[version] = await self._open_tensors(card)
                else:
                    opened[version] = await self._open_pipeline(card, held.versions.get(version))
        except BaseException:
            self._retire(opened.values())
            raise

        return opened

    async def _open_tensors(self, card: Card) -> Served:
        open_already = (self.model(card.name).versions.get(card.version), self._pinned(card.name, card.version))
        for old in open_already:
            # The card holds the hash of every file: the same card is the same model.
            if isinstance(old, Served) and old.card == card and not old.retired:
                return old
        return await asyncio.to_thread(self._open_version, card)

    async def _open_pipeline(self, card: Card, old: Version | None) -> LoadedPipeline:
        """Open a pipeline with the versions of its parts that it names; ``old`` as it is where nothing is different.

        A part that somebody has taken out of service is left out: it is not brought back behind their back.
        """
        assert card.pipeline is not None
        parts: dict[str, Served] = {}
        try:
            for role, part in card.pipeline.parts.items():
                opened = await self._open_part(card, part)
                if opened is not None:
                    parts[role] = opened
            if isinstance(old, LoadedPipeline) and old.card == card and old.parts == parts:
                return old
            await asyncio.to_thread(self.repository.verify, card.name, card.version)
        except BaseException:
            self._retire(parts.values())
            raise

        return LoadedPipeline(self.repository.folder(card.name, card.version), card, parts)

    async def _open_part(self, pipeline: Card, part: PartName) -> Served | None:
        held = self.model(part.name)
        async with held.lock:
            if self._is_out(part.name):
                return None
            return await self._open_tensors(self._card_of_part(pipeline, part))

    def _card_of_part(self, pipeline: Card, part: PartName) -> Card:
        """Read the card of the version that the part names, else of the newest served. Raises ``model-invalid``."""
        served = self.model(part.name).latest
        newest = served.card.version if served is not None else next(iter(self.repository.versions(part.name)[-1:]), "")
        version = part.version or newest
        known = version in self.repository.versions(part.name)

        card = self.repository.card(part.name, version) if known else None
        if card is None or card.pipeline is not None:
            raise model_invalid(
                f"{pipeline.name}/{pipeline.version}/card.json: pipeline: {str(part)!r} is not a model with tensors.",
                f"`sightline models pull {part.name}`.",
            )
        return card

    def _parts(self, name: str, policy: VersionPolicy) -> list[str]:
        """Name the models that a pipeline is made of; a model that is none has none. Raises ``model-invalid``."""
        cards = [self.repository.card(name, version) for version in policy.choose(self.repository.versions(name))]
        names: dict[str, None] = {}
        for card in cards:
            for part in card.pipeline.parts.values() if card.pipeline else ():
                self._card_of_part(card, part)
                names[part.name] = None
        return list(names)

    async def _complete(self) -> None:
        """Put together pipelines that had to do without a part which is served again."""
        for held in list(self.models.values()):
            for version, old in list(held.versions.items()):
                if held.busy or not self._can_complete(old):
                    continue

                async with held.lock:
                    try:
                        whole = await self._open_pipeline(old.card, old)
                    except Exception as error:
                        _log.error("%s is not put together again: %s", old.card.name, error)
                        continue

                    if held.versions.get(version) is old and not self._closing:
                        self._swap(held, {**held.versions, version: whole})
                    else:
                        self._retire([whole])

    def _can_complete(self, version: Version) -> bool:
        missing = version.missing if isinstance(version, LoadedPipeline) else ""
        return bool(missing) and bool(self.model(missing).versions) and not self._is_out(missing)

    def _is_out(self, name: str) -> bool:
        """Return whether somebody has taken a model out of service."""
        state = self.desired.states.get(name)
        return state is not None and not state.loaded

    # Taking in and out

    def _install(self, held: LoadedModel, state: DesiredState, opened: dict[str, Version]) -> None:
        """Serve what was opened, unless somebody has asked for something else in the meantime."""
        if held.generation > state.generation:
            self._retire(opened.values())
            return
        held.generation = state.generation
        held.reason = ""
        self._swap(held, opened)

    def _take_out(self, name: str, state: DesiredState) -> None:
        held = self.model(name)
        if held.generation <= state.generation:
            held.generation = state.generation
            held.reason = UNLOADED
            self._swap(held, {})
            # Also what pipelines use of it: an unload is to give the memory back.
            for part in [part for part in self.served() if part.card.name == name]:
                self._let_go(part)

    def _swap(self, held: LoadedModel, versions: Versions) -> None:
        before = held.versions
        held.replace(versions)
        self._retire(before.values())

    def _retire(self, gone: Iterable[Version]) -> None:
        """Nobody finds these any more, unless they are served: let what they have begun finish, then free them."""
        in_use = set(self.served())
        for old in gone:
            for one in (old, *old.parts.values()):
                if isinstance(one, Served) and one not in in_use:
                    self._let_go(one)

    def _let_go(self, served: Served) -> None:
        if served.retired:
            return
        served.retired = True
        leaving = self.model(served.card.name).leaving
        task = asyncio.get_running_loop().create_task(served.retire())
        leaving[task] = served.card.version
        task.add_done_callback(leaving.pop)

    def served(self) -> Iterator[Served]:
        """Everything with tensors that is served, under its own name or as a part."""
        for held in self.models.values():
            for version in held.versions.values():
                yield from (version,) if isinstance(version, Served) else version.parts.values()

    def _pinned(self, name: str, version: str) -> Served | None:
        """Find what is served of a version as a part of a pipeline."""
        for part in self.served():
            if (part.card.name, part.card.version) == (name, version) and not part.retired:
                return part
        return None

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

        held = self.model(name)
        try:
            for part in self._parts(name, state.policy):
                async with self.model(part).lock:
                    if not self.model(part).versions:
                        await self._carry_out(part, self.desired.states.get(part, DesiredState(True, 0)))
            self._install(held, state, await self._open(name, held, state.policy))
        except Exception as error:  # whatever a file makes an engine do: the other models are served
            held.generation = max(held.generation, state.generation)
            held.reason = str(error)
            _log.error("%s was not loaded: %s", name, error, exc_info=not isinstance(error, Problem))
