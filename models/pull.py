"""From a name in the catalog to a served model: fetch, convert, export, verify, write. Never half a model.

A name is an entry, whose builder makes the files, or a published checkpoint, whose family's converter does.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from models.catalog.card import Card, PartName
from models.catalog.catalog import FOLDER, Catalog, Entry
from models.catalog.lock import Source
from models.catalog.releases import Release
from models.errors import ModelError
from models.families import builder, converter
from models.family import Build
from models.intake.published import published_file, published_folder
from models.intake.sources.fetch import fetch
from models.progress import Progress, silent
from models.repository.hashing import verify_version
from models.repository.locking import locked
from models.repository.ownership import check_name
from models.repository.reading import RepositoryError, latest, read_card
from models.repository.writer import writing

LICENCES = FOLDER / "licences"


def pull(
    name: str,
    repository: Path,
    cache: Path,
    progress: Progress = silent,
    *,
    catalog: Catalog | None = None,
    force: bool = False,
    file: Path | None = None,
) -> Card:
    """The card of ``name``, which is in the repository afterwards with everything that it requires.

    A version that is there, undamaged and as the catalog describes it is left alone (unless ``force``). ``file`` is the
    checkpoint of a release that lies here already: it becomes the model whatever is there. Raises :class:`ModelError`,
    with the repository as it was.
    """
    catalog = catalog or Catalog.read()
    entry = catalog.find(name)
    if isinstance(entry, Release):
        return _pull_published(name, entry, repository, cache, progress, force=force, file=file)
    if file is not None:
        raise ModelError(f"{name} is not made of a file of yours: what it needs is fetched", f"pull {name} without it")

    for need in catalog.requirements(name):
        _pull_one(catalog.entry(need), repository, cache, progress, catalog, False)

    return _pull_one(entry, repository, cache, progress, catalog, force)


def makes(name: str, catalog: Catalog) -> tuple[str, ...]:
    """The models that pulling ``name`` may write, itself the last; raises :class:`ModelError` as :func:`pull` does."""
    found = catalog.find(name)
    if isinstance(found, Release):
        return (*converter(found.family).parts(name), name)
    return (*catalog.requirements(name), name)


def verify(repository: Path, name: str) -> Card:
    """Hash every file of the latest version of ``name`` against its card.

    Raises :class:`RepositoryError` that names what is missing or damaged.
    """
    folder = latest(repository, name)
    if folder is None:
        raise not_installed(name, repository)
    return verify_version(folder)


def not_installed(name: str, repository: Path) -> RepositoryError:
    """The refusal of a name that is not in the repository: only what the catalog knows can be pulled."""
    known = name in Catalog.read().names
    remedy = f"`sightline models pull {name}`" if known else "`sightline models list` shows what there is"
    return RepositoryError(f"no model {name!r} in {repository}", remedy)


def _pull_published(
    name: str,
    release: Release,
    repository: Path,
    cache: Path,
    progress: Progress,
    *,
    force: bool,
    file: Path | None,
) -> Card:
    names = (*converter(release.family).parts(name), name)
    from models.convert import convert  # after the line has said which packages are missing

    # Held through the whole pull, as the name's own lock is for an entry.
    with locked(published_folder(cache, name).with_name(f".{name}.lock")):
        if file is None and not force and (there := _converted(names, repository)) is not None:
            return there
        return convert(name, file or published_file(name, release, cache, progress), repository, progress)[-1]


def _converted(names: tuple[str, ...], repository: Path) -> Card | None:
    """The card of the last of the models of a release, where all of them are there and none is damaged."""
    for one in names:
        check_name(repository, one, key=None)
    try:
        return [verify(repository, one) for one in names][-1]
    except RepositoryError:
        return None


def _pull_one(entry: Entry, repository: Path, cache: Path, progress: Progress, catalog: Catalog, force: bool) -> Card:
    card = entry.card
    # Held through the whole pull: who comes second waits, and then finds the work done.
    with writing(repository, card.name) as held:
        check_name(repository, card.name, key=None)
        there = None if force else _intact(card, repository)
        if there is not None and there.pipeline == card.pipeline:
            return there
        if there is not None:  # written before parts were pinned: its files are right as they are
            folder = repository / card.name / card.version
            return Card.read(held.write(card, {path: folder / path for path in there.files}, replace=True))

        build = builder(entry).build
        sources = {source: fetch(source, cache, progress, dict(catalog.sources)) for source in entry.sources}
        job = Build(card, entry.options, sources, repository, held.work, progress)
        files = {**_notices(entry, sources, catalog), **build(job)}
        _check_complete(card, files.keys())
        return Card.read(held.write(card, files, replace=True))


def _intact(card: Card, repository: Path) -> Card | None:
    """The installed card where it is what the catalog would write, ``card``, and no file is damaged.

    One of an earlier release names the parts of a pipeline without their versions, and counts as the same.
    """
    folder = repository / card.name / card.version
    if not folder.is_dir():
        return None

    try:
        there = read_card(folder)
    except RepositoryError:
        return None

    if there.model_copy(update={"files": {}}) not in (card, _without_pins(card)):
        return None

    try:
        return verify_version(folder)
    except RepositoryError:
        return None


def _without_pins(card: Card) -> Card:
    """``card`` as it was written when a pipeline named its parts without their versions."""
    if card.pipeline is None:
        return card
    parts = {role: PartName(part.name) for role, part in card.pipeline.parts.items()}
    return card.model_copy(update={"pipeline": card.pipeline.model_copy(update={"parts": parts})})


def _notices(entry: Entry, sources: dict[str, Path], catalog: Catalog) -> dict[str, Path | bytes]:
    """Licence texts and upstream notices, which stay beside the weights."""
    notices: dict[str, Path | bytes] = {}
    for source_id, folder in sources.items():
        source: Source = catalog.sources[source_id]
        for member in source.members:
            if member.is_notice:
                unique = member.name if member.name not in notices else f"{member.name}.{source_id}"
                notices[unique] = folder / member.name
    text = LICENCES / f"{entry.card.licence.spdx}.txt"
    if text.is_file():
        notices[f"LICENSE.{text.name}"] = text
    return notices


def _check_complete(card: Card, files: Collection[str]) -> None:
    """A card promises files; a version without them would fail only when it is served."""
    promised = {
        "licence.file": card.licence.file,
        "text.tokenizer": card.text.tokenizer if card.text else None,
        "pipeline.data": card.pipeline.data if card.pipeline else None,
    }
    for field, file in promised.items():
        if file is not None and file not in files:
            raise ModelError(f"card.{field} of {card.name} names {file}, which its builder does not give")
