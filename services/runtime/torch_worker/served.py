"""A version of a model that the torch worker runs: queued here, where priority and deadline are known, computed there.

The rows of one request stay together: a program may make them depend on each other. Requests share a batch only when
the program says that they may. A stream is queued like everything else, and takes a place until its reader has read it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.catalog.card import Card
from services.errors import Kind, Problem
from services.runtime.batching.queue import Piece, Ran
from services.runtime.problems import deadline_exceeded, tensor_problem, worker_away
from services.runtime.protocol import Inference, Options, Tensor
from services.runtime.served import DEFAULT, Observer, Served, Tensors, Work, split, wanted
from services.runtime.tensors import elements, shapes_of
from services.runtime.torch_worker.worker import Key, Stream, TorchWorker

SLACK = 0.1
"""Seconds that a request may outlive its deadline, so that the queue and the worker, which say the same, come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Streamed(Options):
    """``stream`` takes the previews of this run."""

    stream: Stream


class TorchServed(Served):
    """See the module's docstring. ``slots`` runs may be under way from this process."""

    engine = "torch"
    reason = ""

    def __init__(
        self, folder: Path, card: Card, worker: TorchWorker, observer: Observer, *, key: Key, slots: int
    ) -> None:
        self.slots = slots
        self.key = key
        self._worker = worker
        super().__init__(folder, card, observer)

    @property
    def providers(self) -> tuple[str, ...]:
        """The device that it is computed on."""
        return (self._worker.device,) if self._worker.device else ()

    @property
    def trouble(self) -> str:
        return self._worker.trouble(self.key)

    async def infer(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None, options: Options = DEFAULT
    ) -> Inference:
        """See ``Served.infer``. Refuses at once while the worker is away, and answers at the deadline, whatever the
        worker does."""
        if self.trouble:
            raise worker_away(self.card.name, self.trouble)
        if options.deadline is None:
            return await super().infer(inputs, outputs, options)

        try:
            async with asyncio.timeout(options.deadline - time.perf_counter() + SLACK):
                return await super().infer(inputs, outputs, options)
        except TimeoutError:
            self.statistics.fail_count += 1
            raise deadline_exceeded("The step that it was in went on for too long.") from None

    async def stream(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None, options: Options = DEFAULT
    ) -> AsyncGenerator[Inference, None]:
        """See ``ModelHandle.stream``. A reader that stops reading, or closes this, stops the run."""
        stream = Stream()
        treated = _Streamed(
            priority=options.priority, deadline=options.deadline, traceparent=options.traceparent, stream=stream
        )
        answering = asyncio.create_task(self.infer(inputs, outputs, treated))
        answering.add_done_callback(lambda _: stream.end())

        try:
            while (part := await stream.parts.get()) is not None:
                yield Inference(part, self.card.version, final=False)
                stream.taken()
            yield await answering
        finally:
            answering.cancel()
            await asyncio.wait([answering])

    async def retire(self) -> None:
        await super().retire()
        self._worker.drop(self.key)

    def release(self) -> None:
        """Nothing of it is in this process."""

    def _pieces(self, inputs: Tensors, outputs: tuple[str, ...], rows: int, options: Options) -> list[Piece[Work]]:
        if rows > self.batch_rows:
            raise tensor_problem(
                "tensor-shape",
                "A tensor has the wrong shape",
                f"The inputs have {rows} rows, and the model takes {self.batch_rows} together.",
                "Send fewer rows in one request.",
            )
        shapes = shapes_of(inputs)
        cost = rows * elements(shapes)
        joins = self._worker.joins(self.key) and not isinstance(options, _Streamed)
        work = Work(inputs, outputs, rows, cost, options)
        return [Piece(work, rows, shapes if joins else object(), cost)]

    def _execute(self, batch: Sequence[Work]) -> asyncio.Future[Ran[Tensors]]:
        return asyncio.get_running_loop().create_task(self._run(batch))

    async def _run(self, batch: Sequence[Work]) -> Ran[Tensors]:
        """The seconds are those in the worker, its own queue included: so long is a place here taken."""
        began = time.perf_counter()
        results: list[Tensors | Problem]
        try:
            results = list(await self._run_together(batch))
        except Problem as problem:
            if len(batch) == 1 or problem.kind is not Kind.INVALID:
                raise
            # One bad row must not fail those that happened to share its batch.
            results = [await self._run_alone(work) for work in batch]
        return Ran(results, time.perf_counter() - began)

    async def _run_alone(self, work: Work) -> Tensors | Problem:
        try:
            return (await self._run_together([work]))[0]
        except Problem as problem:
            return problem

    async def _run_together(self, batch: Sequence[Work]) -> list[Tensors]:
        options = batch[0].options
        deadlines = [work.options.deadline for work in batch]
        latest = None if None in deadlines else max(one for one in deadlines if one is not None)
        outputs = await self._worker.run(
            self.key,
            _joined([work.inputs for work in batch]),
            wanted(batch),
            priority=options.priority,
            deadline=latest,
            stream=options.stream if isinstance(options, _Streamed) else None,
        )
        return split(self.card, self.signature, batch, outputs)


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
