"""Work stops for a client that leaves, and for nobody else."""

from __future__ import annotations

import asyncio

import pytest

from gateway.request.disconnect import while_connected
from services.errors import Kind, Problem


class Connection:
    """A connection whose client can leave."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, object]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_work_is_done_for_a_client_that_stays() -> None:
    async def work() -> int:
        await asyncio.sleep(0.01)
        return 7

    before = asyncio.all_tasks()
    assert await while_connected(Connection().receive, work()) == 7
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_work_is_cancelled_when_the_client_leaves() -> None:
    connection, dropped = Connection(), asyncio.Event()

    async def work() -> None:
        asyncio.get_running_loop().call_later(0.01, connection.gone.set)
        try:
            await asyncio.sleep(30)
        finally:
            dropped.set()

    with pytest.raises(Problem) as caught:
        await asyncio.wait_for(while_connected(connection.receive, work()), 5)
    assert caught.value.kind is Kind.CANCELLED
    assert dropped.is_set()
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0
    await asyncio.sleep(0)  # would raise if a cancellation were left over


async def test_a_forced_stop_is_no_client_leaving() -> None:
    async def work() -> None:
        await asyncio.sleep(30)

    task = asyncio.create_task(while_connected(Connection().receive, work()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_goes_wrong_in_the_work_is_what_is_raised() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await while_connected(Connection().receive, work())
