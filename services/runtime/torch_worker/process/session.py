"""One gateway's connection to the worker: what it asks for, and what it is told. Ends with the connection.

A gateway asks, each with a number of its own: ``open`` and ``drop`` a version; ``run`` it on arrays; ``cancel`` a run;
``more`` of its previews. It is told ``part`` of a run's outputs, its ``done`` with all of them, or a ``problem``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from models.programs import Arrays
from services.errors import Problem
from services.runtime.problems import engine_failed, model_closing, model_invalid
from services.runtime.torch_worker import frames
from services.runtime.torch_worker.frames import Frame, FrameError
from services.runtime.torch_worker.process.memory import Memory
from services.runtime.torch_worker.process.runs import Run, Runs, abandoned
from services.runtime.torch_worker.process.versions import Key, Versions

_log = logging.getLogger("sightline.torch")


class Session:
    """See the module's docstring. ``draining`` turns true when nothing new is begun any more."""

    def __init__(self, writer: asyncio.StreamWriter, versions: Versions, runs: Runs, memory: Memory) -> None:
        self.draining = False
        self._writer = writer
        self._versions = versions
        self._runs = runs
        self._memory = memory
        self._loop = asyncio.get_running_loop()
        self._mine: dict[int, Run] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def tell(self, header: Mapping[str, object], tensors: Arrays | None = None) -> None:
        """Send a frame, unless the connection has ended."""
        if not self._writer.is_closing():
            self._writer.write(frames.encode(header, dict(tensors or {})))

    async def follow(self, reader: asyncio.StreamReader) -> None:
        """Do what is asked until the connection ends. Raises :class:`FrameError` for what cannot be understood."""
        try:
            while True:
                frame = await frames.read(reader)
                try:
                    self._do(frame)
                except (KeyError, TypeError, ValueError) as error:
                    raise FrameError(f"a message without what belongs in it: {error!r}") from error
                # Whoever does not read his answers asks nothing more.
                await self._writer.drain()
        finally:
            self._end()

    def _do(self, frame: Frame) -> None:
        header = frame.header
        number = int(header["id"])

        match header["op"]:
            case "open":
                task = self._loop.create_task(self._open(number, _key(header)))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            case "drop":
                self._versions.drop(_key(header), self)
            case "run":
                self._run(number, frame)
            case "cancel":
                if (run := self._mine.get(number)) is not None:
                    self._runs.stop(run, abandoned())
            case "more":
                if (run := self._mine.get(number)) is not None:
                    run.more(int(header["count"]))
            case other:
                raise ValueError(f"op {other!r}")

    async def _open(self, number: int, key: Key) -> None:
        try:
            opened = await self._versions.open(key, self)
        except Exception as error:  # whatever a file makes a program do
            self.tell({"id": number, "problem": document(self._problem_of_opening(key, error))})
            return
        if self._writer.is_closing():  # it ended meanwhile
            self._versions.drop(key, self)
        self.tell({"id": number, "done": {"joins": opened.program.joins}})

    def _problem_of_opening(self, key: Key, error: Exception) -> Problem:
        of_memory = self._memory.problem_of(error)
        if of_memory is not None or isinstance(error, Problem):
            return of_memory or error  # type: ignore[return-value]
        _log.error("%s/%s could not be opened", *key[:2], exc_info=error)
        return model_invalid(
            f"{key[0]}/{key[1]}: its program cannot open it: {type(error).__name__}: {error}",
            "Pull or import the model again.",
        )

    def _run(self, number: int, frame: Frame) -> None:
        header, key = frame.header, _key(frame.header)
        opened = self._versions.get(key)
        if opened is None or self not in opened.holders:
            raise ValueError(f"{key[0]}/{key[1]} is not open")
        if self.draining:
            self.tell({"id": number, "problem": document(model_closing())})
            return

        run = Run(
            opened,
            frame.tensors,
            tuple(map(str, header["outputs"])),
            priority=int(header["priority"]),
            credit=header["credit"],
            send=lambda part: self._send_part(number, part),
        )
        self._mine[number] = run
        run.outcome.add_done_callback(lambda outcome: self._ended(number, run, outcome))
        try:
            self._runs.submit(run, header["seconds"])
        except Problem as problem:
            run.outcome.set_exception(problem)

    def _send_part(self, number: int, part: Arrays) -> None:
        """From the run's thread, which may use the arrays again at once: so they are copied here."""
        frame = frames.encode({"id": number, "part": True}, dict(part))
        self._loop.call_soon_threadsafe(self._write, frame)

    def _write(self, frame: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(frame)

    def _ended(self, number: int, run: Run, outcome: asyncio.Future[Arrays]) -> None:
        del self._mine[number]
        facts = {"id": number, "model": run.opened.card.name, "steps": run.steps}
        error = outcome.exception()
        if error is None:
            try:
                self.tell({**facts, "done": {}}, outcome.result())
                return
            except FrameError as too_long:
                error = engine_failed(f"{run.opened.card.name}: {too_long}.")
        assert isinstance(error, Problem)
        self.tell({**facts, "problem": document(error)})

    def _end(self) -> None:
        for run in list(self._mine.values()):
            self._runs.stop(run, abandoned())
        for task in self._opening:
            task.cancel()
        self._versions.drop_all(self)


def document(problem: Problem) -> dict[str, Any]:
    """Return what the gateway makes the same problem of."""
    fields = ("code", "title", "detail", "remedy", "retry_after")
    return {"kind": problem.kind.value, **{name: getattr(problem, name) for name in fields}}


def _key(header: Mapping[str, Any]) -> Key:
    name, version, digest = header["key"]
    return str(name), str(version), str(digest)
