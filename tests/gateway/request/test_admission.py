"""Heavy work takes turns, and there is a bound on how much may wait."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from gateway.request.admission import Admission
from services.errors import Kind, Problem


def test_no_more_than_the_limit_are_let_in() -> None:
    admission = Admission(2)
    with admission.admit(), admission.admit():
        with pytest.raises(Problem) as caught, admission.admit():
            pass
        assert caught.value.kind is Kind.TOO_MANY
        assert caught.value.retry_after
    with admission.admit():
        pass


def test_a_large_request_counts_as_many_small_ones_until_its_end() -> None:
    admission = Admission(8)
    with admission.admit() as large:
        large.grow(6)
        assert admission.units == 6
        with admission.admit(), admission.admit():
            with pytest.raises(Problem) as caught, admission.admit():
                pass
            assert (caught.value.kind, caught.value.code) == (Kind.TOO_MANY, "overloaded")
    assert admission.units == 0


def test_a_request_does_not_grow_beyond_what_others_leave() -> None:
    admission = Admission(8)
    with admission.admit() as first:
        first.grow(4)
        with pytest.raises(Problem) as caught, admission.admit() as second:
            second.grow(5)
        assert (caught.value.kind, caught.value.code) == (Kind.TOO_MANY, "overloaded")
        assert caught.value.retry_after
        assert admission.units == 4
        with admission.admit() as third:
            third.grow(4)
            assert admission.units == 8


def test_an_oversized_request_is_let_in_alone_and_lets_nobody_in_beside_it() -> None:
    admission = Admission(8)
    with admission.admit() as place:
        place.grow(100)
        with pytest.raises(Problem), admission.admit():
            pass
    with admission.admit():
        pass


def test_a_place_is_free_again_after_a_failure() -> None:
    admission = Admission(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), admission.admit():
            raise ValueError("broken")


async def test_the_loop_looks_at_its_sockets_between_two_turns() -> None:
    admission, order = Admission(100), []

    async def work(name: str) -> None:
        await admission.turn()
        order.append(name)

    async def heartbeat() -> None:
        for _ in range(8):
            order.append("io")
            await asyncio.sleep(0)

    await asyncio.gather(*(work(f"w{number}") for number in range(6)), heartbeat())
    works = [index for index, name in enumerate(order) if name != "io"]
    assert [order[index] for index in works] == [f"w{number}" for number in range(6)]
    assert all(later - earlier > 1 for earlier, later in pairwise(works))


async def test_who_left_does_not_keep_the_others_waiting() -> None:
    admission, done = Admission(100), []

    async def work(name: int) -> None:
        await admission.turn()
        done.append(name)

    tasks = [asyncio.create_task(work(name)) for name in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    tasks[3].cancel()
    await asyncio.wait(tasks, timeout=2)
    assert done == [0, 1, 4]
    await asyncio.wait_for(admission.turn(), 1)
