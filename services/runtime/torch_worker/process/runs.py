"""Runs of programs: the most urgent first, a few at once, each in a thread; stopped between two steps.

A run is stopped when nobody waits for it any more or its time is up. A step cannot be interrupted: when one goes on
for ``stop_seconds`` after that, the process ends, and its supervisor starts it anew.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from models.programs import Arrays
from services.errors import Kind, Problem
from services.runtime.problems import deadline_exceeded, engine_failed, inference_failed, queue_full
from services.runtime.torch_worker.process.memory import Memory
from services.runtime.torch_worker.process.versions import Opened

MAX_WAITING = 1024
"""Runs that wait, of all gateways: each of them bounds its own queues far below that."""

STUCK_EXIT = 70

_log = logging.getLogger("sightline.torch")

SendPart = Callable[[Arrays], None]


class Run:
    """One run, as its thread and the event loop share it. ``credit``: previews that may be sent before more are asked
    for; ``None`` for a run that sends none.

    ``outcome`` is the ``outputs`` that were asked for, or why there are none.
    """

    def __init__(
        self,
        opened: Opened,
        inputs: Arrays,
        outputs: tuple[str, ...],
        *,
        priority: int,
        credit: int | None,
        send: SendPart,
    ) -> None:
        self.opened = opened
        self.inputs = inputs
        self.outputs = outputs
        self.priority = priority
        self.previews = credit is not None
        self.steps = 0
        self.started = False
        self.outcome: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        self._credit = credit or 0
        self._send = send
        self._changed = threading.Condition()
        self._stopping: Problem | None = None

    @property
    def stopping(self) -> Problem | None:
        """Why it is to end, once it is."""
        return self._stopping

    def stop(self, problem: Problem) -> None:
        """End at the next step, or while it waits for credit. Any thread."""
        with self._changed:
            self._stopping = self._stopping or problem
            self._changed.notify()

    def more(self, count: int) -> None:
        """``count`` previews have been looked at. Any thread."""
        with self._changed:
            self._credit += count
            self._changed.notify()

    def work(self, memory: Memory) -> Arrays:
        """Run the program to its end. Raises :class:`Problem`, and what programs raise."""
        steps = self.opened.program.run(self.inputs, self.previews)
        try:
            while True:
                self._check(memory)
                try:
                    part = next(steps)
                except StopIteration as end:
                    return self._wanted(self.opened.check(end.value))
                self.steps += 1
                if part is not None and self.previews:
                    self._preview(self._wanted(self.opened.check_part(part)))
        finally:
            steps.close()

    def _wanted(self, outputs: Arrays) -> Arrays:
        return {name: array for name, array in outputs.items() if name in self.outputs}

    def _check(self, memory: Memory) -> None:
        if self._stopping is not None:
            raise self._stopping
        memory.check()

    def _preview(self, part: Arrays) -> None:
        """Send it once there is credit: a slow reader slows the run down, and fills nobody's memory."""
        with self._changed:
            while not self._credit and self._stopping is None:
                self._changed.wait()
            if self._stopping is not None:
                raise self._stopping
            self._credit -= 1
        self._send(part)


class Runs:
    """All of them. Used from one event loop."""

    def __init__(self, concurrency: int, memory: Memory, stop_seconds: float) -> None:
        self._concurrency = concurrency
        self._memory = memory
        self._stop_seconds = stop_seconds
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="run")
        self._waiting: list[tuple[int, int, Run]] = []
        self._numbers = itertools.count()
        self._running: set[Run] = set()
        self._timers: dict[Run, list[asyncio.TimerHandle]] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, run: Run, seconds: float | None) -> None:
        """Queue it; ``run.outcome`` tells how it went, in at most ``seconds``. Raises ``queue-full``."""
        if len(self._waiting) >= MAX_WAITING:
            raise queue_full(f"{MAX_WAITING} runs wait in the torch worker.", None)
        self._timers[run] = []
        if seconds is not None:
            self._later(run, seconds, self._too_late)
        heapq.heappush(self._waiting, (run.priority, next(self._numbers), run))
        self._fill()

    def stop(self, run: Run, problem: Problem) -> None:
        """It is to end: at once when it waits, between two steps when it runs. Repeating it changes nothing."""
        if run.outcome.done() or run.stopping is not None:
            return
        run.stop(problem)
        if run.started:
            self._later(run, self._stop_seconds, self._stuck)
            return
        self._waiting = [entry for entry in self._waiting if entry[2] is not run]
        heapq.heapify(self._waiting)
        self._finish(run, problem)

    async def drain(self) -> None:
        """Return once nothing runs or waits."""
        while self._running or self._waiting:
            outcomes = [run.outcome for run in (*self._running, *(entry[2] for entry in self._waiting))]
            await asyncio.wait(outcomes)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._concurrency:
            run = heapq.heappop(self._waiting)[2]
            run.started = True
            self._running.add(run)
            future = asyncio.get_running_loop().run_in_executor(self._executor, run.work, self._memory)
            future.add_done_callback(partial(self._ran, run))

    def _ran(self, run: Run, done: asyncio.Future[Arrays]) -> None:
        self._running.discard(run)
        error = done.exception()
        self._finish(run, done.result() if error is None else self._problem(run, error))
        self._fill()

    def _finish(self, run: Run, result: Arrays | Problem) -> None:
        for timer in self._timers.pop(run):
            timer.cancel()
        if isinstance(result, Problem):
            run.outcome.set_exception(result)
        else:
            run.outcome.set_result(result)

    def _problem(self, run: Run, error: BaseException) -> Problem:
        if isinstance(error, Problem):
            return error
        of_memory = self._memory.problem_of(error)
        if of_memory is not None:
            return of_memory
        name = run.opened.card.name
        if isinstance(error, ValueError | IndexError):
            return inference_failed(f"{name}: {error}")
        _log.error("%s failed in step %d", name, run.steps + 1, exc_info=error)
        return engine_failed(f"{name}: {type(error).__name__}: {error}")

    def _later(self, run: Run, seconds: float, what: Callable[[Run], None]) -> None:
        self._timers[run].append(asyncio.get_running_loop().call_later(max(0.0, seconds), what, run))

    def _too_late(self, run: Run) -> None:
        self.stop(run, deadline_exceeded(f"It was stopped after {run.steps} steps." if run.started else ""))

    def _stuck(self, run: Run) -> None:
        name, seconds = run.opened.card.name, self._stop_seconds
        _log.error("%s did not stop within %g s, so the torch worker starts anew", name, seconds)
        logging.shutdown()
        os._exit(STUCK_EXIT)


def abandoned() -> Problem:
    """Nobody waits for the answer any more."""
    return Problem(Kind.CANCELLED, "cancelled", "The caller has left")
