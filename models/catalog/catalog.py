"""The catalog: everything that can be pulled, by name.

A servable model is one YAML file, read strictly, with the hashes of ``sources.lock`` on its card; a published
checkpoint is a release, whose models are made of its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.catalog.card import Card, Provenance
from models.catalog.lock import LOCK, HubSource, Source, read_lock
from models.catalog.releases import Release, releases
from models.errors import ModelError, invalid_fields

FOLDER = Path(__file__).parent
BUILD = re.compile(r"[a-z0-9][a-z0-9-]*")


class CatalogError(ModelError):
    """A catalog file that is not right, or a name that is not in the catalog."""


class Entry(BaseModel):
    """How one model comes to be. ``default`` entries are what ``pull`` without names pulls.

    ``build`` is a name among the builders of the card's family (:func:`models.families.builder`); ``requires`` names
    entries that are pulled first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: bool = False
    build: str
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    sources: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    card: Card

    @model_validator(mode="after")
    def _build_is_a_name(self) -> Entry:
        if not BUILD.fullmatch(self.build):
            raise ValueError(f"build {self.build!r} is not the name of a builder")
        if self.card.files:
            raise ValueError("card.files is written by the repository")
        return self


@dataclass(frozen=True)
class Catalog:
    """Every entry by name, the sources that they are made of, and every published checkpoint by name.

    >>> Catalog.read().find("focalnet-tiny-srf").title
    'FocalNet-T (small receptive field), ImageNet-1K'
    """

    entries: Mapping[str, Entry]
    sources: Mapping[str, Source]
    releases: Mapping[str, Release] = field(default_factory=dict)

    @staticmethod
    def read(folder: Path = FOLDER, lock: Path = LOCK) -> Catalog:
        """All of it, checked; raises :class:`CatalogError` that names file, field and remedy."""
        sources = read_lock(lock)
        entries = {}
        for path in sorted(folder.glob("*.yaml")):
            entry = _entry(path)
            for source in entry.sources:
                if source not in sources:
                    raise CatalogError(f"{path}: sources: {source!r} is not in {lock.name}", f"pin it in {lock}")
            entries[path.stem] = _with_provenance(entry, sources)

        for name, entry in entries.items():
            _check_requirements(name, entry, entries, folder)

        published = releases(folder / "releases")
        for name in entries.keys() & published.keys():
            raise CatalogError(f"{folder / name}.yaml: {name!r} is a published checkpoint too", "rename one of them")

        return Catalog(entries, sources, published)

    @property
    def defaults(self) -> tuple[str, ...]:
        """What ``pull`` without names pulls, requirements before what requires them."""
        wanted = [name for name, entry in self.entries.items() if entry.default]
        return tuple(dict.fromkeys(need for name in wanted for need in (*self.requirements(name), name)))

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that can be pulled."""
        return (*self.entries, *self.releases)

    def find(self, name: str) -> Entry | Release:
        """Return what is pulled under ``name``; raises :class:`CatalogError` that lists the names there are."""
        found = self.entries.get(name) or self.releases.get(name)
        if found is None:
            raise CatalogError(f"no model {name!r} in the catalog", f"it has {', '.join(self.names)}")
        return found

    def entry(self, name: str) -> Entry:
        """The entry; raises :class:`CatalogError` as :meth:`find` does, and for a published checkpoint."""
        found = self.find(name)
        if isinstance(found, Release):
            raise CatalogError(
                f"{name} has no card yet: it is written when its checkpoint becomes a model",
                f"sightline models pull {name}",
            )
        return found

    def requirements(self, name: str) -> tuple[str, ...]:
        """Every entry that the entry ``name`` stands on, deepest first."""
        return tuple(dict.fromkeys(_deep(self.entries, name)))

    def download_size(self, name: str) -> int | None:
        """Bytes that are fetched for ``name`` and what it stands on; ``None`` where no host states them."""
        found = self.find(name)
        if isinstance(found, Release):
            return found.size
        needed = (*self.requirements(name), name)
        sources = {source: self.sources[source] for need in needed for source in self.entries[need].sources}
        return sum(map(_size, sources.values()))


def _deep(entries: Mapping[str, Entry], name: str) -> Iterator[str]:
    for need in entries[name].requires:
        yield from _deep(entries, need)
        yield need


def _size(source: Source) -> int:
    return sum(member.size for member in source.members) if isinstance(source, HubSource) else source.size


def _entry(path: Path) -> Entry:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}", "reinstall the package") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path} is not YAML: {error}", "correct the line that it names") from error
    try:
        entry = Entry.model_validate(content)
    except ValidationError as error:
        raise CatalogError(f"{path}: {invalid_fields(error)}", "correct what is named") from error
    if entry.card.name != path.stem:
        raise CatalogError(f"{path}: card.name is {entry.card.name!r}", f"name the file {entry.card.name}.yaml")
    return entry


def _with_provenance(entry: Entry, sources: Mapping[str, Source]) -> Entry:
    """Say on the card which bytes it is made of: what a person needs to fetch and check them again."""
    provenance = tuple(
        Provenance(source=source.address, member=member.path, sha256=member.sha256, note=source.note)
        for source in (sources[name] for name in entry.sources)
        for member in source.members
        if not member.is_notice
    )
    card = entry.card.model_copy(update={"provenance": (*entry.card.provenance, *provenance)})
    return entry.model_copy(update={"card": card})


def _check_requirements(name: str, entry: Entry, entries: Mapping[str, Entry], folder: Path) -> None:
    path = folder / f"{name}.yaml"
    reached: set[str] = set()
    todo = list(entry.requires)
    while todo:
        need = todo.pop()
        if need not in entries:
            raise CatalogError(f"{path}: requires: {need!r} is not in the catalog", "correct the name")
        if need == name:
            raise CatalogError(f"{path}: requires: {name!r} requires itself in the end", "break the circle")
        if need not in reached:
            reached.add(need)
            todo.extend(entries[need].requires)
