"""A version of a model that runs in this process.

A batch that is expected to take less than a millisecond runs on the event loop itself. Handing it to a thread and back
costs 50 us with uvloop and 90 us without (measured, for a run of 6 us), and two threads that take turns at the
interpreter's lock slow each other down; a millisecond is what decoding one picture blocks the loop for anyway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from models.catalog.card import Card
from services.errors import Problem
from services.runtime.batching.queue import Ran
from services.runtime.onnx.session import Session
from services.runtime.onnx.warmup import batch_rows, row_seconds
from services.runtime.protocol import Tensor
from services.runtime.served import Observer, Served, Tensors, Work, split, wanted
from services.runtime.tensors import Stacker

INLINE_SECONDS = 0.001


class Embedded(Served):
    """See the module's docstring. :meth:`warm_up` and :meth:`prepare` come first, in any thread; the rest is the event
    loop's."""

    def __init__(self, folder: Path, card: Card, session: Session, executor: Executor, observer: Observer) -> None:
        super().__init__(folder, card, observer)
        self.session = session
        self.row_seconds = float("inf")
        self._executor = executor
        self._stacker = Stacker()

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

    def release(self) -> None:
        """Give the weights back. The batcher's callbacks lead back here: without this they would stay until the next
        full garbage collection."""
        del self.session

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
        outputs = self.session.infer(self._stacker.stack([work.inputs for work in batch]), wanted(batch))
        return split(self.card, self.signature, batch, outputs)

    def _timed(self, inputs: Mapping[str, Tensor]) -> float:
        began = time.perf_counter()
        self.session.infer(inputs, self.signature.outputs)
        return time.perf_counter() - began
