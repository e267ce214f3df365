"""The data sets of every key: a row to list and describe, and a package in the artifact store.

Row and package appear in one transaction, so that nothing half-imported is ever seen. Methods block.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, Row, delete, insert, select
from sqlalchemy.exc import IntegrityError

from services.datasets.archive import ArchiveLimits, Watch
from services.datasets.importing import Imported, Progress, import_archive
from services.datasets.package import Package, count
from services.datasets.samples import Task
from services.errors import Kind, Problem
from services.media.intake import Limits
from services.storage.artifacts import ArtifactStore
from services.storage.database import reading, writing
from services.storage.drafts import CHUNK
from services.storage.ids import is_id, new_id
from services.storage.tables import artifacts, datasets

_PART_SECONDS = 24 * 3600.0  # far longer than a package takes to be copied


@dataclass(frozen=True, slots=True)
class Dataset:
    """One imported set; ``splits`` counts images, ``counts`` labelled images (or boxes) of every class."""

    id: str
    owner: str
    name: str
    task: Task
    format: str
    classes: list[str]
    splits: dict[str, int]
    counts: dict[str, int]
    flaws: list[dict[str, Any]]
    flaw_count: int
    artifact_id: str
    created_at: float
    account: dict[str, Any] | None = None
    """The layout, why it was taken, and every file and annotation by what became of it; ``None`` for older imports."""


class DatasetStore:
    """Imports, lists and opens data sets. ``scratch`` is on the artifact store's file system where that is local."""

    def __init__(self, engine: Engine, store: ArtifactStore, scratch: Path, images: Limits) -> None:
        self._engine = engine
        self._artifacts = store
        self._scratch = scratch
        self._images = images

    def import_(
        self,
        owner: str,
        name: str,
        archive: Path,
        *,
        strict: bool = False,
        layout: str | None = None,
        allow_losses: bool = False,
        limits: ArchiveLimits | None = None,
        progress: Progress = lambda done, total: None,
        watch: Watch = lambda: None,
    ) -> Dataset:
        """Import ``archive``, as :func:`import_archive` does, into the room that ``owner`` has left.

        Raises ``archive-*``, ``dataset-*``, ``artifact-quota``, and ``dataset-exists`` where the name is taken.
        """
        watch()
        if self._named(owner, name) is not None:
            raise _exists(name)

        self._scratch.mkdir(parents=True, exist_ok=True)
        package = self._scratch / f"{new_id('pkg')}.zip"
        try:
            imported = import_archive(
                archive,
                name,
                package,
                self._images,
                limits or ArchiveLimits(),
                strict=strict,
                layout=layout,
                allow_losses=allow_losses,
                afford=self._artifacts.affordable(owner),
                progress=progress,
                watch=watch,
            )
            return self._keep(owner, imported, package)
        finally:
            package.unlink(missing_ok=True)

    def adopt(self, owner: str, name: str, package: Path) -> Dataset:
        """A package that lies ready as a set of ``owner``; one of that name with the same content is given back.

        Raises ``dataset-exists`` where the name stands for something else.
        """
        known = self._named(owner, name)
        if known is not None:
            with package.open("rb") as source:
                same = hashlib.file_digest(source, "sha256").hexdigest()
            if self._artifacts.by_id(known.artifact_id).sha256 != same:
                raise _exists(name)
            return known

        with Package(package) as opened:
            counts = count((stored.sample for stored in opened.samples), opened.classes)
            imported = Imported(name, opened.task, "package", opened.classes, counts, [], 0)

        return self._keep(owner, imported, package)

    def _keep(self, owner: str, imported: Imported, package: Path) -> Dataset:
        """Row and package in one transaction."""
        name = imported.name
        with self._artifacts.draft() as draft, package.open("rb") as source:
            while chunk := source.read(CHUNK):
                draft.write(chunk)

            def record(connection: Connection) -> Dataset:
                stored = self._artifacts.record(
                    connection, draft, owner, f"{name}.zip", "application/zip", role="dataset"
                )
                return _insert(connection, owner, imported, stored.id)

            try:
                return self._artifacts.publish([draft], record)
            except IntegrityError as error:
                raise _exists(name) from error

    def get(self, owner: str, reference: str) -> Dataset:
        """By id or by name. Raises ``dataset-not-found``, whether unknown or another's."""
        if is_id(reference, "ds"):
            with reading(self._engine) as connection:
                row = connection.execute(
                    select(datasets).where(datasets.c.id == reference, datasets.c.owner == owner)
                ).one_or_none()
            found = None if row is None else _dataset_of(row)
        else:
            # Nothing is called so, and PostgreSQL would not be asked.
            found = None if "\0" in reference else self._named(owner, reference)

        if found is None:
            raise Problem(
                Kind.NOT_FOUND,
                "dataset-not-found",
                "Data set does not exist",
                f"No data set of yours is called {reference[:64]!r}.",
                remedy="List yours with GET /v1/datasets; data sets belong to the key that uploaded them.",
            )

        return found

    def list(self, owner: str, *, limit: int = 100, after: str | None = None) -> list[Dataset]:
        """The owner's sets, newest first, those before the id ``after``."""
        query = select(datasets).where(datasets.c.owner == owner)
        if after is not None:
            query = query.where(datasets.c.id < after)
        with reading(self._engine) as connection:
            return [_dataset_of(row) for row in connection.execute(query.order_by(datasets.c.id.desc()).limit(limit))]

    def delete(self, owner: str, reference: str) -> None:
        dataset = self.get(owner, reference)
        artifact = self._artifacts.by_id(dataset.artifact_id)
        with writing(self._engine) as connection:
            connection.execute(delete(datasets).where(datasets.c.id == dataset.id))
            connection.execute(delete(artifacts).where(artifacts.c.id == dataset.artifact_id))
        self._artifacts.collect([artifact.sha256])

    @contextmanager
    def open(self, dataset: Dataset, cache: Path) -> Iterator[Package]:
        """The set's package, copied into the folder ``cache`` once."""
        artifact = self._artifacts.by_id(dataset.artifact_id)
        local = cache / f"{artifact.sha256}.zip"
        if not local.exists():
            cache.mkdir(parents=True, exist_ok=True)
            partial = cache / f"{new_id('pkg')}.part"
            try:
                self._artifacts.copy_to(artifact, partial)
                partial.rename(local)
            finally:
                partial.unlink(missing_ok=True)
        with Package(local) as package:
            yield package

    def tidy(self, cache: Path) -> int:
        """Remove from ``cache`` the packages of sets that were deleted; returns how many."""
        # Listed before the database is asked: a package is copied after its set is there.
        found = list(cache.iterdir()) if cache.is_dir() else []
        with reading(self._engine) as connection:
            joined = select(artifacts.c.sha256).join(datasets, datasets.c.artifact_id == artifacts.c.id)
            wanted = {f"{sha256}.zip" for sha256 in connection.scalars(joined)}
        limit, gone = time.time() - _PART_SECONDS, 0
        for path in found:
            with suppress(FileNotFoundError):  # several tidy up
                if path.name not in wanted and (path.suffix != ".part" or path.stat().st_mtime < limit):
                    path.unlink()
                    gone += 1
        return gone

    def _named(self, owner: str, name: str) -> Dataset | None:
        with reading(self._engine) as connection:
            row = connection.execute(
                select(datasets).where(datasets.c.owner == owner, datasets.c.name == name)
            ).one_or_none()
        return None if row is None else _dataset_of(row)


def _insert(connection: Connection, owner: str, imported: Imported, artifact_id: str) -> Dataset:
    dataset = Dataset(
        id=new_id("ds"),
        owner=owner,
        name=imported.name,
        task=imported.task,
        format=imported.format,
        classes=imported.classes,
        splits=imported.counts.splits,
        counts=imported.counts.classes,
        flaws=[{"file": flaw.file, "line": flaw.line, "message": flaw.message} for flaw in imported.flaws],
        flaw_count=imported.flaw_count,
        artifact_id=artifact_id,
        created_at=time.time(),
        account=_account(imported),
    )
    connection.execute(insert(datasets).values(**asdict(dataset)))
    return dataset


def _account(imported: Imported) -> dict[str, Any] | None:
    if imported.layout is None or imported.account is None:
        return None
    return {"layout": asdict(imported.layout), **imported.account.document()}


def _dataset_of(row: Row[tuple[object, ...]]) -> Dataset:
    return Dataset(**cast(dict[str, Any], row._mapping))


def _exists(name: str) -> Problem:
    return Problem(
        Kind.CONFLICT,
        "dataset-exists",
        "A data set of that name exists",
        f"You have a data set called {name!r} already.",
        remedy="Delete it first, or choose another name.",
    )
