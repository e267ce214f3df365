"""Which versions are in use by the gateway processes of a data folder: the last one to leave a version lets go of it.

A shared file lock for each version in use. It dies with its process, so nothing is left behind by a crash.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


class Uses:
    """The uses of this process. ``folder`` is where processes meet, on one machine or on several."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[tuple[str, str], IO[str]] = {}

    def begin(self, model: str, version: str) -> None:
        if (model, version) not in self._held:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = self._path(model, version).open("a+")  # NFS lends a shared lock to readers only
            fcntl.flock(file, fcntl.LOCK_SH)  # at most for the moment of a look of somebody else's
            self._held[model, version] = file

    def end(self, model: str, version: str) -> None:
        file = self._held.pop((model, version), None)
        if file is not None:
            file.close()

    def any(self, model: str, version: str) -> bool:
        """Return whether a process, this one or another, uses a version."""
        try:
            with self._path(model, version).open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def close(self) -> None:
        for key in list(self._held):
            self.end(*key)

    def _path(self, model: str, version: str) -> Path:
        return self._folder / f"{model}-{version}.use"
