"""What an uploaded archive may unpack to, and the refusals that say so."""

from __future__ import annotations

import errno
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from services.errors import Kind, Problem

CHUNK = 1 << 20
CORRUPT = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    RuntimeError,
    OSError,
    OverflowError,
    struct.error,
)
"""What the standard library raises of damaged archives."""

LEAST_BYTES = 1 << 16
"""An upload may inflate as one of this size, however small it is."""

Watch = Callable[[], None]
"""Called often by work that may take long; raises where it is to end."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an upload may unpack to: number of files, bytes of one and of all, and how much it may inflate."""

    max_entries: int = 200_000
    max_entry_bytes: int = 256 << 20
    max_total_bytes: int = 8 << 30
    max_ratio: float = 200.0


class Budget:
    """What one upload may still unpack to, whatever archives lie inside of it: ``left`` bytes and ``entries``."""

    def __init__(self, limits: ArchiveLimits, archive_bytes: int) -> None:
        self.limits = limits
        self.left = min(limits.max_total_bytes, int(max(archive_bytes, LEAST_BYTES) * limits.max_ratio))
        self.entries = limits.max_entries
        self.guessed: list[str] = []
        """Names whose encoding nothing tells."""

    def take_entry(self) -> None:
        """Count a file. Raises :class:`Problem` ``archive-too-many-files``."""
        if self.entries == 0:
            raise too_many(self.limits)
        self.entries -= 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive: its name and size as the archive claims them, and what really comes out.

    ``guessed`` says that nothing tells the encoding of the name, and that it does not look as if it was read rightly.
    """

    name: str
    size: int
    stream: IO[bytes]
    guessed: bool = False


def reraise_trouble(error: BaseException) -> None:
    """Trouble of the disk is none of the archive's; decompressors raise ``OSError`` without a number.

    A place before the file's beginning, which a directory may claim, is an invalid argument.
    """
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        raise error


def unrecognised(error: BaseException) -> Problem:
    return Problem(
        Kind.UNSUPPORTED_TYPE,
        "archive-unrecognised",
        "The upload is not a readable zip or tar",
        f"{error}.",
        remedy="Send a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz.",
    )


def too_many(limits: ArchiveLimits) -> Problem:
    return refusal("archive-too-many-files", f"The archive holds more than {limits.max_entries:,} files.")


def bomb(name: str, size: int) -> Problem:
    return Problem(
        Kind.TOO_LARGE,
        "archive-too-large",
        "The archive unpacks to too much",
        f"Entry {name!r} brings {size:,} bytes or more, beyond what an upload of this size may unpack to.",
        remedy="Split the data set, or ask the operator to raise the limits of uploads.",
    )


def refusal(code: str, detail: str) -> Problem:
    return Problem(Kind.INVALID, code, "The archive was refused", detail, remedy="Pack the files again and resend.")
