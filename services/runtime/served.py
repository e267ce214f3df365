"""One version of a model as it is being served: its session, its batcher, its counters.

A batch that is expected to take less than a millisecond runs on the event loop itself. Handing it to a thread and back
costs 50 us with uvloop and 90 us without (measured, for a run of 6 us), and two threads that take turns at the
interpreter's lock slow each other down; a millisecond is what decoding one picture blocks the loop for anyway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from models.catalog.card import Card
from services.errors import Problem
from services.runtime.backend import Inference, Options, Statistics, Tensor
from services.runtime.batcher import Batcher
from services.runtime.problems import engine_failed, model_closing, tensor_problem
from services.runtime.queue import Hooks, Limits, Piece, Ran
from services.runtime.service_time import ServiceTime
from services.runtime.session import Session
from services.runtime.tensors import Signature, Stacker, chunks, elements, shapes_of
from services.runtime.warmup import batch_rows, row_seconds

INLINE_SECONDS = 0.001

Tensors = dict[str, Tensor]


class Observer(Protocol):
    """Is told what happens, for metrics. Called on the event loop; must be quick and must not raise."""

    def on_batch(self, model: str, version: str, size: int, queue_seconds: float, infer_seconds: float) -> None:
        """A batch of ``size`` rows ran; ``queue_seconds`` is the longest wait in it."""
        ...

    def on_rejected(self, model: str, reason: str) -> None:
        """A request was turned away: ``queue-full``, ``deadline`` or ``cancelled``."""
        ...


class NoObserver:
    """For those who do not watch."""

    def on_batch(self, model: str, version: str, size: int, queue_seconds: float, infer_seconds: float) -> None:
        pass

    def on_rejected(self, model: str, reason: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of a request: its tensors, and the outputs it wants."""

    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    rows: int
    cost: int


