"""The catalog: one YAML file a servable model, read strictly, with the hashes of ``sources.lock`` on its card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.catalog.card import Card, Provenance
from models.catalog.lock import LOCK, Source, read_lock
from models.catalog.releases import releases
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
    """Every entry by name, and the sources that they are made of."""

    entries: Mapping[str, Entry]
    sources: Mapping[str, Source]

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
        return Catalog(entries, sources)

    @property
    def defaults(self) -> tuple[str, ...]:
        """What ``pull`` without names pulls, requirements before what requires them."""
        wanted = [name for name, entry in self.entries.items() if entry.default]
        return tuple(dict.fromkeys(need for name in wanted for need in (*self.requirements(name), name)))

    def entry(self, name: str) -> Entry:
        """The entry; raises :class:`CatalogError` that lists the names there are."""
        if name not in self.entries:
            if name in releases():  # its weights are pinned by nobody, so that they cannot be pulled
                raise CatalogError(
                    f"{name} is made of a file that you download",
                    f"{releases()[name].remedy.rstrip('.')}. Then: sightline models convert {name} FILE",
                )
            raise CatalogError(f"no model {name!r} in the catalog", f"it has {', '.join(self.entries)}")
        return self.entries[name]

    def requirements(self, name: str) -> tuple[str, ...]:
        """Everything that ``name`` stands on, deepest first."""
        return tuple(dict.fromkeys(_deep(self.entries, name)))


def _deep(entries: Mapping[str, Entry], name: str) -> Iterator[str]:
    for need in entries[name].requires:
        yield from _deep(entries, need)
        yield need


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
