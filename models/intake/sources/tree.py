"""Whole folders of archives, checked as one: for data sets of thousands of small files."""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from models.catalog.lock import Tree
from models.errors import HashMismatch, SourceError
from models.intake.sources.archive import CHUNK, DAMAGED, Format
from models.repository.hashing import sha256

MOST_LINKS = 8
"""How many links may lead to a file."""


def extract_trees(archive: Path, form: Format, trees: Iterable[Tree], folder: Path) -> None:
    """Write every tree into ``folder`` and check it. A link to a file of the same tree becomes a copy of that file.

    Raises :class:`SourceError` for more files or bytes than pinned or a name that leads out of the folder, and
    :class:`HashMismatch` for other bytes.
    """
    wanted = list(trees)
    if not wanted:
        return
    if form == "none":
        raise SourceError(f"{archive.name} is no archive, so it has no folders", "correct sources.lock")

    left = {tree.name: [tree.files, tree.size] for tree in wanted}
    try:
        for place, tree, stream in _files(archive, form, wanted, folder):
            target, bounds = folder / tree.name / place, left[tree.name]
            bounds[0] -= 1
            bounds[1] -= _write(stream, target, bounds[1])
            if bounds[0] < 0:
                raise SourceError(
                    f"{tree.path!r} in {archive.name} has more than the pinned {tree.files} files",
                    "check it with its publisher",
                )
    except DAMAGED as error:
        raise SourceError(f"{archive.name} is damaged: {error}", "pull again") from error

    for tree in wanted:
        if (actual := digest(folder / tree.name)) != tree.sha256:
            raise HashMismatch(tree.path, tree.sha256, actual)


def digest(folder: Path) -> str:
    """Of all files below ``folder``: sha256 over one line a file, its hash and its place, by place."""
    total = hashlib.sha256()
    places = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for place in places:
        total.update(f"{sha256(folder / place)}  {place}\n".encode())
    return total.hexdigest()


def _files(archive: Path, form: Format, trees: list[Tree], folder: Path) -> Iterator[tuple[str, Tree, IO[bytes]]]:
    """Files of the trees: the place below the tree's folder, the tree, and what is in it."""
    if form == "zip":
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                for tree in trees:
                    if not info.is_dir() and (place := _inside(info.filename, tree)) is not None:
                        with packed.open(info) as stream:
                            yield place, tree, stream
        return

    links: dict[str, str] = {}
    with tarfile.open(archive, "r:*") as packed_tar:
        for entry in packed_tar:  # in the archive's order: going back in a compressed one starts it again
            name = entry.name.removeprefix("./")
            if entry.issym():
                links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.linkname))
            for tree in trees:
                if entry.isreg() and (place := _inside(name, tree)) is not None:
                    tar_stream = packed_tar.extractfile(entry)
                    assert tar_stream is not None
                    with tar_stream:
                        yield place, tree, tar_stream

    for name in links:
        for tree in trees:
            if (place := _inside(name, tree)) is not None and (file := _linked(name, links, tree)) is not None:
                written = folder / tree.name / file
                if written.is_file():
                    with written.open("rb") as copied:
                        yield place, tree, copied


def _linked(name: str, links: Mapping[str, str], tree: Tree) -> str | None:
    """The place that a link leads to in the end; ``None`` when it leaves its tree."""
    for _ in range(MOST_LINKS):
        if name not in links:
            return _inside(name, tree) if name.startswith(f"{tree.path}/") else None
        name = links[name]
    return None


def _inside(name: str, tree: Tree) -> str | None:
    """The place below the tree's folder; ``None`` for what does not belong to it."""
    if not name.startswith(f"{tree.path}/") or not name.endswith(tree.suffix):
        return None
    place = name[len(tree.path) + 1 :]
    parts = PurePosixPath(place).parts
    if not parts or place.startswith("/") or ".." in parts or "\\" in place or "\0" in place:
        raise SourceError(f"{name!r} leads out of {tree.path!r}", "do not use this archive")
    return place


def _write(stream: IO[bytes], target: Path, limit: int) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with target.open("xb") as out:
        while block := stream.read(CHUNK):
            written += len(block)
            if written > limit:
                raise SourceError(f"{target.name} makes its folder larger than pinned", "check it with its publisher")
            out.write(block)
    return written
