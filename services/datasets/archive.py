"""Unpack an uploaded zip or tar without trusting it: every entry is checked, every byte is counted.

Sizes in headers are claims; what counts here is what comes out of the decompressor. Links, devices, absolute and
climbing paths, encrypted entries, names that differ only in case and names that are a file and a folder at once are
refused. Headers and directories are bounded too: they cost memory before an entry can be looked at. A refusal leaves
nothing behind: the caller unpacks into a directory of its own and removes it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from services.errors import Kind, Problem

CHUNK = 1 << 20
HEADER_BYTES = 4 << 20
"""Read for the headers of one tar entry, extended ones included, at most."""
DIRECTORY_BYTES = 512
"""Of a zip's directory for each entry that the limits allow, at most; about 100 are usual."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_CORRUPT = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    RuntimeError,
    OSError,
)
IGNORED = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an upload may unpack to: number of files, bytes of one and of all, and how much it may inflate."""

    max_entries: int = 200_000
    max_entry_bytes: int = 256 << 20
    max_total_bytes: int = 8 << 30
    max_ratio: float = 200.0


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    size: int
    stream: IO[bytes]


def unpack(archive: Path, into: Path, limits: ArchiveLimits, skipped: list[str] | None = None) -> list[str]:
    """Unpack ``archive`` (zip, tar, tar.gz, tar.bz2 or tar.xz by its content) and return the entries' names.

    Files of operating systems (``.DS_Store``) are not unpacked; their names go to ``skipped``. Raises :class:`Problem`
    ``archive-*`` naming the entry.
    """
    names: list[str] = []
    taken = _Names()
    budget = min(limits.max_total_bytes, int(max(archive.stat().st_size, 1 << 16) * limits.max_ratio))
    for entry in _entries(archive, limits, budget):
        name = _safe_name(entry.name)
        if name is None:
            if skipped is not None and len(skipped) < limits.max_entries:
                skipped.append(entry.name)
            continue
        if len(names) >= limits.max_entries:
            raise _too_many(limits)
        taken.add(name)
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            budget -= _copy(entry, target, min(budget, limits.max_entry_bytes))
        except _CORRUPT as error:
            _reraise_trouble(error)
            raise _refusal("archive-corrupt", f"Entry {name!r} cannot be read: {error}.") from error
        names.append(name)

    if not names:
        raise _refusal("archive-empty", "The archive holds no files.")

    return names


class _Names:
    """What was unpacked, as a file system that ignores case would see it."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: set[str] = set()

    def add(self, name: str) -> None:
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in self._files:
            raise _refusal("archive-duplicate-name", f"{name!r} and {self._files[folded]!r} are the same name.")
        if folded in self._folders:
            raise _refusal("archive-duplicate-name", f"{name!r} is a file and a folder.")
        self._files[folded] = name
        folder = folded.rpartition("/")[0]
        while folder and folder not in self._folders:
            if folder in self._files:
                raise _refusal("archive-duplicate-name", f"{self._files[folder]!r} is a file and a folder.")
            self._folders.add(folder)
            folder = folder.rpartition("/")[0]


def _entries(archive: Path, limits: ArchiveLimits, budget: int) -> Iterator[_Entry]:
    if zipfile.is_zipfile(archive):
        yield from _zip_entries(archive, limits)
    else:
        yield from _tar_entries(archive, limits, budget)


