"""The writer of the model repository, in Triton's layout: a version is there whole or not at all.

``<root>/<model>/config.pbtxt``, ``<root>/<model>/<version>/{model.onnx, card.json, ...}``. Names that start with a dot
are this module's own (locks, versions being written, versions being removed).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from models.catalog.card import MODEL_NAME, Card
from models.errors import ModelError
from models.repository.locking import locked
from models.repository.triton_config import config_pbtxt

CARD = "card.json"
CONFIG = "config.pbtxt"
MODEL = "model.onnx"
CHUNK = 1 << 20


class RepositoryError(ModelError):
    """The repository cannot do what was asked, or does not hold what it should."""


@dataclass(frozen=True)
class Installed:
    """One version folder; ``card`` is ``None`` and ``problem`` says why where the card cannot be read."""

    name: str
    version: str
    folder: Path
    card: Card | None
    problem: str = ""


def write_version(root: Path, card: Card, files: Mapping[str, Path | bytes], replace: bool = False) -> Path:
    """Put a model version into the repository and give back its folder.

    ``files`` maps paths inside the version folder to where their content is now (it is copied). The card is written
    last, with the sha256 of every file. Raises :class:`RepositoryError` if the version exists and ``replace`` is false,
    or if a path leaves the folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    for path in files:
        _check_path(path)
    with _writing(root, card.name) as scratch:
        model, staged = root / card.name, scratch / card.version
        folder = model / card.version
        if folder.exists() and not replace:
            raise RepositoryError(
                f"{card.name} version {card.version} is in the repository already", "remove it, or write a new version"
            )
        staged.mkdir()
        card = card.model_copy(
            update={"files": {p: _store(content, staged / p) for p, content in sorted(files.items())}}
        )
        _store(card.model_dump_json(indent=1).encode(), staged / CARD)
        _sync_tree(staged)
        if model.is_symlink():
            raise RepositoryError(f"{model} is a symbolic link", "replace it by a real folder")
        newest = all(int(other) <= int(card.version) for other in _versions(model))
        config = _stage_config(staged, card, scratch)
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
            _place_config(config, model)
        _sync_folder(model)
        _sync_folder(root)
    return folder


def next_version(root: Path, name: str) -> str:
    """The number after the highest version folder of ``name``; ``"1"`` for a new model."""
    return str(max((int(version) for version in _versions(_model_folder(root, name))), default=0) + 1)


def installed(root: Path) -> list[Installed]:
    """Every version in the repository, by name and then by version."""
    found = []
    names = (
        sorted(p.name for p in root.iterdir() if p.is_dir() and MODEL_NAME.fullmatch(p.name)) if root.is_dir() else []
    )
    for name in names:
        for version in _versions(root / name):
            folder = root / name / version
            try:
                found.append(Installed(name, version, folder, read_card(folder)))
            except RepositoryError as error:
                found.append(Installed(name, version, folder, None, str(error)))
    return found


def read_card(folder: Path) -> Card:
    """The card of a version folder, which must speak of that folder; raises :class:`RepositoryError`."""
    try:
        card = Card.read(folder)
    except (OSError, ValidationError) as error:
        raise RepositoryError(f"{folder / CARD} cannot be read: {error}", "pull or import the model again") from error
    if (card.name, card.version) != (folder.parent.name, folder.name):
        raise RepositoryError(
            f"{folder / CARD} is the card of {card.name} version {card.version}", "pull or import the model again"
        )
    return card


def verify_version(folder: Path) -> Card:
    """Hash every file of a version against its card; raises :class:`RepositoryError` that names each damaged file."""
    card = read_card(folder)
    problems = []
    for path, expected in card.files.items():
        _check_path(path)
        file = folder / path
        if not file.is_file():
            problems.append(f"{path} is missing")
        elif (actual := sha256(file)) != expected:
            problems.append(f"{path} has sha256 {actual}, expected {expected}")
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    problems.extend(f"{path} is not on the card" for path in sorted(present - card.files.keys() - {CARD}))
    if problems:
        raise RepositoryError(f"{folder} is damaged: {'; '.join(problems)}", "pull or import the model again")
    return card


def latest(root: Path, name: str) -> Path | None:
    """The folder of the highest version of ``name``, whatever its state."""
    model = _model_folder(root, name)
    versions = _versions(model)
    return model / versions[-1] if versions else None


