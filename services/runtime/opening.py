"""Opens versions of models: those with tensors as an engine does, pipelines with the parts that they are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from models.catalog.card import Card, PartName
from services.runtime.desired_state import DesiredStates
from services.runtime.loaded import LoadedModel, LoadedModels, LoadedPipeline, Version
from services.runtime.problems import model_invalid, model_not_found, version_not_found
from services.runtime.repository import Repository
from services.runtime.served import Served
from services.runtime.version_policy import VersionPolicy


class Opening:
    """``open_version`` makes a version ready to serve from its card; it blocks, and is called in a thread."""

    def __init__(
        self,
        repository: Repository,
        desired: DesiredStates,
        models: LoadedModels,
        open_version: Callable[[Card], Served],
    ) -> None:
        self.open_version = open_version
        self._repository = repository
        self._desired = desired
        self._models = models

    async def versions(self, name: str, held: LoadedModel, policy: VersionPolicy) -> dict[str, Version]:
        """Open everything that ``policy`` wants, versions that are served already taken over as they are.

        What is taken over may be retired by an unload before it is installed again.
        """
        available = self._repository.versions(name)
        absent = [version for version in policy.versions if version not in available]
        if absent:
            raise version_not_found(name, absent[0])

        chosen = policy.choose(available)
        if not chosen:
            raise model_not_found(name)

        opened: dict[str, Version] = {}
        try:
            for version in chosen:
                card = self._repository.card(name, version)
                if card.pipeline is None:
                    opened[version] = await self._tensors(card)
                else:
                    opened[version] = await self.pipeline(card, held.versions.get(version))
        except BaseException:
            self._models.retire(opened.values())
            raise

        return opened

    async def pipeline(self, card: Card, old: Version | None) -> LoadedPipeline:
        """Open a pipeline with the versions of its parts that it names; ``old`` as it is where nothing is different.

        A part that somebody has taken out of service is left out: it is not brought back behind their back.
        """
        assert card.pipeline is not None
        parts: dict[str, Served] = {}
        try:
            for role, part in card.pipeline.parts.items():
                opened = await self._part(card, part)
                if opened is not None:
                    parts[role] = opened
            if isinstance(old, LoadedPipeline) and old.card == card and old.parts == parts:
                return old
            await asyncio.to_thread(self._repository.verify, card.name, card.version)
        except BaseException:
            self._models.retire(parts.values())
            raise

        return LoadedPipeline(self._repository.folder(card.name, card.version), card, parts)

    def parts(self, name: str, policy: VersionPolicy) -> list[str]:
        """Name the models that a pipeline is made of; a model that is none has none. Raises ``model-invalid``."""
        cards = [self._repository.card(name, version) for version in policy.choose(self._repository.versions(name))]
        names: dict[str, None] = {}
        for card in cards:
            for part in card.pipeline.parts.values() if card.pipeline else ():
                self._card_of_part(card, part)
                names[part.name] = None
        return list(names)

    def can_complete(self, version: Version) -> bool:
        """Return whether a pipeline lacks a part that is served again."""
        missing = version.missing if isinstance(version, LoadedPipeline) else ""
        return bool(missing) and bool(self._models.of(missing).versions) and not self._is_out(missing)

    async def _tensors(self, card: Card) -> Served:
        open_already = (
            self._models.of(card.name).versions.get(card.version),
            self._models.pinned(card.name, card.version),
        )
        for old in open_already:
            # The card holds the hash of every file: the same card is the same model.
            if isinstance(old, Served) and old.card == card and not old.retired:
                return old
        return await asyncio.to_thread(self.open_version, card)

    async def _part(self, pipeline: Card, part: PartName) -> Served | None:
        held = self._models.of(part.name)
        async with held.lock:
            if self._is_out(part.name):
                return None
            return await self._tensors(self._card_of_part(pipeline, part))

    def _card_of_part(self, pipeline: Card, part: PartName) -> Card:
        """Read the card of the version that the part names, else of the newest served. Raises ``model-invalid``."""
        served = self._models.of(part.name).latest
        installed = self._repository.versions(part.name)
        newest = served.card.version if served is not None else next(reversed(installed), "")
        version = part.version or newest
        known = version in installed

        card = self._repository.card(part.name, version) if known else None
        if card is None or card.pipeline is not None:
            raise model_invalid(
                f"{pipeline.name}/{pipeline.version}/card.json: pipeline: {str(part)!r} is not a model with tensors.",
                f"`sightline models pull {part.name}`.",
            )
        return card

    def _is_out(self, name: str) -> bool:
        """Return whether somebody has taken a model out of service."""
        state = self._desired.states.get(name)
        return state is not None and not state.loaded
