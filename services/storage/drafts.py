"""Content on its way into the store: hashed while it is written, bounded, and removed unless it is published."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import BinaryIO, Self

from services.storage.problems import storage_problems, too_large

CHUNK = 256 * 1024


class Draft:
    """Content on its way in: a file aside that is hashed while it is written. Leaving the ``with`` removes it."""

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self.path = path
        self.size = 0
        self._limit = limit
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        with storage_problems():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb", buffering=CHUNK)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append. Raises ``artifact-too-large`` beyond the limit and ``storage-full`` when the disk is."""
        assert self._file is not None, "the draft is finished"
        length = len(data) if not isinstance(data, memoryview) else data.nbytes
        if self._limit is not None and self.size + length > self._limit:
            raise too_large(self._limit)
        with storage_problems():
            self._file.write(data)
        self._hash.update(data)
        self.size += length
        return length

    def finish(self) -> str:
        """Bring everything to the disk; returns the SHA-256. Doing it twice changes nothing."""
        if self._file is not None:
            with storage_problems():
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
            self._file = None
        return self._hash.hexdigest()

    def discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # closing flushes, and the disk may be full
                self._file.close()
            self._file = None
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()