class _Directory(io.FileIO):
    """A zip that is opened: its directory is read in one piece and becomes one object an entry."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        super().__init__(path)
        self._limits = limits
        self.opening = True

    def read(self, size: int | None = -1, /) -> bytes:
        allowed = max(1 << 17, self._limits.max_entries * DIRECTORY_BYTES)  # a comment is up to 64 KiB
        if self.opening and size is not None and size > allowed:
            raise _too_many(self._limits)
        data = super().read(-1 if size is None else size) or b""
        if self.opening and data.count(b"PK\1\2") > 2 * self._limits.max_entries + 100:
            raise _too_many(self._limits)
        return data


def _zip_entries(archive: Path, limits: ArchiveLimits) -> Iterator[_Entry]:
    with _Directory(archive, limits) as file:
        try:
            bundle = zipfile.ZipFile(file)
        except _CORRUPT as error:
            _reraise_trouble(error)
            raise _refusal("archive-corrupt", f"The directory of the zip cannot be read: {error}.") from error
        file.opening = False
        with bundle:
            yield from _zip_files(bundle)


def _zip_files(bundle: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in bundle.infolist():
        if info.is_dir():
            continue

        mode = info.external_attr >> 16
        if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
            raise _refusal("archive-link", f"{info.filename!r} is a link or a device.")
        if info.flag_bits & 0x1:
            raise _refusal("archive-encrypted", f"{info.filename!r} is encrypted.")
        if info.compress_type not in _METHODS:  # LZMA takes as much memory as its header says
            raise _refusal("archive-compression", f"{info.filename!r} is neither stored nor deflated.")

        try:
            stream = bundle.open(info)
        except _CORRUPT as error:
            _reraise_trouble(error)
            raise _refusal("archive-corrupt", f"{info.filename!r}: {error}.") from error

        with stream:
            yield _Entry(_zip_name(info), info.file_size, stream)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """An entry's name: UTF-8 where the zip says so or where its bytes are; else the code page of DOS, as specified.

    Info-ZIP writes UTF-8 without its flag on some systems, or into an extra field (0x7075) of its own.
    """
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename

    raw = info.filename.encode("cp437", "replace")
    extra = info.extra
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == 0x7075 and field[:1] == b"\x01" and field[1:5] == zlib.crc32(raw).to_bytes(4, "little"):
            raw = field[5:]

    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return info.filename


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
            raise _bomb("of the tar", position)
        return self._stream.seek(position, whence)

    def read(self, size: int = -1) -> bytes:
        if self.header is not None:
            if size < 0 or size > self.header:
                raise _refusal("archive-corrupt", "A header of the tar is too long.")
            self.header -= size
        data = self._stream.read(size)
        if self._stream.tell() > self._end:
            raise _bomb("of the tar", self._stream.tell())
        return data


def _tar_entries(archive: Path, limits: ArchiveLimits, budget: int) -> Iterator[_Entry]:
    end = budget + limits.max_entries * 2048 + HEADER_BYTES  # a header and its padding for each
    with closing(_decompressed(archive)) as stream:
        source = _Unpacked(stream, end)
        try:
            tar = tarfile.open(fileobj=cast(IO[bytes], source), mode="r:")  # noqa: SIM115 - closes nothing of its own
        except _CORRUPT as error:
            _reraise_trouble(error)
            raise _unrecognised(error) from error

        members = 0
        while (member := _next(tar, source)) is not None:
            members += 1
            if members > 2 * limits.max_entries + 100:
                raise _too_many(limits)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise _refusal("archive-link", f"{member.name!r} is a link, a device or a sparse file.")
            content = tar.extractfile(member)
            if content is not None:
                with content:
                    yield _Entry(member.name, member.size, content)


def _next(tar: tarfile.TarFile, source: _Unpacked) -> tarfile.TarInfo | None:
    source.header = HEADER_BYTES
    try:
        member = tar.next()
    except _CORRUPT as error:
        _reraise_trouble(error)
        raise _refusal("archive-corrupt", f"The tar cannot be read on: {str(error) or 'it is damaged'}.") from error
    source.header = None
    if member is None:
        _drain(source)
    tar.members.clear()  # type: ignore[attr-defined]  # each keeps its headers; nothing asks for them again
    if len(tar.pax_headers) > 1000:
        raise _refusal("archive-corrupt", "The tar has too many global headers.")
    return member


def _drain(source: _Unpacked) -> None:
    """Read to the end, where gzip keeps the checksum of what came before."""
    try:
        while source.read(CHUNK):
            pass
    except _CORRUPT as error:
        _reraise_trouble(error)
        raise _refusal("archive-corrupt", f"The tar is damaged: {error}.") from error


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


def _reraise_trouble(error: BaseException) -> None:
    """Trouble of the disk is none of the archive's; decompressors raise ``OSError`` without a number."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _unrecognised(error: BaseException) -> Problem:
    return Problem(
        Kind.UNSUPPORTED_TYPE,
        "archive-unrecognised",
        "The upload is not a readable zip or tar",
        f"{error}.",
        remedy="Send a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz.",
    )


def _too_many(limits: ArchiveLimits) -> Problem:
    return _refusal("archive-too-many-files", f"The archive holds more than {limits.max_entries:,} files.")


def _safe_name(name: str) -> str | None:
    """The entry's path with ``/``, ``None`` for litter; raises for a path that would leave the folder."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _refusal("archive-path", f"The name {ascii(name)[:100]} is not UTF-8.") from None

    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or ".." in parts or not parts or any(":" in part or "\0" in part for part in parts[:1]):
        raise _refusal("archive-path", f"{name!r} points outside of the archive.")
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        raise _refusal("archive-path", f"{name!r} holds a control character.")

    clean = "/".join(parts)
    if len(clean.encode()) > 1024 or any(len(part.encode()) > 255 for part in parts):
        raise _refusal("archive-path", f"The name {clean[:60]!r}... is too long.")
    if clean.startswith(IGNORED[0]) or parts[-1] in IGNORED[1:] or parts[-1].startswith("._"):
        return None

    return clean


def _copy(entry: _Entry, target: Path, allowed: int) -> int:
    if entry.size > allowed:
        raise _bomb(entry.name, entry.size)
    written = 0
    with target.open("xb") as sink:
        while chunk := entry.stream.read(CHUNK):
            written += len(chunk)
            if written > allowed:
                raise _bomb(entry.name, written)
            sink.write(chunk)
    return written


def _bomb(name: str, size: int) -> Problem:
    return Problem(
        Kind.TOO_LARGE,
        "archive-too-large",
        "The archive unpacks to too much",
        f"Entry {name!r} brings {size:,} bytes or more, beyond what an upload of this size may unpack to.",
        remedy="Split the data set, or ask the operator to raise the limits of uploads.",
    )


def _refusal(code: str, detail: str) -> Problem:
    return Problem(Kind.INVALID, code, "The archive was refused", detail, remedy="Pack the files again and resend.")
