"""Entries of a zip: its directory is bounded before it is read, and what its names mean."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from services.datasets.archive.limits import CORRUPT, ArchiveLimits, Entry, refusal, reraise_trouble, too_many

DIRECTORY_BYTES = 512
"""Of a zip's directory for each entry that the limits allow, at most; about 100 are usual."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


class _Directory(io.FileIO):
    """A zip that is opened: its directory is read in one piece and becomes one object an entry."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        super().__init__(path)
        self._limits = limits
        self.opening = True

    def read(self, size: int | None = -1, /) -> bytes:
        allowed = max(1 << 17, self._limits.max_entries * DIRECTORY_BYTES)  # a comment is up to 64 KiB
        if self.opening and size is not None and size > allowed:
            raise too_many(self._limits)
        data = super().read(-1 if size is None else size) or b""
        if self.opening and data.count(b"PK\1\2") > 2 * self._limits.max_entries + 100:
            raise too_many(self._limits)
        return data


def zip_entries(archive: Path, limits: ArchiveLimits) -> Iterator[Entry]:
    with _Directory(archive, limits) as file:
        try:
            bundle = zipfile.ZipFile(file)
        except CORRUPT as error:
            reraise_trouble(error)
            raise refusal("archive-corrupt", f"The directory of the zip cannot be read: {error}.") from error
        file.opening = False
        with bundle:
            yield from _zip_files(bundle)


def _zip_files(bundle: zipfile.ZipFile) -> Iterator[Entry]:
    for info in bundle.infolist():
        if info.is_dir():
            continue

        mode = info.external_attr >> 16
        if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
            raise refusal("archive-link", f"{info.filename!r} is a link or a device.")
        if info.flag_bits & 0x1:
            raise refusal("archive-encrypted", f"{info.filename!r} is encrypted.")
        if info.compress_type not in _METHODS:  # LZMA takes as much memory as its header says
            raise refusal("archive-compression", f"{info.filename!r} is neither stored nor deflated.")

        try:
            stream = bundle.open(info)
        except CORRUPT as error:
            reraise_trouble(error)
            raise refusal("archive-corrupt", f"{info.filename!r}: {error}.") from error

        with stream:
            name, said = _zip_name(info)
            yield Entry(name, info.file_size, stream, guessed=not said)


def _zip_name(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """An entry's name: UTF-8 where the zip says so or where its bytes are; else the code page of DOS, as specified.

    Info-ZIP writes UTF-8 without its flag on some systems, or into an extra field (0x7075) of its own. Tools of Windows
    write the code page of their country, which nothing tells: then the name is likely to hold signs that frames are
    drawn with, and what comes second is false.
    """
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename, True

    raw = info.filename.encode("cp437", "replace")
    extra = info.extra
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == 0x7075 and field[:1] == b"\x01" and field[1:5] == zlib.crc32(raw).to_bytes(4, "little"):
            raw = field[5:]

    try:
        return raw.decode("utf-8"), True
    except UnicodeDecodeError:
        return info.filename, all(sign.isascii() or sign.isalpha() for sign in info.filename)
