import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from services.encoding.cache import ArrayCache
from services.errors import Kind, Problem


def numbers(count: int = 100, value: float = 1) -> np.ndarray:
    return np.full(count, value, np.float32)


class Work:
    """A computation that counts its runs and waits to be released."""

    def __init__(self, result: np.ndarray | Exception | None = None) -> None:
        self.runs = 0
        self.cancelled = 0
        self.release = asyncio.Event()
        self.result = numbers() if result is None else result

    async def __call__(self) -> np.ndarray:
        self.runs += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def at_once(array: np.ndarray) -> Callable[[], Awaitable[np.ndarray]]:
    async def compute() -> np.ndarray:
        return array

    return compute


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_was_computed_is_kept_read_only():
    cache = ArrayCache(10_000)
    first = await cache.get("a", at_once(numbers()))
    again = await cache.get("a", at_once(numbers(value=2)))
    assert again is first
    assert not first.flags.writeable
    assert (cache.hits, cache.misses, len(cache)) == (1, 1, 1)


async def test_bytes_are_bounded_and_the_least_recently_used_goes_first():
    cache = ArrayCache(3 * (400 + 512))
    for key in "abc":
        await cache.get(key, at_once(numbers()))
    await cache.get("a", at_once(numbers()))
    await cache.get("d", at_once(numbers()))
    assert cache.bytes <= cache.max_bytes and len(cache) == 3
    misses = cache.misses
    await cache.get("a", at_once(numbers()))
    assert cache.misses == misses
    await cache.get("b", at_once(numbers()))
    assert cache.misses == misses + 1


async def test_what_is_larger_than_the_cache_is_answered_and_not_kept():
    cache = ArrayCache(2000)
    await cache.get("small", at_once(numbers()))
    assert len(await cache.get("large", at_once(numbers(10_000)))) == 10_000
    assert len(cache) == 1
    assert len(await ArrayCache(0).get("any", at_once(numbers()))) == 100


async def test_the_same_key_at_once_is_computed_once():
    cache, work = ArrayCache(10_000), Work()
    waiting = [asyncio.create_task(cache.get("a", work)) for _ in range(20)]
    await settle()
    work.release.set()
    arrays = await asyncio.gather(*waiting)
    assert work.runs == 1
    assert all(array is arrays[0] for array in arrays)
    assert (cache.misses, cache.joined) == (1, 19)


async def test_a_failure_reaches_everybody_and_is_not_kept():
    cache, work = ArrayCache(10_000), Work(Problem(Kind.TOO_MANY, "queue-full", "Full"))
    waiting = [asyncio.create_task(cache.get("a", work)) for _ in range(3)]
    await settle()
    work.release.set()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, Problem) and result.code == "queue-full"
    assert work.runs == 1
    assert len(await cache.get("a", at_once(numbers()))) == 100


async def test_whoever_began_may_leave_and_the_others_still_get_their_answer():
    cache, work = ArrayCache(10_000), Work()
    first = asyncio.create_task(cache.get("a", work))
    await settle()
    second = asyncio.create_task(cache.get("a", work))
    await settle()
    first.cancel()
    await settle()
    work.release.set()
    assert len(await second) == 100
    assert (work.runs, work.cancelled) == (1, 0)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_when_everybody_leaves_the_work_stops():
    cache, work = ArrayCache(10_000), Work()
    waiting = [asyncio.create_task(cache.get("a", work)) for _ in range(3)]
    await settle()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    # Asked for again while the cancelled work is still on its way out: a new one, not the dying one.
    again = Work()
    again.release.set()
    assert len(await cache.get("a", again)) == 100
    assert (work.cancelled, again.runs) == (1, 1)


async def test_a_waiter_keeps_its_own_deadline():
    cache, work = ArrayCache(10_000), Work()
    patient = asyncio.create_task(cache.get("a", work, deadline=time.perf_counter() + 60))
    await settle()
    with pytest.raises(Problem) as caught:
        await cache.get("a", work, deadline=time.perf_counter() + 0.01)
    assert caught.value.kind is Kind.DEADLINE
    work.release.set()
    assert len(await patient) == 100


async def test_the_deadline_of_another_is_not_inherited():
    cache = ArrayCache(10_000)
    hasty, own = Work(Problem(Kind.DEADLINE, "deadline-exceeded", "Late")), Work()
    own.release.set()
    first = asyncio.create_task(cache.get("a", hasty))
    await settle()
    second = asyncio.create_task(cache.get("a", own, deadline=time.perf_counter() + 60))
    await settle()
    hasty.release.set()
    with pytest.raises(Problem):
        await first
    assert len(await second) == 100
    assert own.runs == 1


async def test_nothing_is_left_behind():
    cache = ArrayCache(5_000)
    for key in range(50):
        await cache.get(key, at_once(numbers()))
    await settle()
    assert cache._flights == {}
    assert cache.bytes == sum(array.nbytes + 512 for array in cache._kept.values())
