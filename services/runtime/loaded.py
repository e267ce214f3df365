"""What one process holds of models: the versions that it serves, and how far it has followed what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from models.catalog.card import Card
from services.runtime.problems import model_is_pipeline
from services.runtime.protocol import Inference, Options, Tensor, next_generation
from services.runtime.served import DEFAULT, Served


class LoadedPipeline:
    """A pipeline with the versions that it is made of, by role; it has no tensors of its own.

    ``parts`` were opened for it together and stay open as long as it is served, whatever takes their place under their
    own names. A part that somebody has taken out of service is missing, or ``retired``.
    """

    engine = "pipeline"
    providers: tuple[str, ...] = ()
    reason = ""
    retired = False

    def __init__(self, folder: Path, card: Card, parts: Mapping[str, Served]) -> None:
        self.folder = folder
        self.card = card
        self.parts = parts
        self.generation = next_generation()

    def __enter__(self) -> Self:
        for part in self.parts.values():
            part.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for part in self.parts.values():
            part.__exit__(kind, error, traceback)

    @property
    def missing(self) -> str:
        """The name of a part that is out of service; empty when all are there."""
        pipeline = self.card.pipeline
        for role, name in (pipeline.parts if pipeline is not None else {}).items():
            part = self.parts.get(role)
            if part is None or part.retired:
                return name.name
        return ""

    @property
    def superseded(self) -> str:
        """The name of a part whose files others have taken the place of, under the same number; mostly empty."""
        return next((part.card.name for part in self.parts.values() if part.superseded), "")

    @property
    def trouble(self) -> str:
        """Why it cannot answer; empty when it can."""
        if self.superseded:
            return f"its component {self.superseded!r} was replaced, and is no longer the one that it was opened with"
        missing = self.missing or next((part.card.name for part in self.parts.values() if part.trouble), "")
        return f"its component {missing!r} is not ready" if missing else ""

    async def infer(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None, options: Options = DEFAULT
    ) -> Inference:
        """Raises ``model-is-pipeline``."""
        raise model_is_pipeline(self.card.name, self.card.pipeline.kind if self.card.pipeline is not None else "")

    async def stream(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None, options: Options = DEFAULT
    ) -> AsyncGenerator[Inference, None]:
        """Raises ``model-is-pipeline``."""
        yield await self.infer(inputs, outputs, options)


Version = Served | LoadedPipeline
Versions = Mapping[str, Version]


@dataclass(slots=True, eq=False)
class LoadedModel:
    """``versions`` are served, ``unloading`` finish what they began.

    ``generation`` is that of the newest state that was carried out or failed; ``loading`` follows a newer one, and
    ``opening`` says that this process itself was told to load. ``lock`` is held while versions are opened or taken
    out. ``reason`` says why nothing, or nothing newer, is served.
    """

    versions: Versions = field(default_factory=dict)
    latest: Version | None = None
    unloading: dict[asyncio.Task[None], str] = field(default_factory=dict)
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


class LoadedModels(dict[str, LoadedModel]):
    """What one process holds of every model, by name. From one event loop.

    A swap is one assignment, so a request finds the old versions or the new ones, never neither; what it has found it
    keeps until it is done. A pipeline is swapped with all of its parts: these stay open while it is served, though
    newer versions may have taken their names.
    """

    def of(self, name: str) -> LoadedModel:
        """Return what is held of a model. Only for names that the repository or the control file has."""
        held = self.get(name)
        if held is None:
            held = self[name] = LoadedModel()
        return held

    def find(self, name: str, version: str | None) -> Version | None:
        """Find what serves a version; also one that is kept for a pipeline only, to who asks for its number."""
        held = self.get(name)
        found = None if held is None else held.get(version)
        return found if found is not None or version is None else self.pinned(name, version)

    def pinned(self, name: str, version: str) -> Served | None:
        """Find what is served of a version as a part of a pipeline."""
        for part in self.served():
            if (part.card.name, part.card.version) == (name, version) and not part.retired:
                return part
        return None

    def served(self) -> Iterator[Served]:
        """Everything with tensors that is served, under its own name or as a part."""
        for held in self.values():
            for version in held.versions.values():
                yield from (version,) if isinstance(version, Served) else version.parts.values()

    def swap(self, held: LoadedModel, versions: Versions) -> None:
        """Serve ``versions`` of a model from now on, and no others of it."""
        before = held.versions
        held.replace(versions)
        self.retire(before.values())

    def retire(self, gone: Iterable[Version]) -> None:
        """Nobody finds these any more, unless they are served: let what they have begun finish, then free them."""
        in_use = set(self.served())
        for old in gone:
            for one in (old, *old.parts.values()):
                if isinstance(one, Served) and one not in in_use:
                    self._let_go(one)

    def take_out(self, name: str) -> None:
        """Serve nothing of a model any more, as a part neither: an unload is to give the memory back."""
        self.swap(self.of(name), {})
        for part in [part for part in self.served() if part.card.name == name]:
            self._let_go(part)

    def _let_go(self, served: Served) -> None:
        if served.retired:
            return
        served.retired = True
        unloading = self.of(served.card.name).unloading
        task = asyncio.get_running_loop().create_task(served.retire())
        unloading[task] = served.card.version
        task.add_done_callback(unloading.pop)


def components_of(card: Card) -> tuple[str, ...]:
    """The models that a card's pipeline is made of; empty for a card without one."""
    return () if card.pipeline is None else tuple(part.name for part in card.pipeline.parts.values())
