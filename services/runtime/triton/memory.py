"""Large tensors go to a server on the same machine through shared memory: it reads them where they were written.

A region is used by one call at a time and then by the next. When nobody can tell whether the server still reads it
(the call was cancelled, or its answer never came), the region rests: until the connection to that server is lost or
closed, or for longer than any request may live.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import time
from contextlib import suppress
from pathlib import Path

from services.runtime.triton.channel import Channel, Failure

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is on Linux
PREFIX = "sightline-"
SMALLEST = 1 << 20
MOST = 32
"""Regions of one connection; what finds none free is sent in the message."""

SPARE = 4
"""How many times a region's size must be free: Triton's own processes need the same memory, and fail without."""

QUARANTINE_SECONDS = 300.0

_log = logging.getLogger("sightline.runtime")


class Region:
    """A piece of shared memory that the server knows by ``name``."""

    def __init__(self, name: str, size: int, era: int) -> None:
        self.name = name
        self.size = size
        self.era = era
        self._path = FOLDER / name
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)  # a full /dev/shm is an error here, not a crash later
            self._map = mmap.mmap(descriptor, size)
        except OSError:
            self._path.unlink()
            raise
        finally:
            os.close(descriptor)

        self.memory = memoryview(self._map)

    def remove(self) -> None:
        """Give it back. The server, which has it mapped, may go on reading its own view."""
        self._path.unlink(missing_ok=True)
        with suppress(BufferError):  # an array still looks into it; the mapping goes with that
            self.memory.release()
            self._map.close()


class SharedMemory:
    """The regions of one connection. Used from one event loop."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._free: list[Region] = []
        self._used = 0
        self._doubtful: list[tuple[float, Region]] = []
        self._made = 0
        self._works = FOLDER.is_dir()
        self._era = 0

    async def take(self, size: int) -> Region | None:
        """A region of at least ``size`` bytes, or none: then the tensors go into the message."""
        if not self._works:
            return None
        for index, region in enumerate(self._free):
            if region.size >= size:
                self._used += 1
                return self._free.pop(index)
        if self._used + len(self._free) + len(self._doubtful) >= MOST:
            self._recover()
            if not self._free:
                return None
            await self._remove(self._free.pop())  # too small for what comes now
        return await self._make(1 << max(SMALLEST, size - 1).bit_length())

    def give(self, region: Region, *, certain: bool) -> None:
        """``certain``: the server has answered, so it does not read the region any more."""
        self._used -= 1
        if region.era != self._era:
            region.remove()
        elif certain:
            self._free.append(region)
        else:
            self._doubtful.append((time.monotonic(), region))

    def forget(self) -> None:
        """The server is gone, or another process has its address: it knows none of the regions."""
        self._era += 1
        for region in [*self._free, *(region for _, region in self._doubtful)]:
            region.remove()
        self._free.clear()
        self._doubtful.clear()

    async def close(self) -> None:
        for region in list(self._free):
            with suppress(Failure):
                await self._channel.unshare(region.name)
        self.forget()

    async def _make(self, size: int) -> Region | None:
        room = os.statvfs(FOLDER)
        if room.f_bavail * room.f_frsize < SPARE * size:
            return None

        self._made += 1
        name = f"{PREFIX}{os.getpid()}-{id(self):x}-{self._made}"
        self._used += 1
        try:
            region = Region(name, size, self._era)
        except OSError as error:
            self._refuse(f"{FOLDER}: {error.strerror}")
            return None

        try:
            await self._channel.share(name, f"/{name}", size)
        except asyncio.CancelledError:
            self._used -= 1
            region.remove()
            raise
        except Failure as failure:
            region.remove()
            if failure.fault in ("away", "late"):
                self._used -= 1
                return None
            self._refuse(failure.detail)
            return None

        return region

    def _refuse(self, why: str) -> None:
        """It is not this machine's server, or there is no room: nothing is lost but speed."""
        self._used -= 1
        self._works = False
        _log.info("%s gets its tensors in messages, not in shared memory: %s", self._channel.address, why)

    def _recover(self) -> None:
        now = time.monotonic()
        while self._doubtful and now - self._doubtful[0][0] > QUARANTINE_SECONDS:
            self._free.append(self._doubtful.pop(0)[1])

    async def _remove(self, region: Region) -> None:
        try:
            with suppress(Failure):
                await self._channel.unshare(region.name)
        finally:
            region.remove()


def is_local(address: str) -> bool:
    """Return whether a server is on this machine by its address."""
    host = address.removeprefix("grpc://").removeprefix("grpcs://").rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def clean_up() -> None:
    """Remove the regions of processes that were killed."""
    for path in FOLDER.glob(f"{PREFIX}[0-9]*-*"):
        owner = path.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            with suppress(OSError):  # another user's, or gone by now
                path.unlink()
