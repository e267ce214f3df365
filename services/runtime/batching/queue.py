"""What waits for a model: pieces of requests, those of one shape in a bucket, FIFO inside each priority."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from services.errors import Problem

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Piece(Generic[T]):
    """What goes into one batch undivided: ``rows`` of it, ``cost`` in the unit of :attr:`Limits.max_cost`."""

    payload: T
    rows: int = 1
    key: Hashable = None
    cost: int = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_rows`` and ``max_cost`` bound one batch (a lone piece may exceed the cost), ``max_queue`` waiting rows,
    ``slots`` the batches that run at once."""

    max_rows: int
    max_queue: int
    max_cost: int | None = None
    max_delay: float = 0.0
    slots: int = 1


@dataclass(frozen=True, slots=True)
class Ran(Generic[R]):
    """What ``execute`` made of a batch: one result, or that piece's own failure, for each payload, and the seconds."""

    results: Sequence[R | Problem]
    seconds: float


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """One piece's result; seconds it waited and ran, and the rows that ran together."""

    result: R
    queue_seconds: float
    infer_seconds: float
    batch_rows: int


@dataclass(frozen=True, slots=True)
class Hooks:
    """Called after a batch with (rows, longest wait in it, seconds it ran), and with the reason of each refusal."""

    on_batch: Callable[[int, float, float], None] = lambda rows, queued, ran: None
    on_rejected: Callable[[str], None] = lambda reason: None


@dataclass(slots=True, eq=False)
class Run:
    """A batch that runs elsewhere as a task: when all of its ``callers`` have left it is stopped."""

    task: asyncio.Task[object]
    callers: int

    def leave(self) -> None:
        self.callers -= 1
        if not self.callers:
            self.task.cancel()


@dataclass(slots=True, eq=False)
class Entry(Generic[T, R]):
    """One piece in the queue. ``waits`` turns false when it leaves, by running or otherwise; ``run`` is where it runs,
    if that can be stopped."""

    payload: T
    rows: int
    key: Hashable
    cost: int
    priority: int
    deadline: float | None
    arrived: float
    sequence: int
    future: asyncio.Future[Done[R]]
    waits: bool = True
    run: Run | None = None


class Bucket(Generic[T, R]):
    """The waiting entries of one key."""

    def __init__(self) -> None:
        self._lanes: dict[int, deque[Entry[T, R]]] = {}
        self._rows = 0
        self._cost = 0

    @property
    def empty(self) -> bool:
        return not self._lanes

    def add(self, entry: Entry[T, R]) -> None:
        lane = self._lanes.get(entry.priority)
        if lane is None:
            lane = self._lanes[entry.priority] = deque()
        lane.append(entry)
        self._rows += entry.rows
        self._cost += entry.cost

    def remove(self, entry: Entry[T, R]) -> None:
        lane = self._lanes[entry.priority]
        lane.remove(entry)
        self._left(entry, lane)

    def entries(self) -> list[Entry[T, R]]:
        return [entry for lane in self._lanes.values() for entry in lane]

    def urgency(self) -> tuple[int, int]:
        """Priority and arrival number of the entry that is to go first."""
        priority = min(self._lanes)
        return priority, self._lanes[priority][0].sequence

    def full(self, max_rows: int, max_cost: int | None) -> bool:
        """Return whether waiting longer cannot make the next batch larger."""
        return self._rows >= max_rows or (max_cost is not None and self._cost >= max_cost)

    def due(self, delay: float, seconds: Callable[[int], float]) -> float:
        """When a batch that is held back must leave: ``delay`` after its oldest came, sooner to meet a deadline."""
        takes = seconds(self._cost)
        return min(
            entry.arrived + delay if entry.deadline is None else min(entry.arrived + delay, entry.deadline - takes)
            for lane in self._lanes.values()
            for entry in lane
        )

    def take(self, max_rows: int, max_cost: int | None) -> list[Entry[T, R]]:
        """Remove and return the next batch: in order, until the next entry does not fit. Never empty."""
        batch: list[Entry[T, R]] = []
        rows = cost = 0
        for priority in sorted(self._lanes):
            lane = self._lanes[priority]
            while lane:
                entry = lane[0]
                too_many = rows + entry.rows > max_rows
                too_dear = max_cost is not None and cost + entry.cost > max_cost
                if batch and (too_many or too_dear):
                    return batch
                lane.popleft()
                self._left(entry, lane)
                batch.append(entry)
                rows += entry.rows
                cost += entry.cost

        return batch

    def _left(self, entry: Entry[T, R], lane: deque[Entry[T, R]]) -> None:
        self._rows -= entry.rows
        self._cost -= entry.cost
        if not lane:
            del self._lanes[entry.priority]


class Queue(Generic[T, R]):
    """All that waits: a bucket for each key that something waits with, and the rows by priority."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, Bucket[T, R]] = {}
        self._rows: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._buckets)

    @property
    def depth(self) -> dict[int, int]:
        """Rows by priority, the most urgent first."""
        return {priority: rows for priority, rows in sorted(self._rows.items()) if rows}

    @property
    def rows(self) -> int:
        return sum(self._rows.values())

    def rows_ahead(self, priority: int) -> int:
        """Rows that would leave before what comes now with ``priority``."""
        return sum(rows for other, rows in self._rows.items() if other <= priority)

    def buckets(self) -> list[Bucket[T, R]]:
        return list(self._buckets.values())

    def entries(self) -> list[Entry[T, R]]:
        """List everything that waits; a copy, so that its entries may be taken out."""
        return list(chain.from_iterable(bucket.entries() for bucket in self._buckets.values()))

    def add(self, entry: Entry[T, R]) -> None:
        bucket = self._buckets.get(entry.key)
        if bucket is None:
            bucket = self._buckets[entry.key] = Bucket()
        bucket.add(entry)
        self._rows[entry.priority] = self._rows.get(entry.priority, 0) + entry.rows

    def take(self, bucket: Bucket[T, R], max_rows: int, max_cost: int | None) -> list[Entry[T, R]]:
        """Take the next batch out of one of the buckets."""
        batch = bucket.take(max_rows, max_cost)
        if bucket.empty:
            del self._buckets[batch[0].key]
        for entry in batch:
            self._count_out(entry)
        return batch

    def remove(self, entry: Entry[T, R]) -> None:
        """Take it out without running it."""
        bucket = self._buckets[entry.key]
        bucket.remove(entry)
        if bucket.empty:
            del self._buckets[entry.key]
        self._count_out(entry)

    def _count_out(self, entry: Entry[T, R]) -> None:
        entry.waits = False
        self._rows[entry.priority] -= entry.rows
        if not self._rows[entry.priority]:
            del self._rows[entry.priority]
