"""One connection to the torch worker, on which any number of calls are under way at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from services.errors import Kind, Problem
from services.runtime.protocol import Tensor
from services.runtime.torch_worker import frames
from services.runtime.torch_worker.endpoint import VERSION, Endpoint, proof
from services.runtime.torch_worker.frames import Frame, FrameError

CONNECT_SECONDS = 5.0
SILENT_SECONDS = 30.0
"""The worker speaks once a second: one that says nothing for so long is gone, or hangs."""

OnSteps = Callable[[str, int], None]
OnPart = Callable[[dict[str, Tensor]], None]


class Lost(Exception):
    """The connection has ended: the worker died, or was never there."""


class Connection:
    """See the module's docstring. Used from one event loop. :meth:`open` makes it.

    ``facts`` and ``status`` are what the worker says of itself, at first and once a second. ``on_steps`` is told the
    model of each run that has ended, and the steps that it took.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        facts: Mapping[str, Any],
        on_steps: OnSteps,
    ) -> None:
        self.facts = facts
        self.status: Mapping[str, Any] = {}
        self._reader = reader
        self._writer = writer
        self._on_steps = on_steps
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Frame]] = {}
        self._parts: dict[int, OnPart] = {}
        self._reason = ""
        self._listening = asyncio.create_task(self._listen())

    @staticmethod
    async def open(endpoint: Endpoint, on_steps: OnSteps) -> Connection:
        """Raises :class:`Lost`, :class:`FrameError`, ``OSError``, and the :class:`Problem` of a worker that refuses."""
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await endpoint.connect()

        try:
            hello = (await frames.read(reader, max_arrays=0)).header
            writer.write(frames.encode({"version": VERSION, "proof": proof(endpoint.token, str(hello.get("nonce")))}))
            answer = (await frames.read(reader, max_arrays=0)).header
            if "problem" in answer:
                raise problem_of(answer["problem"])
            return Connection(reader, writer, answer["ready"], on_steps)
        except BaseException as error:
            writer.transport.abort()
            if isinstance(error, asyncio.IncompleteReadError | ConnectionError):
                raise Lost("it ended before it was ready") from error
            raise

    @property
    def lost(self) -> bool:
        return self._listening.done()

    async def ended(self) -> str:
        """Return when the connection has ended; why."""
        await asyncio.wait([self._listening])
        return self._reason

    def close(self) -> None:
        self._listening.cancel()
        self._writer.transport.abort()

    def tell(self, header: Mapping[str, object]) -> None:
        """Say something that has no answer."""
        if not self.lost:
            self._writer.write(frames.encode({"id": 0, **header}))

    def next_number(self) -> int:
        """A number for a call, by which its previews are asked for."""
        return next(self._numbers)

    async def call(
        self,
        number: int,
        header: Mapping[str, object],
        tensors: Mapping[str, Tensor] | None = None,
        on_part: OnPart | None = None,
    ) -> Frame:
        """Ask, and wait for the answer; whoever stops waiting has the worker stop.

        Raises :class:`Lost`, and the :class:`Problem` that the worker answers with.
        """
        if self.lost:
            raise Lost(self._reason)

        frame = frames.encode({**header, "id": number}, tensors)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        if on_part is not None:
            self._parts[number] = on_part

        try:
            self._writer.write(frame)
            with suppress(ConnectionError):  # the listener notices, too, and fails the call
                await self._writer.drain()
            return await answer
        except asyncio.CancelledError:
            self.tell({"op": "cancel", "id": number})
            raise
        finally:
            self._calls.pop(number, None)
            self._parts.pop(number, None)

    async def _listen(self) -> None:
        try:
            while True:
                async with asyncio.timeout(SILENT_SECONDS):
                    frame = await frames.read(self._reader)
                self._heard(frame)
        except TimeoutError:
            self._reason = f"it said nothing for {SILENT_SECONDS:g} s"
        except (FrameError, KeyError, TypeError, ValueError) as error:
            self._reason = f"it sent {error}"
        except (asyncio.IncompleteReadError, OSError):
            self._reason = "it has ended"
        finally:
            self._writer.transport.abort()
            for answer in self._calls.values():
                if not answer.done():
                    answer.set_exception(Lost(self._reason or "the connection was closed"))

    def _heard(self, frame: Frame) -> None:
        header = frame.header
        if "status" in header:
            self.status = header["status"]
            return

        number = header["id"]
        if header.get("part"):
            if (on_part := self._parts.get(number)) is not None:
                on_part(frame.tensors)
            return

        if header.get("steps"):
            self._on_steps(str(header["model"]), int(header["steps"]))

        answer = self._calls.get(number)
        if answer is None or answer.done():  # whoever asked has left
            return

        if "problem" in header:
            answer.set_exception(problem_of(header["problem"]))
        else:
            answer.set_result(frame)


def problem_of(document: Mapping[str, Any]) -> Problem:
    """The worker's problem as this process's own."""
    return Problem(
        Kind(document["kind"]),
        str(document["code"]),
        str(document["title"]),
        str(document["detail"]),
        remedy=document["remedy"],
        retry_after=document["retry_after"],
    )
