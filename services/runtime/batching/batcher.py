"""Joins requests into batches: a bounded queue with priorities, deadlines and cancellation. Knows no tensor.

The rule is Triton's dynamic batcher's: when the model is free, the largest batch that is there leaves; a batch is held
back only when the card asks for a delay; a full one leaves at once. Entries are FIFO inside a priority (a lower number
first). Entries of different ``key`` (shapes) never join: the bucket whose head has waited longest at the most urgent
priority leaves first, so that order is kept inside a priority and key, and no shape starves another.

What waits is counted in rows, since rows are what memory and time go to. A request larger than the whole queue is
let into an empty one: refusing it would tell the client to retry what can never succeed.

Everything runs on the event loop; ``execute`` may answer at once (work shorter than a hand-over) or with a future.
Leaving is put off to the loop's next turn, so that requests which arrive in the same turn still share a batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from services.errors import Problem
from services.runtime.batching.queue import Bucket, Done, Entry, Hooks, Limits, Piece, Queue, Ran, Run
from services.runtime.batching.service_time import ServiceTime
from services.runtime.problems import deadline_exceeded, model_closing, queue_full

T = TypeVar("T")
R = TypeVar("R")


Execute = Callable[[Sequence[T]], "Ran[R] | asyncio.Future[Ran[R]]"]


class Batcher(Generic[T, R]):
    """See the module's docstring. Used from one event loop only."""

    def __init__(
        self,
        execute: Execute[T, R],
        limits: Limits,
        *,
        hooks: Hooks | None = None,
        service: ServiceTime | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._execute = execute
        self._limits = limits
        self._hooks = hooks or Hooks()
        self._service = service or ServiceTime()
        self._clock = clock

        self._queue: Queue[T, R] = Queue()
        self._running_rows = 0
        self._running = 0
        self._sequence = 0
        self._leave: asyncio.Handle | None = None
        self._hold: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._expiry_at = 0.0
        self._closing = False
        self._idle: list[asyncio.Future[None]] = []

    @property
    def depth(self) -> dict[int, int]:
        """Rows that wait, by priority."""
        return self._queue.depth

    async def submit(
        self, pieces: Sequence[Piece[T]], *, priority: int = 1, deadline: float | None = None
    ) -> list[Done[R]]:
        """Queue all pieces or none, and wait for all; the first that fails takes the others out of the queue.

        Raises ``queue-full`` (with ``retry_after``), ``deadline-exceeded``, and whatever ``execute`` says of a piece.
        """
        entries = self._admit(pieces, priority, deadline)

        try:
            return [await entry.future for entry in entries]
        except asyncio.CancelledError:
            if any(entry.waits for entry in entries):
                self._hooks.on_rejected("cancelled")
            raise
        finally:
            for entry in entries:
                self._withdraw(entry)

    async def drain(self) -> None:
        """Wait until nothing waits or runs. What waits for a delay leaves at once."""
        self._closing = True
        while self._queue or self._running:
            self._leave_soon()
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle
        for timer in (self._leave, self._hold, self._expiry):
            if timer is not None:
                timer.cancel()  # a timer would keep the model's memory until it fires

    def abort(self, problem: Callable[[], Problem]) -> None:
        """Fail everything that waits."""
        for entry in self._queue.entries():
            self._refuse(entry, problem())

    # Coming in

    def _admit(self, pieces: Sequence[Piece[T]], priority: int, deadline: float | None) -> list[Entry[T, R]]:
        now = self._clock()
        if deadline is not None and deadline <= now:
            self._hooks.on_rejected("deadline")
            raise deadline_exceeded()

        rows = sum(piece.rows for piece in pieces)
        if any(piece.rows > self._limits.max_rows for piece in pieces):
            raise ValueError(f"a piece has more than {self._limits.max_rows} rows")

        self._check_room(rows, priority, None if deadline is None else deadline - now)
        loop = asyncio.get_running_loop()
        entries = []
        for piece in pieces:
            self._sequence += 1
            future: asyncio.Future[Done[R]] = loop.create_future()
            entry = Entry(
                piece.payload, piece.rows, piece.key, piece.cost, priority, deadline, now, self._sequence, future
            )
            self._queue.add(entry)
            entries.append(entry)

        if deadline is not None and (self._expiry is None or deadline < self._expiry_at):
            self._expire_at(deadline)

        self._leave_soon()
        return entries

    def _check_room(self, rows: int, priority: int, patience: float | None) -> None:
        """Refuse what finds no room, or what could not start in time at the rate that the model was measured at."""
        waiting = self._queue.rows
        if not waiting:
            return

        ahead = self._running_rows + self._queue.rows_ahead(priority)
        rate = self._service.rows_per_second * self._limits.slots
        wait = ahead / rate if rate else None

        if waiting + rows > self._limits.max_queue:
            self._hooks.on_rejected("queue-full")
            raise queue_full(f"{waiting} items wait and {self._limits.max_queue} may.", wait)
        if patience is not None and wait is not None and wait > patience:
            self._hooks.on_rejected("queue-full")
            detail = f"The {ahead} items ahead would take {wait:.1f} s, the deadline is in {patience:.1f} s."
            raise queue_full(detail, wait)

    # Going out

    def _leave_soon(self) -> None:
        if self._leave is None:
            self._leave = asyncio.get_running_loop().call_soon(self._leave_now)

    def _leave_now(self) -> None:
        self._leave = None
        # What runs at once is done here already, and the next leaves in the loop's next turn.
        while self._leave is None and self._queue and self._running < self._limits.slots:
            now = self._clock()
            if self._expiry is not None and self._expiry_at <= now:
                self._drop_expired(now)
            batch = self._next_batch(now)
            if not batch:
                return
            self._run(batch, now)

    def _run(self, batch: list[Entry[T, R]], now: float) -> None:
        rows = sum(entry.rows for entry in batch)
        self._running_rows += rows
        self._running += 1
        try:
            ran = self._execute([entry.payload for entry in batch])
        except Exception as error:
            self._failed(batch, rows, error)
            return

        if isinstance(ran, asyncio.Future):
            ran.add_done_callback(partial(self._ran_elsewhere, batch, rows, now))
            if isinstance(ran, asyncio.Task):  # what runs in a thread cannot be stopped
                run = Run(ran, len(batch))
                for entry in batch:
                    entry.run = run
        else:
            self._ran(batch, rows, now, ran)

    def _next_batch(self, now: float) -> list[Entry[T, R]]:
        """Take the batch that is to leave now; when all are held back, none, and a timer is set for the first."""
        limits = self._limits
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None

        ready = self._queue.buckets()
        if limits.max_delay and not self._closing:
            due = {bucket: self._due(bucket) for bucket in ready}
            ready = [bucket for bucket in ready if due[bucket] <= now]
            if not ready and due:
                self._hold = asyncio.get_running_loop().call_later(min(due.values()) - now, self._leave_soon)

        if not ready:
            return []

        return self._queue.take(min(ready, key=Bucket.urgency), limits.max_rows, limits.max_cost)

    def _due(self, bucket: Bucket[T, R]) -> float:
        if bucket.full(self._limits.max_rows, self._limits.max_cost):
            return 0.0
        return bucket.due(self._limits.max_delay, self._service.seconds)

    def _ran_elsewhere(
        self, batch: list[Entry[T, R]], rows: int, started: float, future: asyncio.Future[Ran[R]]
    ) -> None:
        if future.cancelled():  # the executor was shut down before it began, or all callers have left
            self._failed(batch, rows, model_closing())
        elif (error := future.exception()) is not None:
            self._failed(batch, rows, error)
        else:
            self._ran(batch, rows, started, future.result())

    def _ran(self, batch: list[Entry[T, R]], rows: int, started: float, ran: Ran[R]) -> None:
        self._service.observe(sum(entry.cost for entry in batch), rows, ran.seconds)
        for entry, result in zip(batch, ran.results, strict=True):
            if entry.future.done():  # its caller left while it ran
                continue
            if isinstance(result, Problem):
                entry.future.set_exception(result)
            else:
                entry.future.set_result(Done(result, started - entry.arrived, ran.seconds, rows))
        self._free(rows)
        self._hooks.on_batch(rows, started - min(entry.arrived for entry in batch), ran.seconds)

    def _failed(self, batch: list[Entry[T, R]], rows: int, error: BaseException) -> None:
        for entry in batch:
            if not entry.future.done():
                entry.future.set_exception(error)
        self._free(rows)

    def _free(self, rows: int) -> None:
        """Give back the room of a batch of ``rows`` that has run."""
        self._running_rows -= rows
        self._running -= 1
        self._go_on()

    def _go_on(self) -> None:
        if self._queue:
            self._leave_soon()
        elif self._idle and not self._running:
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()

    # Leaving without having run

    def _withdraw(self, entry: Entry[T, R]) -> None:
        if entry.waits:
            self._queue.remove(entry)
            entry.future.cancel()
            if not self._running:
                self._go_on()
        elif not entry.future.done() or entry.future.cancelled():
            entry.future.cancel()  # runs already; nobody will look at the result
            if entry.run is not None:
                entry.run.leave()
        else:
            entry.future.exception()  # seen: another piece's failure was the one reported

    def _refuse(self, entry: Entry[T, R], problem: Problem) -> None:
        self._queue.remove(entry)
        if not entry.future.done():
            entry.future.set_exception(problem)

    def _expire_at(self, deadline: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry_at = deadline
        delay = max(0.0, deadline - self._clock())
        self._expiry = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        """Answer those whose deadline came while another batch ran; then sleep until the next deadline."""
        self._expiry = None
        self._drop_expired(self._clock())
        deadlines = [entry.deadline for entry in self._queue.entries() if entry.deadline is not None]
        if deadlines:
            self._expire_at(min(deadlines))
        if not self._running:
            self._go_on()

    def _drop_expired(self, now: float) -> None:
        for entry in self._queue.entries():
            if entry.deadline is not None and entry.deadline <= now:
                self._hooks.on_rejected("deadline")
                self._refuse(entry, deadline_exceeded())
