"""One method for both halves: what a caller of either can tell, and that streams are closed when nobody reads on."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from unittest.mock import create_autospec

import httpx
import pytest

from sightline import AsyncClient, Client, Unreachable
from sightline.client import Retries
from sightline.client.halves import AsyncNetwork, BlockingNetwork, Half, N, call, stream

METHODS = ("classify", "compare", "detect", "embed", "ground", "leaderboard", "model", "models")
JOBS = ("cancel", "delete", "download", "events", "get", "history", "list", "promote", "read", "retry", "submit")


class Counting(Half[N]):
    """Counts, over either network."""

    def __init__(self, network: N) -> None:
        super().__init__(network)
        self.closed = 0

    @call
    async def wander(self) -> None:
        await asyncio.sleep(0)

    @stream
    async def count(self, up_to: int) -> AsyncIterator[int]:
        """Count."""
        try:
            for number in range(up_to):
                await self._network.sleep(0.0)
                yield number
        finally:
            await self._network.sleep(0.0)
            self.closed += 1


@pytest.fixture
def blocking() -> Counting[BlockingNetwork]:
    return Counting(BlockingNetwork(httpx.Client()))


def test_both_halves_have_the_same_names_signatures_and_documentation() -> None:
    with Client() as client:
        asynchronous = AsyncClient()
        pairs = [(getattr(Client, name), getattr(AsyncClient, name)) for name in METHODS]
        pairs += [(getattr(client.jobs, name), getattr(asynchronous.jobs, name)) for name in (*JOBS, "upload", "wait")]
        for one, other in pairs:
            signatures = [str(inspect.signature(function)).replace("AsyncIter", "Iter") for function in (one, other)]
            assert signatures[0] == signatures[1] and one.__name__ == other.__name__
            assert one.__doc__ and one.__doc__ == other.__doc__
            assert not inspect.iscoroutinefunction(one) and not inspect.isasyncgenfunction(one)
            assert "Async" not in str(inspect.signature(one).return_annotation)


@pytest.mark.parametrize("name", METHODS)
def test_only_the_asynchronous_half_has_coroutines(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(AsyncClient, name))
    assert inspect.isfunction(getattr(Client, name))


def test_a_mock_of_either_client_answers_as_that_client_does() -> None:
    assert not inspect.iscoroutine(create_autospec(Client, instance=True).models())
    waiting = create_autospec(AsyncClient, instance=True).models()
    assert inspect.iscoroutine(waiting)
    waiting.close()


async def test_the_blocking_half_works_where_an_event_loop_runs() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": []})

    with Client(transport=httpx.MockTransport(answer)) as client:
        assert client.models() == []


def test_a_stream_is_closed_when_nobody_reads_on(blocking: Counting[BlockingNetwork]) -> None:
    numbers = blocking.count(5)
    assert [next(numbers), next(numbers)] == [0, 1] and blocking.closed == 0
    del numbers
    assert blocking.closed == 1
    assert list(blocking.count(3)) == [0, 1, 2] and blocking.closed == 2


async def test_the_asynchronous_half_streams_the_same() -> None:
    async with httpx.AsyncClient() as http:
        counting = Counting(AsyncNetwork(http))
        assert [number async for number in counting.count(3)] == [0, 1, 2] and counting.closed == 1


def test_a_method_that_awaits_anything_else_is_named_as_the_fault(blocking: Counting[BlockingNetwork]) -> None:
    # The failure must be said: a call that is suspended for ever would hang its caller.
    with pytest.raises(RuntimeError, match="not its network"):
        blocking.wander()


def test_an_answer_that_is_not_read_to_its_end_gives_its_connection_back() -> None:
    closed: list[bool] = []

    class Endless(httpx.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield b'id: 1\nevent: state\ndata: {"state": "running", "at": 1.0}\n\n'
            raise AssertionError("read too far")

        def close(self) -> None:
            closed.append(True)

    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Endless()))
    with Client(transport=transport) as client:
        events = client.jobs.events("job_1")
        assert next(events).data == {"state": "running"}
        assert not closed
        events.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_an_answer_that_breaks_in_its_middle_is_asked_for_again() -> None:
    asked: list[httpx.Request] = []

    class Broken(httpx.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield b'{"data"'
            raise httpx.ReadError("reset", request=asked[-1])

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, stream=Broken()) if len(asked) < 3 else httpx.Response(200, json={"data": []})

    with Client(transport=httpx.MockTransport(answer), retries=Retries(attempts=3, first=0.0)) as client:
        assert client.models() == []
    with Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, stream=Broken()))) as client:
        asked[:] = [httpx.Request("GET", "http://127.0.0.1:8000/v1/models")] * 9
        with pytest.raises(Unreachable, match="the connection broke"):
            client.models()