class Served:
    """See the module's docstring. :meth:`warm_up` and :meth:`prepare` come first, in any thread; the rest is the event
    loop's."""

    def __init__(self, folder: Path, card: Card, session: Session, executor: Executor, observer: Observer) -> None:
        self.folder = folder
        self.card = card
        self.session = session
        self.signature = Signature(card)
        self.statistics = Statistics()
        self.batch_rows = card.batching.max_batch_size if self.signature.batched else 1
        self.row_seconds = float("inf")
        self.retired = False
        self._executor = executor
        self._observer = observer
        self._service = ServiceTime()
        self._stacker = Stacker()
        self._batcher = self._new_batcher()

    def warm_up(self) -> None:
        """Run the model until it is warm; ``row_seconds`` is then what a row takes alone."""
        self.row_seconds = row_seconds(self.card, self._timed)

    def prepare(self) -> None:
        """Find the batch size that pays. The model must be warm."""
        self.batch_rows = batch_rows(self.card, self._timed, self.row_seconds, self._service.observe)
        self._service.calibrate()
        self._batcher = self._new_batcher()

    @property
    def engine(self) -> str:
        return self.session.engine

    @property
    def providers(self) -> tuple[str, ...]:
        return self.session.providers

    @property
    def reason(self) -> str:
        return self.session.reason

    @property
    def depth(self) -> dict[int, int]:
        """Rows that wait, by priority."""
        return self._batcher.depth

    async def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None, options: Options) -> Inference:
        """Check, queue, run, and give back views of the batch's outputs. See ``Backend.infer``."""
        began = time.perf_counter_ns()
        statistics = self.statistics
        try:
            checked, rows = self.signature.check(inputs)
            names = self.signature.check_outputs(outputs)
            done = await self._batcher.submit(
                self._pieces(checked, names, rows), priority=options.priority, deadline=options.deadline
            )
        except Problem:
            statistics.fail_count += 1
            statistics.fail_ns += time.perf_counter_ns() - began
            raise
        took = time.perf_counter_ns() - began
        infer_seconds = sum(one.infer_seconds for one in done)
        answer = Inference(
            outputs=_joined([one.result for one in done]),
            version=self.card.version,
            # The pieces of one request run one after another: a later one waits while an earlier one runs.
            queue_seconds=done[0].queue_seconds if len(done) == 1 else max(0.0, took * 1e-9 - infer_seconds),
            infer_seconds=infer_seconds,
            batch_size=max(one.batch_rows for one in done),
        )
        self._count(answer, rows, took)
        return answer

    async def retire(self) -> None:
        """Let what is queued finish; nothing new comes, since nobody looks this version up any more."""
        await self._batcher.drain()
        self.release()

    def release(self) -> None:
        """Give the weights back. The batcher's callbacks lead back here: without this they would stay until the next
        full garbage collection."""
        del self.session

    def abort(self) -> None:
        """Answer everything that waits with 503."""
        self._batcher.abort(model_closing)

    def _new_batcher(self) -> Batcher[Work, Tensors]:
        batching = self.card.batching
        limits = Limits(
            max_rows=self.batch_rows,
            max_queue=batching.max_queue,
            max_cost=batching.max_elements,
            max_delay=batching.max_delay_us * 1e-6,
        )
        name = self.card.name
        hooks = Hooks(on_batch=self._on_batch, on_rejected=lambda reason: self._observer.on_rejected(name, reason))
        return Batcher(self._execute, limits, hooks=hooks, service=self._service)

    def _pieces(self, inputs: Tensors, outputs: tuple[str, ...], rows: int) -> list[Piece[Work]]:
        key = shapes_of(inputs)
        each = elements(key)
        most = self.card.batching.max_elements
        if most is not None and each > most:
            raise tensor_problem(
                "tensor-shape",
                "A tensor has the wrong shape",
                f"One row has {each:,} elements, the model takes {most:,}.",
                "Send smaller items.",
            )
        fitting = self.batch_rows if most is None else min(self.batch_rows, most // each)
        cuts = [(inputs, rows)] if rows <= fitting else chunks(inputs, rows, fitting)
        return [Piece(Work(part, outputs, count, count * each), count, key, count * each) for part, count in cuts]

    # Running

    def _execute(self, batch: Sequence[Work]) -> Ran[Tensors] | asyncio.Future[Ran[Tensors]]:
        if self._service.undisturbed(sum(work.cost for work in batch)) < INLINE_SECONDS:
            return self._run(batch)
        return asyncio.get_running_loop().run_in_executor(self._executor, self._run, batch)

    def _run(self, batch: Sequence[Work]) -> Ran[Tensors]:
        began = time.perf_counter()
        results: list[Tensors | Problem]
        try:
            results = list(self._run_together(batch))
        except Problem as problem:
            # One bad row must not fail those that happened to share its batch.
            results = [problem] if len(batch) == 1 else [self._run_alone(work) for work in batch]
        return Ran(results, time.perf_counter() - began)

    def _run_alone(self, work: Work) -> Tensors | Problem:
        try:
            return self._run_together([work])[0]
        except Problem as problem:
            return problem

    def _run_together(self, batch: Sequence[Work]) -> list[Tensors]:
        wanted = batch[0].outputs
        if any(work.outputs != wanted for work in batch):
            wanted = tuple({name: None for work in batch for name in work.outputs})
        outputs = self.session.infer(self._stacker.stack([work.inputs for work in batch]), wanted)
        rows = sum(work.rows for work in batch)
        if self.signature.batched and any(len(array) != rows for array in outputs.values()):
            raise engine_failed(f"{self.card.name}: an output has not as many rows as the inputs.")
        if len(batch) == 1:
            return [outputs]
        results, begin = [], 0
        for work in batch:
            end = begin + work.rows
            results.append({name: outputs[name][begin:end] for name in work.outputs})
            begin = end
        return results

    def _timed(self, inputs: Mapping[str, Tensor]) -> float:
        began = time.perf_counter()
        self.session.infer(inputs, self.signature.outputs)
        return time.perf_counter() - began

    # Counting

    def _on_batch(self, rows: int, queue_seconds: float, infer_seconds: float) -> None:
        statistics = self.statistics
        statistics.execution_count += 1
        statistics.batch_counts[rows] = statistics.batch_counts.get(rows, 0) + 1
        statistics.batch_ns[rows] = statistics.batch_ns.get(rows, 0) + round(infer_seconds * 1e9)
        self._observer.on_batch(self.card.name, self.card.version, rows, queue_seconds, infer_seconds)

    def _count(self, answer: Inference, rows: int, nanoseconds: int) -> None:
        statistics = self.statistics
        statistics.success_count += 1
        statistics.success_ns += nanoseconds
        statistics.inference_count += rows
        statistics.queue_ns += round(answer.queue_seconds * 1e9)
        statistics.infer_ns += round(answer.infer_seconds * 1e9)
        statistics.last_inference_ms = time.time_ns() // 1_000_000


def _joined(parts: Sequence[Tensors]) -> Tensors:
    """The outputs of a request that was cut into several pieces."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