def remove(root: Path, name: str, version: str | None = None) -> None:
    """Remove one version, or the whole model; it disappears at once and is deleted afterwards.

    Raises :class:`RepositoryError` for a name or version that is not a folder of the repository.
    """
    model = _model_folder(root, name)
    if model.is_symlink() or not model.is_dir():
        raise RepositoryError(f"no model {name!r} in {root}", "`sightline models list` shows what there is")
    with _writing(root, name) as scratch:
        versions = _versions(model)
        if version is not None and version not in versions:
            raise RepositoryError(f"{name!r} has no version {version!r}", f"it has {', '.join(versions) or 'none'}")
        if version is None or versions == [version]:
            model.rename(scratch / "removed")
        else:
            left = [other for other in versions if other != version]
            config = _stage_config(model / left[-1], _card_or_none(model / left[-1]), scratch)
            (model / version).rename(scratch / "removed")
            _place_config(config, model)
        _sync_folder(root)


def stale_config(root: Path, name: str) -> str | None:
    """What ``config.pbtxt`` of a model should say, where it says something else; ``None`` where it is right.

    A model whose latest version has no ONNX file of its own should have none: an empty text then.
    """
    model = _model_folder(root, name)
    folder = latest(root, name)
    card = _card_or_none(folder) if folder is not None else None
    if folder is None or card is None:
        return None
    wanted = config_pbtxt(card) if (folder / MODEL).is_file() else ""
    try:
        found = (model / CONFIG).read_text()
    except OSError:
        found = ""
    return wanted if found != wanted else None


def refresh_configs(root: Path) -> list[str]:
    """Write again each ``config.pbtxt`` that is not what this release would write; the models concerned.

    Those of a repository that this process may not write to stay as they are.
    """
    refreshed = []
    for name in sorted({one.name for one in installed(root)}):
        if stale_config(root, name) is None or not os.access(root / name, os.W_OK):
            continue
        with _writing(root, name) as scratch:
            folder = latest(root, name)
            if folder is not None and stale_config(root, name) is not None:
                _place_config(_stage_config(folder, _card_or_none(folder), scratch), root / name)
                refreshed.append(name)
    return refreshed


def sha256(file: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _model_folder(root: Path, name: str) -> Path:
    if not MODEL_NAME.fullmatch(name):
        raise RepositoryError(f"model name {name!r} is not allowed", f"a name matches {MODEL_NAME.pattern}")
    return root / name


def _versions(model: Path) -> list[str]:
    """Version folders in numeric order."""
    if not model.is_dir():
        return []
    names = (p.name for p in model.iterdir() if p.is_dir() and not p.is_symlink())
    return sorted((n for n in names if n.isascii() and n.isdigit() and not n.startswith("0")), key=int)


def _check_path(path: str) -> None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in path or "\0" in path or str(pure) != path:
        raise RepositoryError(f"{path!r} is not a path inside a version folder", "use plain relative paths")
    if path == CARD:
        raise RepositoryError(f"{CARD} is written by the repository", "give the card as a Card")


@contextmanager
def _writing(root: Path, name: str) -> Iterator[Path]:
    """Alone with a model, and with a folder on the repository's own file system, so that a rename is one step."""
    with locked(root / f".{name}.lock"):
        scratch = root / f".{name}.writing"
        shutil.rmtree(scratch, ignore_errors=True)  # left by a writer that was killed
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _store(content: Path | bytes, target: Path) -> str:
    """Copy ``content`` to ``target``, durably, and give its sha256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as out:
        for block in [content] if isinstance(content, bytes) else _blocks(content):
            digest.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(CHUNK):
            yield block


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


def _stage_config(folder: Path, card: Card | None, scratch: Path) -> Path | None:
    """Triton's view of ``folder``, ready to be put in place; ``None`` for a version without an ONNX file."""
    if card is None or not (folder / MODEL).is_file():
        return None
    _store(config_pbtxt(card).encode(), scratch / CONFIG)
    return scratch / CONFIG


def _place_config(staged: Path | None, model: Path) -> None:
    if staged is None:
        (model / CONFIG).unlink(missing_ok=True)
    else:
        staged.replace(model / CONFIG)


def _card_or_none(folder: Path) -> Card | None:
    try:
        return read_card(folder)
    except RepositoryError:
        return None


def _sync_tree(folder: Path) -> None:
    for parent, _, _ in os.walk(folder):
        _sync_folder(Path(parent))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
