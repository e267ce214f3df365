"""One Triton server: whether it answers, which versions of which models work on it, and how fast.

Two circuit breakers. The server's own opens when it cannot be reached or has stopped answering; then whatever it was
computing is given up at once and may be tried elsewhere. Each version's opens when its process has died (Triton goes on
saying that it is ready), when it is not loaded, and after three failures in a row. ``health`` closes them again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.runtime.protocol import Tensor
from services.runtime.triton.channel import Channel, Failure
from services.runtime.triton.memory import Region, SharedMemory, is_local
from services.runtime.triton.wire import Wire

Key = tuple[str, str]
"""Model and version."""

SHARED_BYTES = 256 * 1024
"""Tensors from this size on go through shared memory, when the server is on this machine."""

BROKEN = 3
"""Failures in a row, other than refusals of values, after which a version is taken out on this server."""

FORGETTING = 0.9
"""What remains of a measured time with each second in which it was not measured again: the slow get a new chance."""

_UNTOUCHED = ("refused", "broken", "absent", "dead")
_log = logging.getLogger("sightline.runtime")


@dataclass(slots=True, eq=False)
class Place:
    """One version of a model on one server. ``seconds`` a batch took lately, ``since`` the state is as it is."""

    ready: bool = False
    reason: str = "not loaded yet"
    dead_since: float | None = None
    failures: int = 0
    seconds: float = 0.0
    measured: float = 0.0
    proved: float = 0.0
    running: dict[object, float] = field(default_factory=dict)

    def worked(self, seconds: float) -> None:
        now = time.monotonic()
        self.seconds = seconds if not self.seconds else 0.8 * self.seconds + 0.2 * seconds
        self.measured = self.proved = now
        self.failures = 0

    def expected(self) -> float:
        """Seconds until a batch sent now would be back."""
        now = time.monotonic()
        seconds: float = self.seconds * FORGETTING ** (now - self.measured)
        if self.running:
            seconds = max(seconds, now - next(iter(self.running.values())))
        return (seconds + 1e-4) * (len(self.running) + 1)

    def close(self) -> None:
        """It works."""
        self.ready, self.reason, self.dead_since, self.failures = True, "", None, 0
        self.proved = time.monotonic()

    def open(self, reason: str, *, dead: bool = False) -> None:
        """It does not work."""
        self.ready, self.reason = False, reason
        self.dead_since = (self.dead_since or time.monotonic()) if dead else None


def parse(url: str) -> tuple[str, frozenset[str]]:
    """``host:port/model+model`` in address and names. A server without names is for all models that no other names."""
    scheme, found, rest = url.rpartition("://")
    address, _, names = rest.partition("/")
    return scheme + found + address, frozenset(name for name in names.split("+") if name)


class Replica:
    """See the module's docstring. ``url`` is one of the setting's. Used from one event loop."""

    def __init__(self, url: str) -> None:
        address, models = parse(url)
        self.address = address
        self.models = models
        self.elsewhere: frozenset[str] = frozenset()
        self.channel = Channel(address)
        self.up = False
        self.settled = False
        self.reason = "not reached yet"
        self.alarm = asyncio.Event()
        self._places: dict[Key, Place] = {}
        self._memory = SharedMemory(self.channel) if is_local(address) else None

    def takes(self, model: str) -> bool:
        """Whether a model is to be on this server: one of those it is for, or one that no server is named for."""
        return model in self.models if self.models else model not in self.elsewhere

    def place(self, key: Key) -> Place:
        found = self._places.get(key)
        if found is None:
            found = self._places[key] = Place()
        return found

    def forget(self, key: Key) -> None:
        self._places.pop(key, None)

    def serves(self, key: Key) -> bool:
        found = self._places.get(key)
        return self.up and found is not None and found.ready

    def why_not(self, key: Key) -> str:
        """Return why it does not serve a version; empty when it does."""
        return self.place(key).reason if self.up else self.reason

    async def infer(
        self,
        key: Key,
        wire: Wire,
        parts: Sequence[Mapping[str, Tensor]],
        outputs: Sequence[str],
        *,
        seconds: float,
        traceparent: str = "",
    ) -> dict[str, Tensor]:
        """Run the rows of ``parts`` together. Raises :class:`Failure`, having drawn its conclusions from it."""
        place, began, token = self.place(key), time.monotonic(), object()
        place.running[token] = began
        region: Region | None = None
        certain = False
        try:
            request = wire.request(outputs)
            size = wire.sizes(parts) if self._memory is not None else 0
            if self._memory is not None and size >= SHARED_BYTES:
                region = await self._memory.take(size + 64 * len(parts[0]))

            if region is None:
                wire.put(request, parts)
            else:
                wire.share(request, parts, region.name, region.memory)

            try:
                answer = await self.channel.infer(request, seconds, traceparent)
            except Failure as failure:
                if region is None or "shared memory region" not in failure.detail:
                    raise
                # The server was started anew so quickly that nobody has seen it: it knows no regions.
                if self._memory is not None:
                    self._memory.forget()
                request = wire.request(outputs)
                wire.put(request, parts)
                answer = await self.channel.infer(request, seconds, traceparent)

            certain = True
            place.worked(time.monotonic() - began)
            return wire.outputs(answer, outputs)
        except Failure as failure:
            certain = failure.fault in _UNTOUCHED
            self._conclude(place, failure)
            raise
        finally:
            del place.running[token]
            if region is not None and self._memory is not None:
                self._memory.give(region, certain=certain)

    def give_up(self, key: Key, reason: str) -> None:
        """A model that does not answer on a server that does: take it out, and free those who wait for it."""
        self.place(key).open(f"{self.address}: {reason}")
        self.channel.cut(key[0])
        self.alarm.set()

    def lose(self, reason: str) -> None:
        """It does not answer: nothing is sent to it until it does, and nobody waits for what it has."""
        if self.up:
            _log.error("Triton at %s is gone: %s", self.address, reason)
        self.up = self.settled = False
        self.reason = f"Triton at {self.address}: {reason}"
        for place in self._places.values():
            place.open("not loaded yet")
        self.channel.cut()
        if self._memory is not None:
            self._memory.forget()
        self.alarm.set()

    def found(self) -> None:
        """It answers."""
        if not self.up:
            _log.info("Triton at %s answers", self.address)
        self.up, self.reason = True, ""
        self.alarm.set()

    async def close(self) -> None:
        if self._memory is not None:
            if self.up:
                await self._memory.close()
            else:
                self._memory.forget()
        await self.channel.close()

    def _conclude(self, place: Place, failure: Failure) -> None:
        if failure.fault == "away":
            if self.up:
                self.lose(failure.detail or "the connection broke")
        elif failure.fault in ("dead", "absent"):
            place.open(f"{self.address}: {failure.detail}", dead=failure.fault == "dead")
            self.alarm.set()
        elif failure.fault == "broken":
            place.failures += 1
            if place.failures >= BROKEN:
                place.open(f"{self.address}: {failure.detail}")
                self.alarm.set()
        elif failure.fault == "refused":
            place.proved, place.failures = time.monotonic(), 0
