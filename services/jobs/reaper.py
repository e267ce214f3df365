"""Finds running jobs whose worker is gone, and gives them back to the queue.

A worker lives as long as the beat of its job changes. The reaper notes when it last saw it change, on its own
monotonic clock; so it makes no difference what any wall clock shows. A worker on this machine can be looked at: when
its process is gone there is nothing to wait for, and when it plainly lives it gets more time to show it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from sqlalchemy import Engine

from services.jobs.leases import Holding, holdings, take_away
from services.jobs.owner import Sight, look

log = logging.getLogger(__name__)

_PATIENCE_WITH_LIVING = 6
"""Leases that a process which is there may be silent: a library may hold Python's lock for long."""


@dataclass(slots=True)
class _Seen:
    fence: int
    beat: int
    since: float


class Reaper:
    """Call :meth:`sweep` about once a second. Any number of reapers may watch the same jobs."""

    def __init__(self, engine: Engine, *, lease: float, max_deaths: int) -> None:
        self._engine = engine
        self._lease = lease
        self._max_deaths = max_deaths
        self._seen: dict[str, _Seen] = {}
        self._last = time.monotonic()

    def sweep(self) -> int:
        """Judge every running job; returns how many were taken away."""
        running = holdings(self._engine)
        now = time.monotonic()
        if now - self._last > max(3.0, self._lease / 2):
            # This process was stopped, or the database away: workers may not have been able to beat either.
            self._seen.clear()

        self._last = now
        taken = 0
        for holding in running:
            reason = self._judge(holding, now)
            if reason is not None:
                became = take_away(self._engine, holding, max_deaths=self._max_deaths, reason=reason)
                if became is not None:
                    taken += 1
                    extra = {"job": holding.job_id, "worker": holding.worker, "became": became}
                    log.warning("job taken from a lost worker: %s", reason, extra=extra)

        self._seen = {holding.job_id: self._seen[holding.job_id] for holding in running}
        return taken

    def _judge(self, holding: Holding, now: float) -> str | None:
        """Return why the job is to be taken away, if it is."""
        seen = self._seen.get(holding.job_id)
        if seen is None or (seen.fence, seen.beat) != (holding.fence, holding.beat):
            seen = self._seen[holding.job_id] = _Seen(holding.fence, holding.beat, now)

        silent = now - seen.since
        match look(holding.worker):
            case Sight.GONE:
                return "its process is gone"
            case Sight.STOPPED if silent >= self._lease:
                return f"its process is stopped, silent for {silent:.0f} s"
            case Sight.ELSEWHERE if silent >= self._lease:
                return f"silent for {silent:.0f} s"
            case Sight.ALIVE if silent >= self._lease * _PATIENCE_WITH_LIVING:
                return f"its process lives but was silent for {silent:.0f} s"

        return None
