"""Keeps what is known of one Triton server true, and what is wrong with it short.

One loop asks twice a second whether the server answers. Another looks after the versions that are wanted: those that do
not work are tried with a small real inference and loaded when they are not, and those that have answered nothing for a
while are tried, too, since Triton calls a model ready whose process has died or hangs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from services.runtime.onnx.warmup import example
from services.runtime.triton.channel import Failure
from services.runtime.triton.loading import Loader
from services.runtime.triton.replica import Key, Place, Replica
from services.runtime.triton.wire import Wanted

PERIOD = 0.5
LIVE_SECONDS = 1.0
MISSES = 2
"""Answers missed in a row after which a server that is connected counts as gone: it is stopped, or cut off."""

PROVE_SECONDS = 5.0
"""How long a version without traffic is believed to work."""

STUCK_SECONDS = 20.0
"""How long a version with traffic may answer nothing and be believed to work; longer if its batches take long."""

PROBE_SECONDS = 2.0
REPAIR_SECONDS = 2.5
"""How long the watchdog beside the server has to start a dead model anew, before the gateway asks for it."""

LONGEST_PAUSE = 5.0
"""Seconds between two attempts to load what cannot be loaded."""

_log = logging.getLogger("sightline.runtime")


class HealthMonitor:
    """See the module's docstring."""

    def __init__(self, replica: Replica, loader: Loader, wanted: Mapping[Key, Wanted]) -> None:
        self._replica = replica
        self._loader = loader
        self._wanted = wanted
        self._misses = 0
        self._pauses: dict[Key, tuple[float, float]] = {}

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.look()
            except Exception:
                _log.exception("Looking for Triton at %s failed", self._replica.address)

    async def look(self) -> None:
        """Ask whether the server answers."""
        replica = self._replica
        try:
            await replica.channel.live(LIVE_SECONDS)
        except Failure as failure:
            self._misses += 1
            if failure.fault != "late" or self._misses >= MISSES or not replica.up:
                replica.lose("it does not answer" if failure.fault == "late" else failure.detail)
        else:
            self._misses = 0
            replica.found()

    async def mend(self) -> None:
        replica = self._replica
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(replica.alarm.wait(), PERIOD)

            replica.alarm.clear()
            if not replica.up:
                self._pauses.clear()
                continue

            results = await asyncio.gather(
                *(self._look_after(key) for key in list(self._wanted) if replica.takes(key[0])), return_exceptions=True
            )
            for one in results:
                if isinstance(one, Exception):
                    _log.error("Looking after the models on %s failed", replica.address, exc_info=one)

            replica.settled = replica.up
            await asyncio.sleep(PERIOD / 5)

    async def prove(self, key: Key) -> bool:
        """Try a version with a small inference; whether it works on this server."""
        replica, place = self._replica, self._replica.place(key)
        wanted = self._wanted.get(key)
        if wanted is None:
            return False

        seconds = max(PROBE_SECONDS, 5 * place.seconds)
        names = [spec.name for spec in wanted.card.outputs]
        try:
            await replica.infer(key, wanted.wire, [example(wanted.card, 1)], names, seconds=seconds)
        except Failure as failure:
            if failure.fault == "late":
                place.failures += 1
                if place.failures >= MISSES and replica.up:
                    replica.give_up(key, "it does not answer")
            elif failure.fault == "broken" and not place.ready:
                place.reason = f"{replica.address}: {failure.detail}"
            # A model whose free dimensions cannot be guessed refuses the values: it was asked, and it answers.
            if failure.fault != "refused":
                return False

        if not place.ready:
            _log.info("%s/%s works on %s", *key, replica.address)

        place.close()
        return True

    async def _look_after(self, key: Key) -> None:
        place = self._replica.place(key)
        if place.ready and time.monotonic() - place.proved < self._trust(key, place):
            return
        if await self.prove(key) or not self._replica.up:
            self._pauses.pop(key, None)
            return

        waits = place.dead_since is not None and time.monotonic() - place.dead_since < REPAIR_SECONDS
        if place.ready or waits or not self._may_load(key):
            return

        model = key[0]
        versions = {version for name, version in self._wanted if name == model}
        try:
            if place.dead_since is None:
                await self._loader.bring(*key, versions)
            else:
                await self._loader.repair(model, versions, lambda: self.prove(key))
        except Failure as failure:
            place.open(f"{self._replica.address}: {failure.detail}", dead=place.dead_since is not None)
            return

        self._pauses.pop(key, None)
        await self.prove(key)

    def _trust(self, key: Key, place: Place) -> float:
        """Seconds that a version which works is left alone for after its last answer."""
        wanted = self._wanted.get(key)
        if wanted is None or not place.running:
            return PROVE_SECONDS
        return max(STUCK_SECONDS, wanted.card.batching.max_batch_size * place.seconds)

    def _may_load(self, key: Key) -> bool:
        """Not over and over what cannot be loaded: each pause is twice as long as the one before."""
        now = time.monotonic()
        due, pause = self._pauses.get(key, (0.0, PERIOD))
        if now < due:
            return False
        self._pauses[key] = (now + pause, min(2 * pause, LONGEST_PAUSE))
        return True
