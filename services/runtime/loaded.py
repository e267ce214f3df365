"""What one process holds of a model: the versions that it serves, and how far it has followed what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.catalog.card import Card
from services.runtime.served import Served


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A loaded pipeline: no tensors of its own. It is ready when its components are."""

    folder: Path
    card: Card
    engine: str = "pipeline"
    providers: tuple[str, ...] = ()
    reason: str = ""
    retired: bool = False

    @property
    def kind(self) -> str:
        return self.card.pipeline.kind if self.card.pipeline is not None else ""


Version = Served | LoadedPipeline
Versions = Mapping[str, Version]


@dataclass(slots=True, eq=False)
class LoadedModel:
    """``versions`` are served, ``leaving`` finish what they began.

    ``generation`` is that of the newest wish that was carried out or failed; ``loading`` follows a newer one, and
    ``opening`` says that this process itself was told to load. ``lock`` is held while versions are opened or taken
    out. ``reason`` says why nothing, or nothing newer, is served.
    """

    versions: Versions = field(default_factory=dict)
    latest: Version | None = None
    leaving: dict[asyncio.Task[None], str] = field(default_factory=dict)
    generation: int = 0
    reason: str = ""
    loading: asyncio.Task[None] | None = None
    opening: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def busy(self) -> bool:
        return self.opening or self.loading is not None

    def get(self, version: str | None) -> Version | None:
        return self.latest if version is None else self.versions.get(version)

    def replace(self, versions: Versions) -> None:
        self.versions = versions
        self.latest = versions[max(versions, key=int)] if versions else None


def components_of(card: Card) -> tuple[str, ...]:
    """The models that a card's pipeline is made of; empty for a card without one."""
    if card.pipeline is None:
        return ()
    return tuple(name for name in (card.pipeline.image_model, card.pipeline.text_model) if name is not None)
