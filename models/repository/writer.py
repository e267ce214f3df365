"""The one way in and out of the model repository: a version is there whole or not at all, and has one owner.

Pulling, converting, importing, fine-tuning, pre-training and promoting all end in :meth:`Writing.write`, under the
lock of the model's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from models.catalog.card import Card
from models.repository.config_files import place_config, stage_config
from models.repository.durable import store, sync_folder, sync_tree
from models.repository.hashing import check_path
from models.repository.locking import alone_with
from models.repository.ownership import (
    OWNERSHIP,
    MadeBy,
    Ownership,
    check_name,
    is_import,
    ownership_file,
    ownership_of,
    parts_of,
    written,
)
from models.repository.reading import CARD, RepositoryError, card_or_none, model_folder, pipelines_on, versions_of

Files = Mapping[str, Path | bytes]
"""Paths inside a version folder, and where their content is now: it is copied."""


@contextmanager
def writing(root: Path, *names: str, wait: float | None = None) -> Iterator[Writing]:
    """Be alone with models: nobody else writes, removes or shares versions of ``names`` until the block ends.

    All names that are to be written are taken at once. ``wait``: seconds at most. Raises
    :class:`~models.repository.locking.Busy`::

        with writing(root, "pets") as held:
            card = describe(version=next_version(root, "pets"))
            held.write(card, {"model.onnx": exported}, made_by=MadeBy(key=owner, job=job_id))
    """
    for name in names:
        model_folder(root, name)
    with alone_with(root, *names, wait=wait) as scratch:
        yield Writing(root, frozenset(names), scratch)


@contextmanager
def writing_whole(root: Path, name: str, wait: float | None = None) -> Iterator[Writing]:
    """Be alone with a model and all that was made as its parts: to share or to remove it."""
    while True:
        names = (name, *parts_of(root, name))
        with writing(root, *names, wait=wait) as held:
            if (name, *parts_of(root, name)) == names:  # no job has given it another part meanwhile
                yield held
                return


def write_version(
    root: Path, card: Card, files: Files, *, made_by: MadeBy | None = None, replace: bool = False
) -> Path:
    """Put one version into the repository and give back its folder. See :meth:`Writing.write`."""
    with writing(root, card.name) as held:
        return held.write(card, files, made_by=made_by, replace=replace)


@contextmanager
def removing(root: Path, name: str, version: str | None = None, *, force: bool = False) -> Iterator[Writing]:
    """Be alone with a model that goes, or a version of it, and its parts; the block calls :meth:`Writing.remove`.

    Raises :class:`RepositoryError` for a model that is not there, and unless ``force`` for one that a pipeline needs.
    """
    model = model_folder(root, name)
    if model.is_symlink() or not model.is_dir():
        raise RepositoryError(f"no model {name!r} in {root}", "`sightline models list` shows what there is")

    with writing_whole(root, name) as held:
        needed = None if force else next(pipelines_on(root, held.names, version), None)
        if needed is not None:
            pipeline, part = needed
            raise RepositoryError(
                f"{pipeline.name!r} version {pipeline.version} is made of {str(part)!r}",
                f"`sightline models remove {pipeline.name}` first, or add --force: {pipeline.name} will not answer",
            )
        yield held


def remove(root: Path, name: str, version: str | None = None, *, force: bool = False) -> None:
    """Remove one version, or the whole model with its parts; see :func:`removing` and :meth:`Writing.remove`."""
    with removing(root, name, version, force=force) as held:
        held.remove(name, version)


class Writing:
    """What :func:`writing` gives: the only thing that changes the repository."""

    def __init__(self, root: Path, names: frozenset[str], scratch: Path) -> None:
        self.root = root
        self.names = names
        self._scratch = scratch

    @property
    def work(self) -> Path:
        """A folder to build in, on the repository's own file system; removed when the block ends."""
        folder = self._scratch / "work"
        folder.mkdir(exist_ok=True)
        return folder

    def write(
        self,
        card: Card,
        files: Files,
        *,
        made_by: MadeBy | None = None,
        part_of: str | None = None,
        replace: bool = False,
    ) -> Path:
        """Put a version into the repository and give back its folder.

        The card is written last, with the sha256 of every file. ``made_by`` is the job that made it, ``part_of`` the
        pipeline that it was made for. ``replace`` writes over a version of the same number; one that a job has made
        only if it was this very job. Raises :class:`NameTaken` for a name of another, and :class:`RepositoryError` if
        the version exists or a path leaves the folder; then all is as it was.
        """
        self._check_held(card.name)
        for path in files:
            check_path(path)
        model, staged = self.root / card.name, self._scratch / card.version
        folder = model / card.version
        if model.is_symlink():
            raise RepositoryError(f"{model} is a symbolic link", "replace it by a real folder")
        ownership = self._owner_after(card, made_by, part_of, replace)

        staged.mkdir()
        hashes = {path: store(content, staged / path) for path, content in sorted(files.items())}
        card = card.model_copy(update={"files": hashes})
        store(card.model_dump_json(indent=1).encode(), staged / CARD)
        sync_tree(staged)
        newest = all(int(other) <= int(card.version) for other in versions_of(self.root, card.name))
        config = stage_config(staged, card, self._scratch)
        owner = self._stage_ownership(ownership)

        # From here on nothing takes space or time: only names change.
        new = not model.exists()
        model.mkdir(exist_ok=True)
        try:
            if owner is not None:
                owner.replace(model / OWNERSHIP)  # before the version: it is nobody else's for no moment
            elif not versions_of(self.root, card.name):
                (model / OWNERSHIP).unlink(missing_ok=True)  # of a writer that died before its first version
            _swap(staged, folder, self._scratch / f"replaced-{card.name}-{card.version}")
        except OSError:
            if new:
                (model / OWNERSHIP).unlink(missing_ok=True)
                model.rmdir()
            raise
        if newest:
            place_config(config, model)
        sync_folder(model)
        sync_folder(self.root)
        return folder

    def remove(self, name: str, version: str | None = None) -> None:
        """Remove one version, or a whole model with its parts; it disappears at once and is deleted afterwards.

        Raises :class:`RepositoryError` for a name or version that is not a folder of the repository.
        """
        self._check_held(name)
        model, versions = self.root / name, versions_of(self.root, name)
        if version is not None and version not in versions:
            raise RepositoryError(f"{name!r} has no version {version!r}", f"it has {', '.join(versions) or 'none'}")

        if version is not None and versions != [version]:
            newest = next(other for other in reversed(versions) if other != version)
            config = stage_config(model / newest, card_or_none(model / newest), self._scratch)
            (model / version).rename(self._scratch / f"removed-{name}")
            place_config(config, model)
        else:
            for one in (name, *parts_of(self.root, name)):  # the whole first: what is left of it serves nobody
                self._check_held(one)
                (self.root / one).rename(self._scratch / f"removed-{one}")
        sync_folder(self.root)

    def share(self, name: str, shared: bool) -> None:
        """Let every key use a model of one, and the parts of it, or no longer.

        Raises :class:`RepositoryError` for a model that no key has made, and for a part.
        """
        self._check_held(name)
        ownership = ownership_of(self.root, name)
        if ownership is None:
            raise RepositoryError(f"no key has made {name!r}", "everybody sees the models of the platform")
        if ownership.part_of is not None:
            raise RepositoryError(f"{name!r} is a part of {ownership.part_of!r}", f"share {ownership.part_of}")

        staged = self._stage_ownership(ownership.model_copy(update={"shared": shared}))
        assert staged is not None
        staged.replace(ownership_file(self.root, name))
        sync_folder(self.root / name)

    def _owner_after(self, card: Card, made_by: MadeBy | None, part_of: str | None, replace: bool) -> Ownership | None:
        """Whose the model is once ``card`` is written; ``None`` for the platform's. Raises what :meth:`write` does."""
        key = None if made_by is None else made_by.key
        check_name(self.root, card.name, key=key, imported=is_import(card))

        before = ownership_of(self.root, card.name)
        if (self.root / card.name / card.version).exists():
            own = made_by is None or (before is not None and before.jobs.get(card.version) == made_by.job)
            if not (replace and own):
                raise RepositoryError(
                    f"{card.name} version {card.version} is in the repository already",
                    "remove it, or write a new version",
                )

        if made_by is None:
            return None
        before = before or Ownership(key=made_by.key)
        return before.with_version(card.version, made_by.job).model_copy(update={"part_of": part_of})

    def _stage_ownership(self, ownership: Ownership | None) -> Path | None:
        if ownership is None:
            return None
        staged = self._scratch / OWNERSHIP
        staged.unlink(missing_ok=True)  # of a version that could not be put in place
        store(written(ownership), staged)
        return staged

    def _check_held(self, name: str) -> None:
        if name not in self.names:
            raise ValueError(f"{name!r} is written without its lock; held are {', '.join(sorted(self.names))}")


def _swap(staged: Path, folder: Path, aside: Path) -> None:
    """``staged`` becomes ``folder``; what was there goes aside, and comes back if that fails."""
    if not folder.exists():
        staged.rename(folder)
        return
    folder.rename(aside)
    try:
        staged.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
