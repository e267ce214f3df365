"""One version of a model as it is being served, whoever runs it: its checks, its queue, its counters."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

import numpy as np

from models.catalog.card import Card
from services.errors import Problem
from services.runtime.batching.batcher import Batcher
from services.runtime.batching.queue import Hooks, Limits, Piece, Ran
from services.runtime.batching.service_time import ServiceTime
from services.runtime.problems import engine_failed, model_closing, model_not_ready, tensor_problem
from services.runtime.protocol import Inference, ModelHandle, Options, Statistics, Tensor, next_generation
from services.runtime.tensors import Signature, chunks, elements, shapes_of

Tensors = dict[str, Tensor]
DEFAULT = Options()


class Observer(Protocol):
    """Is told what happens, for metrics. Called on the event loop; must be quick and must not raise."""

    def on_batch(self, model: str, version: str, size: int, queue_seconds: float, infer_seconds: float) -> None:
        """A batch of ``size`` rows ran; ``queue_seconds`` is the longest wait in it."""
        ...

    def on_rejected(self, model: str, reason: str) -> None:
        """A request was turned away: ``queue-full``, ``deadline`` or ``cancelled``."""
        ...

    def on_steps(self, model: str, steps: int) -> None:
        """A run in the torch worker has ended after so many steps."""
        ...


class NoObserver:
    """For those who do not watch."""

    def on_batch(self, model: str, version: str, size: int, queue_seconds: float, infer_seconds: float) -> None:
        pass

    def on_rejected(self, model: str, reason: str) -> None:
        pass

    def on_steps(self, model: str, steps: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of a request: its tensors, the outputs it wants, and how it is to be treated."""

    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    rows: int
    cost: int
    options: Options


class Served(ABC):
    """A :class:`~services.runtime.protocol.ModelHandle`; subclasses run the batches. Used from one event loop.

    ``slots``: batches that may run at once. ``retired``: nobody finds it any more; it goes when its last user does.
    """

    slots = 1
    parts: Mapping[str, ModelHandle] = MappingProxyType({})

    def __init__(self, folder: Path, card: Card, observer: Observer) -> None:
        self.folder = folder
        self.card = card
        self.signature = Signature(card)
        self.statistics = Statistics()
        self.batch_rows = card.batching.max_batch_size if self.signature.batched else 1
        self.generation = next_generation()
        self.retired = False
        self._users = 0
        self._unused = asyncio.Event()
        self._refusal: Callable[[], Problem] | None = None
        self._observer = observer
        self._service = ServiceTime()
        self._batcher = self._new_batcher()

    def __enter__(self) -> Self:
        self._users += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._users -= 1
        if not self._users:
            self._unused.set()

    @property
    @abstractmethod
    def engine(self) -> str: ...

    @property
    @abstractmethod
    def providers(self) -> tuple[str, ...]: ...

    @property
    @abstractmethod
    def reason(self) -> str:
        """What is not as it was asked for, though it answers; empty when all is."""

    @property
    def trouble(self) -> str:
        """Why it cannot answer just now; empty when it can."""
        return ""

    @property
    def superseded(self) -> bool:
        """Whether what computes has other weights by now than those it was opened with."""
        return False

    @abstractmethod
    def _execute(self, batch: Sequence[Work]) -> Ran[Tensors] | asyncio.Future[Ran[Tensors]]: ...

    @abstractmethod
    def release(self) -> None:
        """Give back what it holds; nothing runs any more."""

    @property
    def depth(self) -> dict[int, int]:
        """Rows that wait, by priority."""
        return self._batcher.depth

    async def infer(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None, options: Options = DEFAULT
    ) -> Inference:
        """Check, queue, run, and give back views of the batch's outputs. See ``ModelHandle.infer``."""
        if self._refusal is not None:
            raise self._refusal()

        began = time.perf_counter_ns()
        statistics = self.statistics
        try:
            checked, rows = self.signature.check(inputs)
            names = self.signature.check_outputs(outputs)
            done = await self._batcher.submit(
                self._pieces(checked, names, rows, options), priority=options.priority, deadline=options.deadline
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

    async def stream(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None, options: Options = DEFAULT
    ) -> AsyncGenerator[Inference, None]:
        """See ``ModelHandle.stream``. What computes in one step has nothing to give before its answer."""
        yield await self.infer(inputs, outputs, options)

    async def retire(self) -> None:
        """Let its users finish, and what is queued; nobody finds this version any more."""
        while self._users and self._refusal is None:
            self._unused.clear()
            await self._unused.wait()
        self._refusal = self._refusal or (
            lambda: model_not_ready(self.card.name, "another version has taken over.", loading=True)
        )
        await self._batcher.drain()
        self.release()

    def abort(self) -> None:
        """Answer everything that waits, and all that is still to come, with 503."""
        self._refusal = model_closing
        self._unused.set()
        self._batcher.abort(model_closing)

    def _new_batcher(self) -> Batcher[Work, Tensors]:
        batching = self.card.batching
        limits = Limits(
            max_rows=self.batch_rows,
            max_queue=batching.max_queue,
            max_cost=batching.max_elements,
            max_delay=batching.max_delay_us * 1e-6,
            slots=self.slots,
        )
        name = self.card.name
        hooks = Hooks(on_batch=self._on_batch, on_rejected=lambda reason: self._observer.on_rejected(name, reason))
        return Batcher(self._execute, limits, hooks=hooks, service=self._service)

    def _pieces(self, inputs: Tensors, outputs: tuple[str, ...], rows: int, options: Options) -> list[Piece[Work]]:
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
        return [
            Piece(Work(part, outputs, count, count * each, options), count, key, count * each) for part, count in cuts
        ]

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


def wanted(batch: Sequence[Work]) -> tuple[str, ...]:
    """The outputs that any of them wants."""
    first = batch[0].outputs
    if all(work.outputs == first for work in batch):
        return first
    return tuple({name: None for work in batch for name in work.outputs})


def split(card: Card, signature: Signature, batch: Sequence[Work], outputs: Tensors) -> list[Tensors]:
    """Return what ran together, as views for each of ``batch``. Raises ``engine-failed`` if it has not as many rows."""
    rows = sum(work.rows for work in batch)
    if signature.batched and any(len(array) != rows for array in outputs.values()):
        raise engine_failed(f"{card.name}: an output has not as many rows as the inputs.")
    if len(batch) == 1:
        return [outputs]
    results, begin = [], 0
    for work in batch:
        end = begin + work.rows
        results.append({name: outputs[name][begin:end] for name in work.outputs})
        begin = end
    return results


def _joined(parts: Sequence[Tensors]) -> Tensors:
    """The outputs of a request that was cut into several pieces."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
