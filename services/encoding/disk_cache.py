"""Arrays kept on disk by key, for all processes of a machine and beyond a restart.

One ``<key>.safetensors`` each; a key is a hash of all that the array depends on, so a file is never wrong, only unused.
Files are written whole or not at all; one that is torn or foreign counts as absent. Least recently used ones go first.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

Array = NDArray[np.float32]

_KEY = re.compile(r"[0-9a-f]{16,128}")
_SUFFIX = ".safetensors"
_ROWS = "rows"


class DiskCache:
    """At most about ``max_bytes`` in ``folder``; 0 keeps nothing. Methods block; what fails is as if not cached."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self.max_bytes = max_bytes
        self._unchecked = max_bytes
        """Bytes written since room was last made: to look at every file for each would cost more than it is worth."""

    def load(self, key: str) -> Array | None:
        """The array of ``key``, or ``None``."""
        if not self.max_bytes:
            return None
        path = self._path(key)
        try:
            rows = load_file(path)[_ROWS]
        except (OSError, SafetensorError, KeyError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now: among the last to go
        return rows if rows.dtype == np.float32 and bool(np.isfinite(rows).all()) else None

    def keep(self, key: str, rows: Array) -> None:
        """Write ``rows`` and make room. A full or read-only disk is no error: the next process computes anew."""
        if rows.nbytes > self.max_bytes:
            return

        path = self._path(key)
        partial = path.with_suffix(f".{uuid4().hex}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file({_ROWS: np.ascontiguousarray(rows)}, partial)
            partial.replace(path)
            self._unchecked += rows.nbytes
            if self._unchecked > self.max_bytes // 32:
                self._make_room()
        except (OSError, SafetensorError):
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def join(self, key: str, rows: Array, parts: Iterable[str]) -> None:
        """Keep ``rows``, whose ``parts`` were kept before and are no longer needed."""
        self.keep(key, rows)
        if not self._path(key).exists():
            return
        for part in parts:
            if part != key:
                with contextlib.suppress(OSError):
                    self._path(part).unlink(missing_ok=True)

    def _make_room(self) -> None:
        self._unchecked = 0
        files = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):  # another process removed it
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        left = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if left <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            left -= size

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no hash")
        return self._folder / f"{key}{_SUFFIX}"
