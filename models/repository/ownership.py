"""Who made a model, and whether others may use it: one private file beside the versions, and never a card.

``<root>/<model>/ownership.json``. A model without one is the platform's: pulled, converted or imported, for everybody.
The file belongs to the name, since a name has one owner, whatever versions it gets. A card is shown to everybody, and
a changed card has every process load its model again: sharing changes neither.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.catalog.card import Card
from models.repository.reading import CARD, RepositoryError, installed_versions, model_folder, versions_of

OWNERSHIP = "ownership.json"
IMPORT = "import:"
"""What the source of an imported model begins with."""

NOBODY = ""
"""The key of an owner that cannot be read any more: only administrators see such a model."""

_OLD_NOTE = re.compile(r"made by job (\S+) for (\S+)")
"""What the first provenance of a card said before there was :class:`Ownership`."""


class MadeBy(BaseModel):
    """The job that made a version, and the key that the job belongs to."""

    model_config = ConfigDict(frozen=True)

    key: str
    job: str


class Ownership(BaseModel):
    """Whose a model is. See the module's docstring."""

    model_config = ConfigDict(frozen=True)

    key: str
    shared: bool = False
    part_of: str | None = Field(None, description="The pipeline that a tower was made for, and is shared with")
    jobs: dict[str, str] = Field(default_factory=dict, description="The job that made a version, by version")

    def with_version(self, version: str, job: str) -> Ownership:
        """The same, with one version more."""
        return self.model_copy(update={"jobs": {**self.jobs, version: job}})


class NameTaken(RepositoryError):
    """A model of this name exists, and it is not for the one who asks to write versions of it."""


def ownership_of(root: Path, name: str) -> Ownership | None:
    """Whose ``name`` is; ``None`` for the platform's models and for what is not there. Reads one file, seldom more.

    Raises :class:`RepositoryError` for what is no model's name.
    """
    versions = versions_of(root, name)
    if not versions:
        return None  # of a writer that died before its first version was in place
    try:
        return Ownership.model_validate_json((root / name / OWNERSHIP).read_bytes())
    except FileNotFoundError:
        return _of_old_notes(root / name, versions)
    except (OSError, ValidationError):
        return Ownership(key=NOBODY)


def version_of(root: Path, name: str, made_by: MadeBy) -> str | None:
    """The version of ``name`` that an attempt at this very job has written; ``None`` where there is none."""
    ownership = ownership_of(root, name)
    if ownership is None or ownership.key != made_by.key:
        return None
    own = (version for version in versions_of(root, name) if ownership.jobs.get(version) == made_by.job)
    return next(own, None)


def parts_of(root: Path, name: str) -> tuple[str, ...]:
    """The models that were made as parts of ``name``: they are shared and removed with it."""
    owned = sorted(path.parents[1].name for path in root.glob(f"{name}-*/*/{CARD}"))
    found = ((part, ownership_of(root, part)) for part in dict.fromkeys(owned))
    return tuple(part for part, ownership in found if ownership is not None and ownership.part_of == name)


def check_name(root: Path, name: str, *, key: str | None, imported: bool = False) -> None:
    """Refuse a name whose versions another has made. Raises :class:`NameTaken`.

    ``key`` is the one that a job writes for, ``None`` for whoever pulls, converts or imports on the machine itself;
    ``imported`` says that the version to be written is an import.
    """
    existing = installed_versions(root, name)
    if not existing:
        return

    ownership = ownership_of(root, name)
    if (None if ownership is None else ownership.key) != key:
        maker = "of the platform" if ownership is None else "that a key has made"
        raise NameTaken(
            f"{name!r} in {root} is a model {maker}",
            f"choose another name, or `sightline models remove {name}` first",
        )

    imports = {is_import(one.card) for one in existing if one.card is not None}
    if key is None and (not imported) in imports:
        maker = "of the catalog, which you pulled" if imported else "that you imported, not the catalog's"
        raise NameTaken(
            f"{name!r} in {root} is a model {maker}",
            f"`sightline models remove {name}` first, or import yours under another name",
        )


def is_import(card: Card) -> bool:
    """Return whether a card is of a model that somebody brought: no pull and no conversion takes its name."""
    return bool(card.provenance) and all(origin.source.startswith(IMPORT) for origin in card.provenance)


def written(ownership: Ownership) -> bytes:
    """The content of the file."""
    return ownership.model_dump_json(indent=1, exclude_none=True).encode()


def ownership_file(root: Path, name: str) -> Path:
    """Return where :func:`written` lies, or would lie."""
    return model_folder(root, name) / OWNERSHIP


def _of_old_notes(model: Path, versions: list[str]) -> Ownership | None:
    """The owner that cards named in a note before this release, the newest version's; part of what its name says."""
    found: Ownership | None = None
    for version in versions:
        try:
            card = json.loads((model / version / CARD).read_bytes())
            note = _OLD_NOTE.fullmatch(card["provenance"][0]["note"])
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            continue
        if note is None:
            continue
        is_tower = card.get("family") == "pretrained" and not card.get("pipeline")
        whole = model.name.rpartition("-")[0] if is_tower else None
        before = found.jobs if found is not None else {}
        found = Ownership(key=note[2], part_of=whole, jobs={**before, version: note[1]})

    return found
