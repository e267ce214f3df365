"""The writer of the model repository, in Triton's layout: a version is there whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.catalog.card import Card
from models.repository.config_files import place_config, stage_config
from models.repository.durable import store, sync_folder, sync_tree
from models.repository.hashing import check_path
from models.repository.locking import alone_with
from models.repository.reading import CARD, RepositoryError, card_or_none, model_folder, versions_of


def write_version(root: Path, card: Card, files: Mapping[str, Path | bytes], replace: bool = False) -> Path:
    """Put a model version into the repository and give back its folder.

    ``files`` maps paths inside the version folder to where their content is now (it is copied). The card is written
    last, with the sha256 of every file. Raises :class:`RepositoryError` if the version exists and ``replace`` is false,
    or if a path leaves the folder.
    """
    for path in files:
        check_path(path)
    with alone_with(root, card.name) as scratch:
        model, staged = root / card.name, scratch / card.version
        folder = model / card.version
        if folder.exists() and not replace:
            raise RepositoryError(
                f"{card.name} version {card.version} is in the repository already", "remove it, or write a new version"
            )
        staged.mkdir()
        card = card.model_copy(
            update={"files": {p: store(content, staged / p) for p, content in sorted(files.items())}}
        )
        store(card.model_dump_json(indent=1).encode(), staged / CARD)
        sync_tree(staged)
        if model.is_symlink():
            raise RepositoryError(f"{model} is a symbolic link", "replace it by a real folder")
        newest = all(int(other) <= int(card.version) for other in versions_of(root, card.name))
        config = stage_config(staged, card, scratch)
        # From here on nothing takes space or time: only names change.
        new = not model.exists()
        model.mkdir(exist_ok=True)
        try:
            _swap(staged, folder, scratch / "replaced")
        except OSError:
            if new:
                model.rmdir()
            raise
        if newest:
            place_config(config, model)
        sync_folder(model)
        sync_folder(root)
    return folder


def remove(root: Path, name: str, version: str | None = None) -> None:
    """Remove one version, or the whole model; it disappears at once and is deleted afterwards.

    Raises :class:`RepositoryError` for a name or version that is not a folder of the repository.
    """
    model = model_folder(root, name)
    if model.is_symlink() or not model.is_dir():
        raise RepositoryError(f"no model {name!r} in {root}", "`sightline models list` shows what there is")
    with alone_with(root, name) as scratch:
        versions = versions_of(root, name)
        if version is not None and version not in versions:
            raise RepositoryError(f"{name!r} has no version {version!r}", f"it has {', '.join(versions) or 'none'}")
        if version is None or versions == [version]:
            model.rename(scratch / "removed")
        else:
            left = [other for other in versions if other != version]
            config = stage_config(model / left[-1], card_or_none(model / left[-1]), scratch)
            (model / version).rename(scratch / "removed")
            place_config(config, model)
        sync_folder(root)


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
