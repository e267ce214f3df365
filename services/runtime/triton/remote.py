"""A version of a model that Triton servers run: queued here, where priority and deadline are known, computed there.

Requests that arrive while every slot is taken leave together as one batch, as in the embedded engines; so a busy model
costs a call a batch, not a call a request, and Triton is never given more than it can begin with soon. Its own batcher
joins what several gateways send.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from models.catalog.card import Card
from services.errors import Kind, Problem
from services.runtime.batching.queue import Ran
from services.runtime.problems import deadline_exceeded, model_unreachable
from services.runtime.protocol import Inference, Options, Statistics, Tensor
from services.runtime.served import DEFAULT, Observer, Served, Tensors, Work, split, wanted
from services.runtime.triton.fleet import Fleet
from services.runtime.triton.wire import Wire

SLACK = 0.01
"""Seconds that a request may outlive its deadline, so that the queue, which says the same, comes first."""


class Remote(Served):
    """See the module's docstring. ``slots`` batches may be under way; ``leave`` lets go of it at the servers."""

    engine = "triton"
    reason = ""

    def __init__(
        self,
        folder: Path,
        card: Card,
        fleet: Fleet,
        observer: Observer,
        *,
        slots: int,
        leave: Callable[[Remote], Awaitable[None]],
    ) -> None:
        self.slots = slots
        self.key = (card.name, card.version)
        self.counted = Statistics()
        super().__init__(folder, card, observer)
        self.wire = Wire(card, self.signature)
        self._fleet = fleet
        self._leave = leave

    @property
    def providers(self) -> tuple[str, ...]:
        """The servers that it works on."""
        return self._fleet.serving_at(self.key)

    @property
    def trouble(self) -> str:
        return self._fleet.trouble(self.key)

    @property
    def superseded(self) -> bool:
        """A server has one version of a number: other files under the same one have taken its place."""
        return self._fleet.holds_another(self.key, self.wire)

    async def infer(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None, options: Options = DEFAULT
    ) -> Inference:
        """See ``Served.infer``. Refuses at once what no server could run, and answers at the deadline, whatever a
        server does."""
        trouble = self.trouble
        if trouble:
            raise model_unreachable(self.card.name, trouble)
        if options.deadline is None:
            return await super().infer(inputs, outputs, options)

        try:
            async with asyncio.timeout(options.deadline - time.perf_counter() + SLACK):
                return await super().infer(inputs, outputs, options)
        except TimeoutError:
            self.statistics.fail_count += 1
            raise deadline_exceeded() from None

    async def retire(self) -> None:
        await super().retire()
        await self._leave(self)

    def release(self) -> None:
        """Nothing of it is in this process."""

    def _execute(self, batch: Sequence[Work]) -> asyncio.Future[Ran[Tensors]]:
        return asyncio.get_running_loop().create_task(self._run(batch))

    async def _run(self, batch: Sequence[Work]) -> Ran[Tensors]:
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
        deadlines = [work.options.deadline for work in batch]
        outputs = await self._fleet.infer(
            self.key,
            self.wire,
            [work.inputs for work in batch],
            wanted(batch),
            deadline=None if None in deadlines else max(one for one in deadlines if one is not None),
            traceparent=batch[0].options.traceparent,
        )
        return split(self.card, self.signature, batch, outputs)
