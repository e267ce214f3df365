"""What the model repository holds: its layout, its versions, their cards. Nothing here writes.

``<root>/<model>/config.pbtxt``, ``<root>/<model>/<version>/{model.onnx, card.json, ...}``. Names that start with a dot
are the writers' own (locks, versions being written, versions being removed).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from models.catalog.card import MODEL_NAME, Card, PartName
from models.errors import ModelError

CARD = "card.json"
CONFIG = "config.pbtxt"
MODEL = "model.onnx"


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


def installed(root: Path) -> list[Installed]:
    """Every version in the repository, by name and then by version."""
    if not root.is_dir():
        return []
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and MODEL_NAME.fullmatch(path.name))
    return [one for name in names for one in installed_versions(root, name)]


def installed_versions(root: Path, name: str) -> list[Installed]:
    """Every version of one model, oldest first; empty for a model that is not there."""
    found = []
    for version in versions_of(root, name):
        folder = root / name / version
        try:
            found.append(Installed(name, version, folder, read_card(folder)))
        except RepositoryError as error:
            found.append(Installed(name, version, folder, None, str(error)))
    return found


def pipelines_on(
    root: Path, names: Collection[str], version: str | None = None
) -> Iterator[tuple[Installed, PartName]]:
    """Every version of a pipeline outside of ``names`` with each of them that it is made of.

    With ``version`` only where this one would be missed: by a pipeline that names it, or that takes the newest while
    there is no other.
    """
    for one in installed(root):
        pipeline = None if one.card is None or one.name in names else one.card.pipeline
        for part in () if pipeline is None else pipeline.parts.values():
            if part.name in names and _misses(root, part, version):
                yield one, part


def _misses(root: Path, part: PartName, version: str | None) -> bool:
    if version is None:
        return True
    if part.version is None:
        return versions_of(root, part.name) == [version]
    return part.version == version


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


def card_or_none(folder: Path) -> Card | None:
    """The card of a version folder where it can be read."""
    try:
        return read_card(folder)
    except RepositoryError:
        return None


def latest(root: Path, name: str) -> Path | None:
    """The folder of the highest version of ``name``, whatever its state."""
    versions = versions_of(root, name)
    return root / name / versions[-1] if versions else None


def next_version(root: Path, name: str) -> str:
    """The number after the highest version folder of ``name``; ``"1"`` for a new model."""
    return str(max((int(version) for version in versions_of(root, name)), default=0) + 1)


def versions_of(root: Path, name: str) -> list[str]:
    """The version folders of a model in numeric order. Raises :class:`RepositoryError` for what is no model's name."""
    model = model_folder(root, name)
    if not model.is_dir():
        return []
    names = (path.name for path in model.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted((name for name in names if name.isascii() and name.isdigit() and not name.startswith("0")), key=int)


def model_folder(root: Path, name: str) -> Path:
    """Return where a model lies, or would lie. Raises :class:`RepositoryError` for what is no model's name."""
    if not MODEL_NAME.fullmatch(name):
        raise RepositoryError(f"model name {name!r} is not allowed", f"a name matches {MODEL_NAME.pattern}")
    return root / name
