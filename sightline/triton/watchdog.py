"""Keeps one tritonserver honest: what it calls ready is tried, what is dead inside it is brought back.

Triton goes on calling a model ready when the process that runs it in Python was killed, and answers every inference of
it with an error from then on; loading it again does nothing. Only taking it out and loading it anew helps. And a server
that hangs keeps its connections. So each model that served nothing since the last look gets one row of zeros, and what
is found decides. That is every two seconds, less often for large models, and at once when a process is gone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from models.catalog.card import Card
from services.errors import Problem
from services.runtime.repository import Repository
from sightline.triton import shared_memory
from sightline.triton.api import Api, Entry, Probe, Unanswered
from sightline.triton.repairing import Processes, Repairs
from sightline.triton.watched import Watched

INTERVAL = 2.0
PROBE_SECONDS = 5.0
"""Longer than the second that Triton takes to find out that a process is dead."""

HANG_SECONDS = 20.0
"""A server that takes connections and answers nothing for this long is killed, to be started again."""

FAILURES = 3
"""Failures in a row, of whatever kind, after which a model is loaded anew; a dead one is at once."""

SHARE = 0.02
"""Of a model's time that idle looks may cost: one that takes 200 ms is tried every ten seconds."""

_log = logging.getLogger("sightline.triton")


@dataclass(slots=True)
class _Seen:
    """What is remembered of one version: its counters after the last look, failures since it was well, when it may be
    tried again while it is."""

    counts: tuple[int, int] = (-1, -1)
    failures: int = 0
    due: float = 0.0


@dataclass(slots=True)
class Watchdog:
    """One server, through ``api`` and, where that does not help, through its ``processes``."""

    api: Api
    repository: Repository
    watched: Watched
    processes: Processes
    clock: Callable[[], float] = time.monotonic
    _repairs: Repairs = field(init=False)
    _seen: dict[tuple[str, str], _Seen] = field(default_factory=dict)
    _hangs_since: float | None = None

    def __post_init__(self) -> None:
        self._repairs = Repairs(self.api, self.processes, self.clock)

    async def run(self, hurry: asyncio.Event) -> None:
        """Look again and again; at once, and at everything, when told to ``hurry``."""
        while True:
            began = self.clock()
            hurried = hurry.is_set()
            hurry.clear()
            await self.look(hurried=hurried)
            with suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), max(0.1, INTERVAL - (self.clock() - began)))

    async def look(self, *, hurried: bool = False) -> None:
        """One look at the server and at each of its models, and what has to be done about it."""
        try:
            await self.api.live()
            index = await self.api.index()
            counts = await self.api.counts()
        except Unanswered as trouble:
            self._unanswered(trouble)
            return

        self._hangs_since = None
        self.watched.up()
        self._forget({(entry.name, entry.version) for entry in index})
        served = [entry for entry in index if entry.state == "READY"]
        for entry in index:
            if entry.state != "READY":
                wanted = entry.reason != "unloaded" or self._repairs.owes(entry.name)
                self.watched.model(entry.name, entry.version, 0.0 if wanted else math.nan)

        verdicts = await asyncio.gather(*(self._verdict(entry, counts, hurried=hurried) for entry in served))
        broken: dict[str, str] = {}
        for entry, verdict in zip(served, verdicts, strict=True):
            if verdict is not None and self._must_be_repaired(entry, verdict):
                broken[entry.name] = verdict.reason

        for model, reason in broken.items():
            await self._repair(model, reason)

        await self._repairs.catch_up({entry.name for entry in served})
        for name in shared_memory.clean((self.watched.region,)):
            _log.info("Shared memory %s was left by a dead process: removed", name)

    # The server

    def _unanswered(self, trouble: Unanswered) -> None:
        self.watched.down()
        # A server that is started again loads everything by itself.
        self._seen.clear()
        self._repairs.forget()
        if not trouble.hangs:
            # It is being started, or its supervisor knows that it is dead.
            self._hangs_since = None
            return

        now = self.clock()
        if self._hangs_since is None:
            self._hangs_since = now

        if now - self._hangs_since >= HANG_SECONDS:
            _log.error("tritonserver has not answered for %.0f s: killed", now - self._hangs_since)
            self._hangs_since = None
            self.processes.kill_server()

    # Its models

    async def _verdict(
        self, entry: Entry, counts: Mapping[tuple[str, str], tuple[int, int]], *, hurried: bool = False
    ) -> Probe | None:
        """Return what is known of a version's health now; ``None`` when nothing new can be said."""
        key = (entry.name, entry.version)
        seen = self._seen.setdefault(key, _Seen())
        now = counts.get(key, (0, 0))
        last, seen.counts = seen.counts, now
        served, failed = 0 <= last[0] < now[0], 0 <= last[1] < now[1]
        if not hurried and not failed:
            if served:
                return Probe(True)
            if not seen.failures and self.clock() < seen.due:
                return None

        card = self._card(entry)
        if card is None:
            return None

        # One of several instances may be dead: they take turns.
        tries = 2 * card.engine.instances if (hurried or failed) and card.engine.instances > 1 else 1
        began = self.clock()
        try:
            probe = await self._probe(card, tries)
        except Unanswered as trouble:
            # Busy is not broken.
            probe = Probe(served, f"no answer within {PROBE_SECONDS:g} s" if trouble.hangs else str(trouble))

        seen.due = self.clock() + (self.clock() - began) / SHARE
        if probe.healthy:
            seen.counts = (now[0] + tries, now[1])  # its own were counted, too

        return probe if probe.known else None

    async def _probe(self, card: Card, tries: int) -> Probe:
        """The first failure of so many probes, else a success."""
        probe = await self.api.probe(card)
        while probe.healthy and tries > 1:
            tries -= 1
            probe = await self.api.probe(card)
        return probe

    def _must_be_repaired(self, entry: Entry, verdict: Probe) -> bool:
        seen = self._seen[entry.name, entry.version]
        self.watched.model(entry.name, entry.version, float(verdict.healthy))
        self._repairs.saw(entry.name, healthy=verdict.healthy)
        if verdict.healthy:
            seen.failures = 0
            return False
        seen.failures += 1
        _log.warning("%s/%s fails a tiny inference: %s", entry.name, entry.version, verdict.reason)
        return (verdict.dead or seen.failures >= FAILURES) and self._repairs.may(entry.name)

    async def _repair(self, model: str, reason: str) -> None:
        """Have a model repaired, and tell at once that it is well, if it is."""
        self.watched.repaired(model)
        if not await self._repairs.repair(model, reason):
            return
        for name, version in list(self._seen):
            if name == model:
                self._seen[name, version] = _Seen()
                verdict = await self._verdict(Entry(name, version, "READY", ""), {})
                if verdict is not None:
                    self.watched.model(name, version, float(verdict.healthy))

    def _card(self, entry: Entry) -> Card | None:
        try:
            return self.repository.card(entry.name, entry.version)
        except Problem as problem:
            _log.debug("%s/%s cannot be tried: %s", entry.name, entry.version, problem)
            return None

    def _forget(self, there: set[tuple[str, str]]) -> None:
        for key in [key for key in self._seen if key not in there]:
            del self._seen[key]
        self.watched.keep_only(there)
