"""Unpack an uploaded zip or tar without trusting it: every entry is checked, every byte is counted.

Sizes in headers are claims; what counts here is what comes out of the decompressor. Links, devices, absolute and
climbing paths, encrypted entries, names that differ only in case and names that are a file and a folder at once are
refused. Headers and directories are bounded too: they cost memory before an entry can be looked at. A refusal leaves
nothing behind: the caller unpacks into a directory of its own and removes it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from services.datasets.archive.limits import (
    CHUNK,
    CORRUPT,
    ArchiveLimits,
    Budget,
    Entry,
    Watch,
    bomb,
    refusal,
    reraise_trouble,
)
from services.datasets.archive.names import Names, safe_name
from services.datasets.archive.tars import tar_entries
from services.datasets.archive.zips import zip_entries
from services.errors import Problem


def unpack(
    archive: Path,
    into: Path,
    limits: ArchiveLimits,
    skipped: list[str] | None = None,
    *,
    budget: Budget | None = None,
    watch: Watch = lambda: None,
) -> list[str]:
    """Unpack ``archive`` (zip, tar, tar.gz, tar.bz2 or tar.xz by its content) and return the entries' names.

    Files of operating systems (``.DS_Store``) are not unpacked; their names go to ``skipped``. ``budget`` is what the
    upload that ``archive`` lies in has left. Raises :class:`Problem` ``archive-*`` naming the entry.
    """
    names: list[str] = []
    taken = Names()
    budget = budget or Budget(limits, archive.stat().st_size)
    for entry in _entries(archive, limits, budget.left):
        watch()
        name = safe_name(entry.name)
        if name is None:
            if skipped is not None and len(skipped) < limits.max_entries:
                skipped.append(entry.name)
            continue

        budget.take_entry()
        taken.add(name)
        if entry.guessed:
            budget.guessed.append(name)
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            budget.left -= _copy(entry, target, min(budget.left, limits.max_entry_bytes), watch)
        except CORRUPT as error:
            reraise_trouble(error)
            raise refusal("archive-corrupt", f"Entry {name!r} cannot be read: {error}.") from error
        names.append(name)

    if not names:
        raise refusal("archive-empty", "The archive holds no files.")

    return names


def unpack_nested(
    names: list[str], root: Path, limits: ArchiveLimits, skipped: list[str], *, budget: Budget, watch: Watch
) -> list[str]:
    """Unpack the zips among ``names`` below ``root``, one level deep, each into a folder of the zip's name.

    ELEVATER sets carry their images so. ``budget`` is that of the whole upload.
    """
    found = [name for name in names if not name.lower().endswith(".zip")]
    for name in (name for name in names if name.lower().endswith(".zip")):
        inner = root.parent / f"{root.name}.inner"
        (root / name).rename(inner)
        budget.left += inner.stat().st_size  # what lies in it takes its place
        budget.entries += 1
        target = root / name
        target.mkdir()
        own: list[str] = []
        try:
            entries = unpack(inner, target, limits, own, budget=budget, watch=watch)
        except Problem as problem:
            problem.detail = f"In {name!r}: {problem.detail}"
            raise
        finally:
            inner.unlink()

        found += [f"{name}/{entry}" for entry in entries]
        skipped += [f"{name}/{entry}" for entry in own]
    return found


def _entries(archive: Path, limits: ArchiveLimits, budget: int) -> Iterator[Entry]:
    if zipfile.is_zipfile(archive):
        yield from zip_entries(archive, limits)
    else:
        yield from tar_entries(archive, limits, budget)


def _copy(entry: Entry, target: Path, allowed: int, watch: Watch) -> int:
    if entry.size > allowed:
        raise bomb(entry.name, entry.size)
    written = 0
    with target.open("xb") as sink:
        while chunk := entry.stream.read(CHUNK):
            watch()
            written += len(chunk)
            if written > allowed:
                raise bomb(entry.name, written)
            sink.write(chunk)
    return written
