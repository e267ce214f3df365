"""A job's events as server-sent events: one look at the database serves all watchers of a process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.stream import Event, Events
from services.jobs import events
from services.jobs.events import Head
from services.jobs.records import FINAL

_LOOK_SECONDS = 0.3
_PAGE = 500


@dataclass(slots=True)
class _Watched:
    watchers: int = 0
    head: Head | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class JobStream:
    """The streams of one process. ``draining`` is asked a few times a second whether they are to end."""

    def __init__(self, engine: Engine, draining: Callable[[], bool]) -> None:
        self._engine = engine
        self._draining = draining
        self._watched: dict[str, _Watched] = {}
        self._looking: asyncio.Task[None] | None = None

    async def watch(self, job_id: str, after: int) -> Events:
        """The events after number ``after``, as they come, until the job has ended and all is told."""
        yield b"retry: 2000\n\n"
        with self._watching(job_id) as watched:
            while not self._draining():
                watched.changed.clear()
                head = (await asyncio.to_thread(events.heads, self._engine, [job_id])).get(job_id)
                if head is None:
                    return  # deleted
                while page := await asyncio.to_thread(events.after, self._engine, job_id, after, _PAGE):
                    yield b"".join(_event(one).encoded() for one in page)
                    after = page[-1].seq
                if head.state in FINAL and after >= head.seq:
                    return
                while not watched.changed.is_set() and not self._draining():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(watched.changed.wait(), 1.0)

    @contextlib.contextmanager
    def _watching(self, job_id: str) -> Iterator[_Watched]:
        watched = self._watched.setdefault(job_id, _Watched())
        watched.watchers += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield watched
        finally:
            watched.watchers -= 1
            if not watched.watchers:
                del self._watched[job_id]

    async def _look(self) -> None:
        """Wake up the watchers of jobs that changed; ends when nobody watches."""
        while self._watched:
            with contextlib.suppress(SQLAlchemyError):  # the next look may find the database again
                heads = await asyncio.to_thread(events.heads, self._engine, list(self._watched))
                for job_id, watched in self._watched.items():
                    if watched.head != heads.get(job_id):
                        watched.head = heads.get(job_id)
                        watched.changed.set()
            await asyncio.sleep(_LOOK_SECONDS)


def _event(told: events.Event) -> Event:
    return Event({**told.data, "at": told.at}, told.event, told.seq)
