"""The torch worker as a gateway process knows it: connected to while any version needs it, and anew when it ends.

On one machine the first connection starts it (the launcher holds its socket). Requests that come while it starts wait
for it; once a try has failed they are refused until one succeeds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.catalog.card import Card
from services.errors import Problem
from services.runtime.problems import deadline_exceeded, tensor_problem, worker_away, worker_lost
from services.runtime.protocol import Tensor, WorkerStatus
from services.runtime.repository import CARD_FILE
from services.runtime.torch_worker.connection import Connection, Lost, OnSteps
from services.runtime.torch_worker.endpoint import Endpoint
from services.runtime.torch_worker.frames import FrameError

Key = tuple[str, str, str]
"""Name, version, and the sha256 of the card: a version that was written anew is another one."""

START_SECONDS = 120.0
"""For the worker to import PyTorch and say hello."""

PARTS = 4
"""Previews of a stream that may be on their way or wait to be looked at."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_DEATHS = 3
"""Times that the worker may die while it opens a version, before that version is not opened any more."""

_log = logging.getLogger("sightline.runtime")


class TorchWorker:
    """See the module's docstring. Used from one event loop."""

    def __init__(self, endpoint: Endpoint, on_steps: OnSteps) -> None:
        self._endpoint = endpoint
        self._on_steps = on_steps
        self._held: dict[Key, bool] = {}  # whether rows of different requests may join
        self._failures: dict[Key, Problem] = {}
        self._deaths: Counter[Key] = Counter()
        self._connection: Connection | None = None
        self._reason = ""
        self._tried = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def status(self) -> WorkerStatus | None:
        """What it said last; ``None`` while no version needs it."""
        if not self._held:
            return None

        connection = self._connection
        if connection is None:
            return WorkerStatus(up=False)

        facts, status = connection.facts, connection.status
        return WorkerStatus(
            up=True,
            started=float(facts["started"]),
            memory_limit=int(facts["memory"]),
            resident=int(status.get("resident", 0)),
            running=int(status.get("running", 0)),
            waiting=int(status.get("waiting", 0)),
        )

    @property
    def device(self) -> str:
        """What it computes on; empty while that is not known."""
        return str(self._connection.facts["device"]) if self._connection is not None else ""

    def trouble(self, key: Key) -> str:
        """Return why it cannot run a version; empty when it can, or soon will."""
        if key in self._failures:
            return self._failures[key].detail
        return self._reason if self._connection is None else ""

    def joins(self, key: Key) -> bool:
        """Return whether rows of different requests may run together."""
        return self._held.get(key, False)

    async def hold(self, key: Key) -> None:
        """Have a version open from here on. A worker that is away gets it when it is back.

        Raises the ``model-*`` or ``torch-missing`` of a worker that cannot open it.
        """
        self._held.setdefault(key, False)
        connection = await self._reach()
        if connection is None:
            _log.warning("%s/%s waits for the torch worker: %s", *key[:2], self._reason)
            return

        try:
            await self._open(connection, key)
        except Lost as lost:
            _log.warning("The torch worker ended while it opened %s/%s: %s", *key[:2], lost)
        except Problem:
            self._held.pop(key, None)
            raise

    def drop(self, key: Key) -> None:
        """Nobody in this process needs it any more."""
        self._held.pop(key, None)
        self._failures.pop(key, None)
        self._deaths.pop(key, None)
        if self._connection is not None:
            self._connection.tell({"op": "drop", "key": key})

    async def run(
        self,
        key: Key,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        *,
        priority: int = 1,
        deadline: float | None = None,
        stream: Stream | None = None,
    ) -> dict[str, Tensor]:
        """Run the program of a version. Whoever stops waiting has it stopped between two steps.

        Raises ``torch-worker-lost``, ``model-not-ready``, ``deadline-exceeded`` and what the worker says.
        """
        connection = await self._reach()
        if connection is None:
            raise worker_away(key[0], self._reason)
        if key in self._failures:
            raise self._failures[key]

        seconds = None if deadline is None else deadline - time.perf_counter()
        if seconds is not None and seconds <= 0:
            raise deadline_exceeded()

        number = connection.next_number()
        if stream is not None:
            stream.begin(connection, number)

        header = {
            "op": "run",
            "key": key,
            "outputs": outputs,
            "priority": priority,
            "seconds": seconds,
            "credit": None if stream is None else PARTS,
        }
        try:
            answer = await connection.call(number, header, inputs, None if stream is None else stream.parts.put_nowait)
        except Lost as lost:
            raise worker_lost(key[0]) from lost
        except FrameError as error:
            raise tensor_problem(
                "tensor-shape", "A tensor has the wrong shape", f"{error}.", "Send fewer rows in one request."
            ) from error

        return answer.tensors

    async def close(self) -> None:
        self._held.clear()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()

    # The connection

    async def _reach(self) -> Connection | None:
        """The connection, once there is one; ``None`` when the last try to make one has failed."""
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep())
        await self._tried.wait()
        return self._connection

    async def _keep(self) -> None:
        """Be connected for as long as a version is held."""
        pause = _FIRST_PAUSE
        while True:
            try:
                connection = await self._connect()
            except (Lost, FrameError, Problem, OSError, TimeoutError) as error:
                self._failed(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue

            self._connection, self._reason, pause = connection, "", _FIRST_PAUSE
            self._tried.set()
            why = await connection.ended()
            self._connection = None
            self._tried.clear()
            _log.error("The torch worker %s is gone: %s; it is connected to anew", self._endpoint, why)

    def _failed(self, error: Exception) -> None:
        told = error.detail if isinstance(error, Problem) else str(error) or "it does not answer"
        reason = f"the torch worker {self._endpoint} cannot be used: {told.rstrip('.')}"
        if reason != self._reason:
            _log.warning("%s", reason)
        self._reason = reason
        self._tried.set()

    async def _connect(self) -> Connection:
        """A connection on which everything that is held is open, but for what cannot be opened."""
        async with asyncio.timeout(START_SECONDS):
            connection = await Connection.open(self._endpoint, self._on_steps)

        try:
            for key in list(self._held):
                try:
                    await self._open(connection, key)
                except Problem as problem:
                    self._failures[key] = problem
                    _log.error("%s/%s was not opened: %s", *key[:2], problem)
        except BaseException:
            connection.close()
            raise

        return connection

    async def _open(self, connection: Connection, key: Key) -> None:
        if self._deaths[key] >= _DEATHS:
            raise worker_away(key[0], "the torch worker ended each time that it opened it")
        try:
            answer = await connection.call(connection.next_number(), {"op": "open", "key": key})
        except Lost:
            self._deaths[key] += 1
            raise
        del self._deaths[key]
        self._failures.pop(key, None)
        if key in self._held:
            self._held[key] = bool(answer.header["done"]["joins"])
        else:  # dropped meanwhile
            connection.tell({"op": "drop", "key": key})


class Stream:
    """The previews of one run, on their way to whoever looks at them."""

    def __init__(self) -> None:
        self.parts: asyncio.Queue[dict[str, Tensor] | None] = asyncio.Queue()  # bounded by the credit that was given
        self._connection: Connection | None = None
        self._number = 0

    def begin(self, connection: Connection, number: int) -> None:
        self._connection, self._number = connection, number

    def taken(self) -> None:
        """One was looked at: another may come."""
        if self._connection is not None:
            self._connection.tell({"op": "more", "id": self._number, "count": 1})

    def end(self) -> None:
        self.parts.put_nowait(None)


def key_of(folder: Path, card: Card) -> Key:
    """Return what both sides call a version. Raises ``OSError``."""
    return card.name, card.version, hashlib.sha256((folder / CARD_FILE).read_bytes()).hexdigest()
