"""Hashes of files, and versions held against the hashes on their cards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from models.catalog.card import Card
from models.repository.reading import CARD, RepositoryError, read_card

CHUNK = 1 << 20


def sha256(file: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    for block in blocks(file):
        digest.update(block)
    return digest.hexdigest()


def blocks(file: Path) -> Iterator[bytes]:
    """The content of a file in pieces."""
    with file.open("rb") as stream:
        while block := stream.read(CHUNK):
            yield block


def verify_version(folder: Path) -> Card:
    """Hash every file of a version against its card; raises :class:`RepositoryError` that names each damaged file."""
    card = read_card(folder)
    problems = []

    for path, expected in card.files.items():
        check_path(path)
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


def check_path(path: str) -> None:
    """Refuse what is no plain path inside a version folder. Raises :class:`RepositoryError`."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in path or "\0" in path or str(pure) != path:
        raise RepositoryError(f"{path!r} is not a path inside a version folder", "use plain relative paths")
    if path == CARD:
        raise RepositoryError(f"{CARD} is written by the repository", "give the card as a Card")
