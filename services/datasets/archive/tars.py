"""Entries of a tar, compressed or not: its headers are bounded, they cost memory before an entry is seen."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, cast

from services.datasets.archive.limits import (
    CHUNK,
    CORRUPT,
    ArchiveLimits,
    Entry,
    bomb,
    refusal,
    reraise_trouble,
    too_many,
    unrecognised,
)

HEADER_BYTES = 4 << 20
"""Read for the headers of one tar entry, extended ones included, at most."""


class _Unpacked:
    """A tar as it comes out of its decompressor, read no further than ``end``; ``header`` bytes are left for headers.

    ``tarfile`` reads an extended header whole, whatever size it claims, and skips what nobody asks for.
    """

    def __init__(self, stream: IO[bytes], end: int) -> None:
        self._stream = stream
        self._end = end
        self.header: int | None = HEADER_BYTES

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        if whence == 0 and position > self._end:
            raise bomb("of the tar", position)
        return self._stream.seek(position, whence)

    def read(self, size: int = -1) -> bytes:
        if self.header is not None:
            if size < 0 or size > self.header:
                raise refusal("archive-corrupt", "A header of the tar is too long.")
            self.header -= size
        data = self._stream.read(size)
        if self._stream.tell() > self._end:
            raise bomb("of the tar", self._stream.tell())
        return data


def tar_entries(archive: Path, limits: ArchiveLimits, budget: int) -> Iterator[Entry]:
    end = budget + limits.max_entries * 2048 + HEADER_BYTES  # a header and its padding for each
    with closing(_decompressed(archive)) as stream:
        source = _Unpacked(stream, end)
        try:
            tar = tarfile.open(fileobj=cast(IO[bytes], source), mode="r:")  # noqa: SIM115 - closes nothing of its own
        except CORRUPT as error:
            reraise_trouble(error)
            raise unrecognised(error) from error

        members = 0
        while (member := _next(tar, source)) is not None:
            members += 1
            if members > 2 * limits.max_entries + 100:
                raise too_many(limits)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise refusal("archive-link", f"{member.name!r} is a link, a device or a sparse file.")
            content = tar.extractfile(member)
            if content is not None:
                with content:
                    yield Entry(member.name, member.size, content)


def _next(tar: tarfile.TarFile, source: _Unpacked) -> tarfile.TarInfo | None:
    source.header = HEADER_BYTES
    try:
        member = tar.next()
    except CORRUPT as error:
        reraise_trouble(error)
        raise refusal("archive-corrupt", f"The tar cannot be read on: {str(error) or 'it is damaged'}.") from error
    source.header = None
    if member is None:
        _drain(source)
    tar.members.clear()  # type: ignore[attr-defined]  # each keeps its headers; nothing asks for them again
    if len(tar.pax_headers) > 1000:
        raise refusal("archive-corrupt", "The tar has too many global headers.")
    return member


def _drain(source: _Unpacked) -> None:
    """Read to the end, where gzip keeps the checksum of what came before."""
    try:
        while source.read(CHUNK):
            pass
    except CORRUPT as error:
        reraise_trouble(error)
        raise refusal("archive-corrupt", f"The tar is damaged: {error}.") from error


def _decompressed(archive: Path) -> IO[bytes]:
    with archive.open("rb") as source:
        head = source.read(6)
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(archive))
    if head.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(archive))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast(IO[bytes], lzma.open(archive))
    return archive.open("rb")
