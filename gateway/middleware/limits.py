"""Requests a second for each key, exact across worker processes.

The workers share one small memory-mapped file: a table of key digests, each with the one number that the generic cell
rate algorithm keeps (the theoretical arrival time of ITU-T I.371). A lock on the file is held for the few
microseconds of a look-up. The clock is ``time.monotonic()``, which all processes of a machine share.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SLOT = struct.Struct("<16sd")
_SLOTS = 4096
_PROBES = 64
_LOCK_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass. ``remaining`` could be sent at once now; ``reset`` seconds restore the burst."""

    allowed: bool
    limit: int
    remaining: int
    reset: float
    retry_after: float

    def headers(self) -> list[tuple[bytes, bytes]]:
        """``RateLimit-*`` as clients know them."""
        return [
            (b"ratelimit-limit", str(self.limit).encode()),
            (b"ratelimit-remaining", str(self.remaining).encode()),
            (b"ratelimit-reset", str(math.ceil(self.reset)).encode()),
        ]


class RateLimiter:
    """``rate`` requests a second and key, ``burst`` at once (0 is twice the rate); rate 0 is no limit."""

    def __init__(self, path: Path, *, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, _SLOT.size * _SLOTS)
        self._table = mmap.mmap(self._file, _SLOT.size * _SLOTS)
        self._digests: dict[str, bytes] = {}

    def close(self) -> None:
        self._table.close()
        os.close(self._file)

    def check(self, key: str, rate: float | None = None, now: float | None = None) -> Verdict | None:
        """Count one request of ``key``; ``rate`` is the key's own. ``None`` when there is no limit to keep."""
        rate = self._rate if rate is None else rate
        if rate <= 0:
            return None

        burst = self._burst or max(1, math.ceil(2 * rate))
        now = time.monotonic() if now is None else now
        interval, tolerance = 1 / rate, burst / rate
        with self._locked():
            offset, arrival = self._find(self._digest(key), now)
            # Never further ahead than the burst allows: after a reboot the clock starts anew and the file may not.
            arrival = min(max(arrival, now), now + tolerance)
            allowed = arrival + interval - now <= tolerance + 1e-9
            if allowed:
                arrival += interval
                _SLOT.pack_into(self._table, offset, self._digest(key), arrival)

        ahead = arrival - now
        return Verdict(
            allowed=allowed,
            limit=burst,
            remaining=max(0, math.floor((tolerance - ahead) * rate + 1e-6)),
            reset=ahead,
            retry_after=0.0 if allowed else ahead + interval - tolerance,
        )

    def _digest(self, key: str) -> bytes:
        digest = self._digests.get(key)
        if digest is None:
            if len(self._digests) >= _SLOTS:
                self._digests.clear()
            digest = self._digests[key] = hashlib.blake2b(key.encode(), digest_size=16).digest()
        return digest

    def _find(self, digest: bytes, now: float) -> tuple[int, float]:
        """The slot of a key and its arrival time; a new key takes a free slot, else the one that is idle longest."""
        start = int.from_bytes(digest[:4], "little")
        oldest, oldest_arrival = -1, math.inf
        for probe in range(_PROBES):
            offset = (start + probe) % _SLOTS * _SLOT.size
            found, arrival = _SLOT.unpack_from(self._table, offset)
            if found == digest:
                return offset, arrival
            if arrival < oldest_arrival:
                oldest, oldest_arrival = offset, arrival
            if arrival == 0.0:
                break
        return oldest, now

    @contextmanager
    def _locked(self) -> Iterator[None]:
        held = self._lock()
        try:
            yield
        finally:
            if held:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> bool:
        """Take the lock, but never wait long: a sibling stopped while holding it must not stop every worker."""
        give_up = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > give_up:
                    return False
                os.sched_yield()
