"""Files out of zip and tar archives, by exact name, within the size that was pinned for them."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from models.catalog.lock import Member
from models.errors import HashMismatch, SourceError

CHUNK = 1 << 20
Format = Literal["none", "zip", "tar"]
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError)


def extract(archive: Path, form: Format, members: Mapping[str, Member], folder: Path) -> None:
    """Write every member (by its cache name) into ``folder`` and check it; no other name is ever touched.

    Raises :class:`SourceError` for a member that is absent, no regular file, or longer than pinned, and
    :class:`HashMismatch` for other bytes than the pinned ones.
    """
    for name, member in members.items():
        try:
            with _opened(archive, form, member) as stream:
                write_member(stream, member, folder / name)
        except DAMAGED as error:
            raise SourceError(f"{archive.name} is damaged at {member.path!r}: {error}", "pull again") from error


def write_member(stream: IO[bytes], member: Member, target: Path) -> None:
    """Copy what was pinned of ``stream`` to ``target``, durably; raises as :func:`extract` does."""
    start = member.bytes[0] if member.bytes else 0
    _skip(stream, start)
    digest = hashlib.sha256()
    left = member.size
    with target.open("xb") as out:
        while left and (block := stream.read(min(CHUNK, left))):
            digest.update(block)
            out.write(block)
            left -= len(block)
        out.flush()
        os.fsync(out.fileno())

    if left:
        raise SourceError(f"{member.path or member.name} is {left} bytes shorter than pinned", "pull again")
    if member.bytes is None and stream.read(1):
        raise SourceError(
            f"{member.path or member.name} is longer than the pinned {member.size} bytes", "check it with its publisher"
        )

    if (actual := digest.hexdigest()) != member.sha256:
        raise HashMismatch(member.path or member.name, member.sha256, actual)


@contextmanager
def _opened(archive: Path, form: Format, member: Member) -> Iterator[IO[bytes]]:
    if form == "none":
        with archive.open("rb") as stream:
            yield stream
    elif form == "zip":
        with zipfile.ZipFile(archive) as packed:
            try:
                info = packed.getinfo(member.path or "")
            except KeyError:
                raise _absent(archive, member) from None
            if info.is_dir() or info.flag_bits & 0x1:
                raise SourceError(f"{member.path!r} in {archive.name} is a folder or encrypted", "correct sources.lock")
            with packed.open(info) as stream:
                yield stream
    else:
        with tarfile.open(archive, "r:*") as packed_tar:
            try:
                entry = packed_tar.getmember(member.path or "")
            except KeyError:
                raise _absent(archive, member) from None
            tar_stream = packed_tar.extractfile(entry) if entry.isreg() else None
            if tar_stream is None:
                raise SourceError(f"{member.path!r} in {archive.name} is no regular file", "correct sources.lock")
            with tar_stream:
                yield tar_stream


def _absent(archive: Path, member: Member) -> SourceError:
    return SourceError(f"{archive.name} has no member {member.path!r}", "correct `path` in models/catalog/sources.lock")


def _skip(stream: IO[bytes], count: int) -> None:
    """Read away ``count`` bytes: compressed streams cannot always seek."""
    while count and (block := stream.read(min(CHUNK, count))):
        count -= len(block)
