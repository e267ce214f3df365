"""The batcher's promises, over arbitrary traffic in virtual time, and its rules one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.errors import Kind, Problem
from services.runtime.batching.batcher import Batcher
from services.runtime.batching.queue import Hooks, Limits, Piece, Ran
from tests.support import virtual_time


@dataclass(frozen=True)
class Request:
    """One arrival: ``gap`` seconds after the one before, pieces of these rows, all of one shape."""

    gap: float
    rows: tuple[int, ...]
    shape: int
    cost_per_row: int
    priority: int
    patience: float | None
    leaves_after: float | None


@dataclass
class Machine:
    """A model that takes ``fixed + each * rows`` seconds, in another thread or inline, and notes what it ran."""

    fixed: float
    each: float
    inline: bool = False
    ran: list[tuple[float, list[tuple[int, int]]]] = field(default_factory=list)
    busy: bool = False

    def execute(self, payloads: Sequence[tuple[int, int, int]]) -> Ran[str] | asyncio.Future[Ran[str]]:
        loop = asyncio.get_running_loop()
        assert not self.busy, "two batches at once"
        self.ran.append((loop.time(), [(request, piece) for request, piece, _ in payloads]))
        seconds = self.fixed + self.each * sum(rows for _, _, rows in payloads)
        answer = Ran([f"{request}.{piece}" for request, piece, _ in payloads], seconds)
        if self.inline:  # nothing else runs meanwhile, and timers that fall due are late
            assert isinstance(loop, virtual_time.VirtualLoop)
            loop.now += seconds
            return answer
        self.busy = True
        future: asyncio.Future[Ran[str]] = loop.create_future()

        def finish() -> None:
            self.busy = False
            future.set_result(answer)

        loop.call_later(seconds, finish)
        return future


times = st.floats(0, 0.05, allow_nan=False).map(lambda value: round(value, 4))
requests = st.builds(
    Request,
    gap=st.one_of(st.just(0.0), times),
    rows=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    shape=st.integers(0, 2),
    cost_per_row=st.integers(1, 5),
    priority=st.integers(0, 2),
    patience=st.one_of(st.none(), times),
    leaves_after=st.one_of(st.none(), st.none(), times),
)
limits = st.builds(
    Limits,
    max_rows=st.integers(4, 8),
    max_queue=st.integers(4, 40),
    max_cost=st.one_of(st.none(), st.integers(4, 30)),
    max_delay=st.sampled_from([0.0, 0.0, 0.01]),
)
machines = st.builds(Machine, fixed=times, each=times, inline=st.booleans(), ran=st.builds(list))


@hypothesis_settings(max_examples=300, deadline=None)
@given(limits, st.lists(requests, min_size=1, max_size=30), machines)
def test_promises_hold_for_any_traffic(limits: Limits, traffic: list[Request], machine: Machine) -> None:
    rejected: list[str] = []
    left_at: dict[int, int] = {}  # how many batches had begun when the caller was gone

    async def main() -> tuple[list[object], dict[int, float], Batcher[tuple[int, int, int], str]]:
        loop = asyncio.get_running_loop()
        hooks = Hooks(on_rejected=rejected.append)
        batcher: Batcher[tuple[int, int, int], str] = Batcher(machine.execute, limits, hooks=hooks, clock=loop.time)
        arrived: dict[int, float] = {}

        async def send(number: int, request: Request) -> list[str]:
            arrived[number] = loop.time()
            key = (request.shape, request.cost_per_row)
            pieces = [
                Piece((number, piece, rows), rows, key, rows * request.cost_per_row)
                for piece, rows in enumerate(request.rows)
            ]
            deadline = None if request.patience is None else loop.time() + request.patience
            try:
                done = await batcher.submit(pieces, priority=request.priority, deadline=deadline)
            except asyncio.CancelledError:
                left_at[number] = len(machine.ran)
                raise
            assert all(one.queue_seconds >= 0 and 0 < one.batch_rows <= limits.max_rows for one in done)
            return [one.result for one in done]

        tasks = []
        for number, request in enumerate(traffic):
            if request.gap:
                await asyncio.sleep(request.gap)
            task = asyncio.create_task(send(number, request))
            if request.leaves_after is not None:
                loop.call_later(request.leaves_after, task.cancel)
            tasks.append(task)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.drain()
        return outcomes, arrived, batcher

    outcomes, arrived, batcher = virtual_time.run(main())
    ran_at = {piece: when for when, batch in machine.ran for piece in batch}
    batch_of = {piece: index for index, (_, batch) in enumerate(machine.ran) for piece in batch}

    assert sum(len(batch) for _, batch in machine.ran) == len(ran_at), "a piece ran twice"
    assert not batcher.depth, "something was left behind"
    for _, batch in machine.ran:
        sent = [traffic[number] for number, _ in batch]
        rows = [traffic[number].rows[piece] for number, piece in batch]
        assert sum(rows) <= limits.max_rows
        assert len({(request.shape, request.cost_per_row) for request in sent}) == 1, "shapes were mixed"
        cost = sum(count * request.cost_per_row for count, request in zip(rows, sent, strict=True))
        assert limits.max_cost is None or cost <= limits.max_cost or len(batch) == 1
    for number, (request, outcome) in enumerate(zip(traffic, outcomes, strict=True)):
        pieces = [(number, piece) for piece in range(len(request.rows))]
        if isinstance(outcome, list):  # nothing lost, nothing mixed up
            assert outcome == [f"{n}.{piece}" for n, piece in pieces]
        elif isinstance(outcome, Problem):
            assert outcome.kind in (Kind.TOO_MANY, Kind.DEADLINE)
            assert outcome.kind is not Kind.DEADLINE or request.patience is not None
            assert (outcome.retry_after is not None) == (outcome.kind is Kind.TOO_MANY)
        else:
            assert isinstance(outcome, asyncio.CancelledError)
            assert request.leaves_after is not None
        for piece in pieces:
            if piece not in ran_at:
                assert not isinstance(outcome, list)
                continue
            assert number not in left_at or batch_of[piece] < left_at[number], "ran after its caller had left"
            assert request.patience is None or ran_at[piece] < arrived[number] + request.patience, "ran too late"
    for priority in range(3):  # FIFO inside a priority and shape, whatever else is refused or leaves
        for key in {(request.shape, request.cost_per_row) for request in traffic}:
            order = [
                (number, piece)
                for _, batch in machine.ran
                for number, piece in batch
                if traffic[number].priority == priority and (traffic[number].shape, traffic[number].cost_per_row) == key
            ]
            assert order == sorted(order)
    assert len(rejected) >= sum(isinstance(outcome, Problem) for outcome in outcomes)


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=25))
def test_head_of_each_batch_is_the_most_urgent_then_oldest(items: list[tuple[int, int]]) -> None:
    machine = Machine(fixed=1.0, each=0.0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        batcher: Batcher[tuple[int, int, int], str] = Batcher(machine.execute, Limits(3, 100), clock=loop.time)
        await asyncio.gather(
            *(
                batcher.submit([Piece((number, 0, 1), key=shape)], priority=priority)
                for number, (priority, shape) in enumerate(items)
            )
        )

    virtual_time.run(main())
    waiting = {number: (priority, number) for number, (priority, _) in enumerate(items)}
    for _, batch in machine.ran:
        assert waiting[batch[0][0]] == min(waiting.values())
        for number, _ in batch:
            del waiting[number]
    assert not waiting


def _batcher(machine: Machine, limits: Limits, hooks: Hooks | None = None) -> Batcher[tuple[int, int, int], str]:
    return Batcher(machine.execute, limits, hooks=hooks, clock=asyncio.get_running_loop().time)


def _one(number: int) -> list[Piece[tuple[int, int, int]]]:
    return [Piece((number, 0, 1))]


def test_requests_of_one_turn_of_the_loop_share_a_batch_without_any_delay() -> None:
    machine = Machine(fixed=0.001, each=0.0, inline=True)

    async def main() -> None:
        batcher = _batcher(machine, Limits(8, 100))
        await asyncio.gather(*(batcher.submit(_one(number)) for number in range(11)))

    virtual_time.run(main())
    assert machine.ran[0][0] == 0.0
    assert [len(batch) for _, batch in machine.ran] == [8, 3]


def test_delay_holds_a_batch_back_until_it_is_full_or_due() -> None:
    machine = Machine(fixed=0.001, each=0.0)

    async def main() -> None:
        batcher = _batcher(machine, Limits(3, 100, max_delay=0.5))
        first = asyncio.create_task(batcher.submit(_one(0)))
        await asyncio.sleep(0.1)
        await asyncio.gather(batcher.submit(_one(1)), batcher.submit(_one(2)), first)
        await batcher.submit(_one(3))

    virtual_time.run(main())
    assert machine.ran[0] == (pytest.approx(0.1), [(0, 0), (1, 0), (2, 0)])
    assert machine.ran[1] == (pytest.approx(0.101 + 0.5), [(3, 0)])


def test_delay_gives_way_to_a_deadline() -> None:
    machine = Machine(fixed=0.01, each=0.0)

    async def main() -> None:
        batcher = _batcher(machine, Limits(3, 100, max_delay=1.0))
        await batcher.submit(_one(0))  # measures the model
        now = asyncio.get_running_loop().time()
        await batcher.submit(_one(1), deadline=now + 0.1)
        assert asyncio.get_running_loop().time() <= now + 0.1 + 1e-6

    virtual_time.run(main())


def test_overflow_is_refused_with_the_time_the_queue_needs() -> None:
    machine = Machine(fixed=0.0, each=0.1)

    async def main() -> Problem:
        batcher = _batcher(machine, Limits(max_rows=1, max_queue=4))
        await batcher.submit(_one(0))  # measures: 10 rows a second
        tasks = [asyncio.create_task(batcher.submit(_one(1)))]
        await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(batcher.submit(_one(number))) for number in range(2, 6)]
        await asyncio.sleep(0.01)  # one runs, four wait
        with pytest.raises(Problem) as caught:
            await batcher.submit(_one(9))
        await asyncio.gather(*tasks)
        return caught.value

    problem = virtual_time.run(main())
    assert (problem.kind, problem.code) == (Kind.TOO_MANY, "queue-full")
    assert problem.retry_after == pytest.approx(0.5)


def test_request_larger_than_the_queue_is_served_when_the_queue_is_empty() -> None:
    machine = Machine(fixed=0.0, each=0.1)

    async def main() -> int:
        batcher = _batcher(machine, Limits(max_rows=2, max_queue=3))
        pieces = [Piece((0, piece, 2), rows=2) for piece in range(5)]
        return len(await batcher.submit(pieces))

    assert virtual_time.run(main()) == 5


def test_wait_that_would_outlast_the_deadline_is_refused_at_once() -> None:
    machine = Machine(fixed=0.0, each=1.0)

    async def main() -> tuple[Problem, float]:
        loop = asyncio.get_running_loop()
        batcher = _batcher(machine, Limits(max_rows=1, max_queue=100))
        await batcher.submit(_one(0))
        tasks = [asyncio.create_task(batcher.submit(_one(number))) for number in range(1, 6)]
        await asyncio.sleep(0.001)
        before = loop.time()
        with pytest.raises(Problem) as caught:
            await batcher.submit(_one(9), deadline=before + 2)
        refused_after = loop.time() - before
        await asyncio.gather(*tasks)
        return caught.value, refused_after

    problem, refused_after = virtual_time.run(main())
    assert problem.kind is Kind.TOO_MANY
    assert problem.retry_after == pytest.approx(5.0)
    assert refused_after == 0.0


def test_deadline_is_answered_when_it_comes_though_the_model_is_busy() -> None:
    machine = Machine(fixed=10.0, each=0.0)
    rejected: list[str] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()
        batcher = _batcher(machine, Limits(1, 100), Hooks(on_rejected=rejected.append))
        long = asyncio.create_task(batcher.submit(_one(0)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(Problem, match="deadline") as caught:
            await batcher.submit(_one(1), deadline=loop.time() + 2)
        assert caught.value.kind is Kind.DEADLINE
        answered = loop.time()
        await long
        return answered

    assert virtual_time.run(main()) == pytest.approx(2.0)
    assert rejected == ["deadline"]
    assert [batch for _, batch in machine.ran] == [[(0, 0)]]


def test_cancelled_caller_frees_its_place_at_once_and_is_counted() -> None:
    machine = Machine(fixed=1.0, each=0.0)
    rejected: list[str] = []

    async def main() -> None:
        batcher = _batcher(machine, Limits(1, 1), Hooks(on_rejected=rejected.append))
        running = asyncio.create_task(batcher.submit(_one(0)))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(batcher.submit(_one(1)))
        await asyncio.sleep(0.1)
        assert batcher.depth == {1: 1}
        waiting.cancel()
        await asyncio.sleep(0.1)
        assert batcher.depth == {}
        await batcher.submit(_one(2))
        await running

    virtual_time.run(main())
    assert rejected == ["cancelled"]
    assert [batch for _, batch in machine.ran] == [[(0, 0)], [(2, 0)]]


def test_failing_piece_fails_alone() -> None:
    bad = Problem(Kind.INVALID, "tensor-value", "bad")

    async def main() -> list[object]:
        def execute(payloads: Sequence[int]) -> Ran[int]:
            return Ran([bad if payload == 1 else payload for payload in payloads], 0.1)

        batcher: Batcher[int, int] = Batcher(execute, Limits(8, 100), clock=asyncio.get_running_loop().time)
        submitted = [batcher.submit([Piece(number)]) for number in range(3)]
        return await asyncio.gather(*submitted, return_exceptions=True)

    first, second, third = virtual_time.run(main())
    assert second is bad
    assert [one[0].result for one in (first, third)] == [0, 2]


@pytest.mark.parametrize("inline", [True, False])
def test_crash_of_the_engine_fails_its_batch_and_the_next_one_runs(inline: bool) -> None:
    calls = 0

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def execute(payloads: Sequence[int]) -> Ran[int] | asyncio.Future[Ran[int]]:
            nonlocal calls
            calls += 1
            future: asyncio.Future[Ran[int]] = loop.create_future()
            if calls > 1:
                return Ran(list(payloads), 0.1)
            if inline:
                raise RuntimeError("boom")
            future.set_exception(RuntimeError("boom"))
            return future

        batcher: Batcher[int, int] = Batcher(execute, Limits(8, 100), clock=loop.time)
        with pytest.raises(RuntimeError, match="boom"):
            await batcher.submit([Piece(1)])
        assert (await batcher.submit([Piece(2)]))[0].result == 2

    virtual_time.run(main())


def test_drain_lets_held_back_work_go_and_waits_for_it() -> None:
    machine = Machine(fixed=0.5, each=0.0)

    async def main() -> tuple[float, bool]:
        batcher = _batcher(machine, Limits(8, 100, max_delay=60.0))
        task = asyncio.create_task(batcher.submit(_one(0)))
        await asyncio.sleep(0.1)
        await batcher.drain()
        await asyncio.sleep(0)
        return asyncio.get_running_loop().time(), task.done()

    assert virtual_time.run(main()) == (pytest.approx(0.6), True)


def test_abort_answers_everything_that_waits() -> None:
    machine = Machine(fixed=1.0, each=0.0)

    async def main() -> list[object]:
        batcher = _batcher(machine, Limits(1, 100))
        tasks = [asyncio.create_task(batcher.submit(_one(number))) for number in range(3)]
        await asyncio.sleep(0.1)
        batcher.abort(lambda: Problem(Kind.UNAVAILABLE, "model-closing", "closing"))
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = virtual_time.run(main())
    assert isinstance(first, list)
    assert [problem.code for problem in others if isinstance(problem, Problem)] == ["model-closing"] * 2
