"""All Triton servers together: which one computes what, what is tried again elsewhere, and what is loaded where."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from models.catalog.card import Card
from services.errors import Problem
from services.runtime.problems import (
    deadline_exceeded,
    engine_failed,
    inference_failed,
    model_invalid,
    model_unreachable,
)
from services.runtime.protocol import Tensor
from services.runtime.triton.channel import Failure
from services.runtime.triton.health import HealthMonitor
from services.runtime.triton.loading import Loader
from services.runtime.triton.replica import Key, Replica
from services.runtime.triton.uses import Uses
from services.runtime.triton.wire import Wanted, Wire

TRIES = 2
"""Servers that one inference is given to: a second one when the first could not be reached or its model had died."""

LONGEST = 300.0
"""Seconds that an inference without a deadline may take."""

_REFUSALS = ("refused", "broken", "absent")
_ELSEWHERE = ("away", "silent", "dead", "absent")
_log = logging.getLogger("sightline.runtime")


class Fleet:
    """See the module's docstring. Used from one event loop. ``folder``: where gateway processes meet.

    ``card_of`` finds a card in the repository, wanted or not.
    """

    def __init__(self, urls: Sequence[str], folder: Path, card_of: Callable[[str, str], Card]) -> None:
        self.replicas = [Replica(url) for url in urls]
        named = frozenset(name for replica in self.replicas for name in replica.models)
        for replica in self.replicas:
            replica.elsewhere = named
        self.wanted: dict[Key, Wanted] = {}
        self._loaders = {replica: Loader(replica.channel, folder, card_of) for replica in self.replicas}
        self._monitors = [HealthMonitor(replica, self._loaders[replica], self.wanted) for replica in self.replicas]
        self._tasks: list[asyncio.Task[None]] = []
        self._uses = Uses(folder)
        self._locks: dict[str, asyncio.Lock] = {}
        self.detached = False

    async def start(self) -> None:
        """Look for the servers, once, and from then on in the background."""
        await asyncio.gather(*(monitor.look() for monitor in self._monitors))
        self._tasks = [asyncio.create_task(monitor.watch()) for monitor in self._monitors]

    def look_after(self) -> None:
        """All that is wanted at start has been named, and loaded where servers answer: from here on keep it so."""
        for replica in self.replicas:
            replica.settled = replica.up
            if not replica.up:
                _log.warning("%s; it is waited for", replica.reason)
        self._tasks += [asyncio.create_task(monitor.mend()) for monitor in self._monitors]

    def detach(self) -> None:
        """From here on nothing is unloaded: others go on using the servers."""
        self.detached = True

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(replica.close() for replica in self.replicas))
        self._uses.close()

    @property
    def serving(self) -> bool:
        """Whether a server answers, and what is wanted was looked after on it."""
        return any(replica.up and replica.settled for replica in self.replicas)

    def trouble(self, key: Key) -> str:
        """Return why no server serves a version; empty when one does."""
        for replica in self.replicas:
            if replica.serves(key):
                return ""
        reasons = [replica.why_not(key) for replica in self.replicas if replica.takes(key[0])]
        return "; ".join(reasons) or "SIGHTLINE_TRITON_URLS names no Triton server for it"

    def holds_another(self, key: Key, wire: Wire) -> bool:
        """Return whether a version of the same number was brought since the one that ``wire`` was made for."""
        wanted = self.wanted.get(key)
        return wanted is not None and wanted.wire is not wire

    def servers_for(self, model: str) -> int:
        """Return how many servers are to have a model; at least 1."""
        return max(1, sum(replica.takes(model) for replica in self.replicas))

    def serving_at(self, key: Key) -> tuple[str, ...]:
        return tuple(replica.address for replica in self.replicas if replica.serves(key))

    async def infer(
        self,
        key: Key,
        wire: Wire,
        parts: Sequence[Mapping[str, Tensor]],
        outputs: Sequence[str],
        *,
        deadline: float | None,
        traceparent: str = "",
    ) -> dict[str, Tensor]:
        """Run the rows of ``parts`` together, on the server that will be done first. Raises :class:`Problem`."""
        tried: list[Replica] = []
        while (replica := self._quickest(key, tried)) is not None and len(tried) < TRIES:
            seconds = LONGEST if deadline is None else min(LONGEST, deadline - time.perf_counter())
            if seconds <= 0:
                raise deadline_exceeded()
            try:
                return await replica.infer(key, wire, parts, outputs, seconds=seconds, traceparent=traceparent)
            except Failure as failure:
                if failure.fault not in _ELSEWHERE:
                    raise _problem(key, failure) from failure
                _log.warning("%s/%s on %s: %s", *key, replica.address, failure.detail)
                tried.append(replica)

        raise model_unreachable(key[0], self.trouble(key) or "the servers that have it failed one after the other")

    async def bring(self, card: Card, wire: Wire, *, anew: bool) -> None:
        """Have a version served everywhere. What cannot be reached is seen to later.

        Raises ``model-invalid`` when every server that answers refuses to load it.
        """
        key = (card.name, card.version)
        async with self._lock(card.name):
            before = self.wanted.get(key)
            mine = self.wanted[key] = Wanted(card, wire)
            self._uses.begin(*key)
            up = [replica for replica in self.replicas if replica.up and replica.takes(card.name)]
            results = await asyncio.gather(*(self._bring(replica, key, anew) for replica in up), return_exceptions=True)
            failures = [one for one in results if isinstance(one, Failure) and one.fault in _REFUSALS]
            others = [one for one in results if isinstance(one, BaseException) and not isinstance(one, Failure)]
            if others or (up and len(failures) == len(up)):
                if self.wanted.get(key) is mine:
                    self._restore(key, before)
                raise others[0] if others else _problem_of_load(card, failures[0])

    async def drop(self, card: Card, wire: Wire) -> None:
        """Nobody in this process needs this version any more; the last process that did lets go of it."""
        key = (card.name, card.version)
        async with self._lock(card.name):
            held = self.wanted.get(key)
            if held is None or held.wire is not wire:
                return  # its successor of the same number is served
            del self.wanted[key]
            self._uses.end(*key)
            for replica in self.replicas:
                replica.forget(key)
            if self.detached or self._uses.any(*key):
                return

            def used(version: str) -> bool:
                return self._uses.any(card.name, version)

            up = [replica for replica in self.replicas if replica.up and replica.takes(card.name)]
            results = await asyncio.gather(
                *(self._loaders[replica].drop(card.name, used) for replica in up), return_exceptions=True
            )
            for replica, result in zip(up, results, strict=True):
                if isinstance(result, BaseException):
                    _log.warning("%s/%s stays loaded on %s: %s", *key, replica.address, result)

    async def _bring(self, replica: Replica, key: Key, anew: bool) -> None:
        forms = {_form(wanted.card) for (name, _), wanted in self.wanted.items() if name == key[0]}
        # One configuration cannot describe both: then the new one takes over, and the old one is gone with that.
        versions = self._versions(key[0]) if len(forms) == 1 else ()
        try:
            await self._loaders[replica].bring(*key, versions, anew=anew)
            await self._monitors[self.replicas.index(replica)].prove(key)
        except Failure as failure:
            replica.place(key).open(f"{replica.address}: {failure.detail}")
            raise

    def _quickest(self, key: Key, tried: Sequence[Replica]) -> Replica | None:
        able = [replica for replica in self.replicas if replica not in tried and replica.serves(key)]
        return min(able, key=lambda replica: replica.place(key).expected(), default=None)

    def _versions(self, model: str) -> set[str]:
        return {version for name, version in self.wanted if name == model}

    def _restore(self, key: Key, before: Wanted | None) -> None:
        if before is None:
            del self.wanted[key]
            self._uses.end(*key)
        else:
            self.wanted[key] = before

    def _lock(self, model: str) -> asyncio.Lock:
        return self._locks.setdefault(model, asyncio.Lock())


def _form(card: Card) -> tuple[object, ...]:
    """Return what Triton's configuration says of a version."""
    return card.inputs, card.outputs, card.batching.max_batch_size


def _problem(key: Key, failure: Failure) -> Problem:
    if failure.fault == "late":
        return deadline_exceeded()
    if failure.fault == "refused":
        return inference_failed(failure.detail)
    return engine_failed(f"{key[0]}: Triton says: {failure.detail}")


def _problem_of_load(card: Card, failure: Failure) -> Problem:
    return model_invalid(
        f"{card.name}/{card.version}: Triton does not load it: {failure.detail}", "See Triton's log for more."
    )
