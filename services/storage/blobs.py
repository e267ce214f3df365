"""Where the bytes of artifacts lie, by their SHA-256: a local folder, or any address that fsspec knows.

A blob is there whole or not at all, and never changes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast
from uuid import uuid4

# Stores in which an upload appears only once it is complete; elsewhere it is written aside and moved.
_ATOMIC_UPLOADS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})


class Blobs(Protocol):
    """Content by hash. Trouble of the store is an ``OSError``; a blob that is not there ``FileNotFoundError``."""

    def place(self, source: Path, sha256: str) -> None:
        """Make the content of ``source`` readable as ``sha256``; ``source`` stays. Doing it twice changes nothing."""
        ...

    def open(self, sha256: str) -> BinaryIO:
        """The content, seekable."""
        ...

    def exists(self, sha256: str) -> bool: ...

    def remove(self, sha256: str) -> None: ...

    def older_than(self, seconds: float) -> Iterator[str]:
        """Every blob placed at least so long ago, for finding those that nothing names."""
        ...


def open_blobs(url: str, options: Mapping[str, Any] | None = None) -> Blobs:
    """The store at ``url``: a path or ``file://`` is a local folder, anything else goes through fsspec."""
    if "://" not in url or url.startswith("file://"):
        return LocalBlobs(Path(url.removeprefix("file://")))
    return RemoteBlobs(url, options or {})


class LocalBlobs:
    """A folder: ``ab/cdef...`` by the first byte of the hash."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def place(self, source: Path, sha256: str) -> None:
        final = self._path(sha256)
        with contextlib.suppress(FileNotFoundError):
            os.utime(final)  # renews its age, so that a sweep that began earlier leaves it alone
            return

        final.parent.mkdir(parents=True, exist_ok=True)
        aside = final.with_name(f".{final.name}.{uuid4().hex}")
        try:
            try:
                os.link(source, aside)  # the writer has synced it; no second copy
            except OSError:  # another file system, or one without links
                with source.open("rb") as read, aside.open("wb") as write:
                    shutil.copyfileobj(read, write, 1 << 20)
                    write.flush()
                    os.fsync(write.fileno())
            os.utime(aside)
            aside.replace(final)
        finally:
            aside.unlink(
                missing_ok=True
            )  # also after replace: renaming one link onto another of the same file keeps both

        _sync_folder(final.parent)

    def open(self, sha256: str) -> BinaryIO:
        return self._path(sha256).open("rb")

    def exists(self, sha256: str) -> bool:
        return self._path(sha256).is_file()

    def remove(self, sha256: str) -> None:
        self._path(sha256).unlink(missing_ok=True)

    def older_than(self, seconds: float) -> Iterator[str]:
        limit = time.time() - seconds
        for folder in self._root.glob("[0-9a-f][0-9a-f]"):
            for path in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < limit:
                        if path.name.startswith("."):
                            path.unlink()  # left by a process that died while copying
                        else:
                            yield folder.name + path.name

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256[2:]


class RemoteBlobs:
    """A prefix in an object store or on another machine, through fsspec."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        import fsspec

        self._fs, self._root = fsspec.core.url_to_fs(
            url.rstrip("/"), use_listings_cache=False, skip_instance_cache=True, **options
        )
        protocol = self._fs.protocol
        self._atomic = bool(
            _ATOMIC_UPLOADS & {protocol} if isinstance(protocol, str) else _ATOMIC_UPLOADS & {*protocol}
        )

    def place(self, source: Path, sha256: str) -> None:
        final = self._path(sha256)
        target = final if self._atomic else f"{final}.{uuid4().hex}"
        if not self._atomic:
            self._fs.makedirs(final.rsplit("/", 1)[0], exist_ok=True)
        # Uploaded even when it is there: that renews its age, so a sweep that began earlier leaves it alone.
        self._fs.put_file(str(source), target)
        if not self._atomic:
            self._fs.mv(target, final)
        size = source.stat().st_size
        if self._fs.info(final)["size"] != size:
            raise OSError(f"The store kept a different size than the {size:,} bytes of blob {sha256}.")

    def open(self, sha256: str) -> BinaryIO:
        return cast(BinaryIO, self._fs.open(self._path(sha256), "rb"))

    def exists(self, sha256: str) -> bool:
        return bool(self._fs.exists(self._path(sha256)))

    def remove(self, sha256: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(sha256))

    def older_than(self, seconds: float) -> Iterator[str]:
        limit = time.time() - seconds
        try:
            found = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            return
        for path, info in found.items():
            placed = info.get("LastModified") or info.get("mtime") or info.get("created")
            stamp = placed.timestamp() if hasattr(placed, "timestamp") else placed
            name = "".join(path.rsplit("/", 2)[-2:])
            if isinstance(stamp, int | float) and stamp < limit and len(name) == 64:
                yield name

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256[2:]}"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
