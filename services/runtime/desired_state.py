"""Which models are wanted: one small file that all gateway processes of a data folder share.

``load`` and ``unload`` reach one process of several. It writes what was asked for here; the others see it by one
``os.stat`` a request (1.5 us) and follow. The file is replaced whole and synced before, so that a reader sees the old
or the new one and a crash leaves one of them; writers take turns by a lock that dies with its holder. It outlives a
restart: a model that an administrator took out of service stays out, whatever ``preload`` says.

Each state has a generation, a number that only grows. A process applies a state whose generation it has not seen.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.catalog.card import MODEL_NAME
from services.runtime.version_policy import LATEST, VersionPolicy
from services.settings import Settings

_log = logging.getLogger("sightline.runtime")

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What somebody asked for about one model: to be loaded, with which versions, or not to be."""

    loaded: bool
    generation: int
    policy: VersionPolicy = LATEST


class DesiredStates:
    """The file and this process's last view of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self.states: dict[str, DesiredState] = {}

    @classmethod
    def of(cls, settings: Settings) -> DesiredStates:
        """That of a data folder."""
        return cls(settings.data_dir / "control.json")

    def refresh(self) -> bool:
        """Read the file if it has changed; whether it had."""
        stamp = self._stat()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.states = self._read()
        except OSError as error:
            _log.error("%s cannot be read, and what was wanted before still is: %s", self._path.name, error.strerror)
            return False
        return True

    def write(self, model: str, *, loaded: bool, policy: VersionPolicy = LATEST) -> DesiredState:
        """Write down that ``model`` is to be loaded or not, for every process. Blocks for the disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            states = self._read()
            newest = max((state.generation for state in states.values()), default=0)
            # The clock keeps generations growing even when the file was lost.
            made = states[model] = DesiredState(loaded, max(newest + 1, time.time_ns()), policy)
            self._write(states)
        self.states = states
        return made

    def touch(self) -> None:
        """Have every process look again, though no other model is wanted: a model was shared or removed.

        Blocks for the disk.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._write(self._read())

    @property
    def stamp(self) -> Stamp | None:
        """What the file was when it was last looked at: another value after each change of any process."""
        return self._stamp

    def _stat(self) -> Stamp | None:
        try:
            info = os.stat(self._path)  # noqa: PTH116 - half the time of Path.stat, and this is once a request
        except FileNotFoundError:
            return None
        except OSError:
            return self._stamp
        return info.st_mtime_ns, info.st_ino, info.st_size

    def _read(self) -> dict[str, DesiredState]:
        try:
            entries = json.loads(self._path.read_bytes())["models"]
            return {name: _parse(name, entry) for name, entry in entries.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Not torn by a crash of ours. Serving what is configured is better than not starting.
            _log.error("%s is not readable and is ignored until the next load or unload: %s", self._path.name, error)
            return {}

    def _write(self, states: dict[str, DesiredState]) -> None:
        models = {
            name: {"loaded": state.loaded, "generation": state.generation, "policy": state.policy.document()}
            for name, state in sorted(states.items())
        }
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({"models": models}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())

        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._path.with_suffix(".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _parse(name: str, entry: dict[str, object]) -> DesiredState:
    loaded, generation = entry["loaded"], entry["generation"]
    if not MODEL_NAME.fullmatch(name) or not isinstance(loaded, bool) or not isinstance(generation, int):
        raise ValueError(f"the entry of {name[:80]!r} is malformed")
    return DesiredState(loaded, generation, VersionPolicy.parse(entry["policy"]))
