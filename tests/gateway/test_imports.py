"""Imports of data sets end by time, when their client leaves or the process stops; one key takes one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from gateway.imports import Imports
from services.datasets.archive import Watch
from services.errors import Problem


def until_ended(began: threading.Event, over: threading.Event) -> Callable[[Watch], None]:
    """Work that has no end of its own."""

    def work(watch: Watch) -> None:
        began.set()
        try:
            while not over.wait(0.005):
                watch()
        finally:
            over.set()

    return work


@pytest.fixture
def began() -> threading.Event:
    return threading.Event()


@pytest.fixture
def over() -> threading.Event:
    return threading.Event()


async def seen(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 30)


async def test_an_import_has_its_time(began: threading.Event, over: threading.Event) -> None:
    with pytest.raises(Problem) as caught:
        await Imports(0.02).run("a", until_ended(began, over))
    assert caught.value.code == "import-timeout" and "SIGHTLINE_IMPORT_SECONDS" in (caught.value.remedy or "")


async def test_an_import_that_nobody_waits_for_has_ended_when_the_caller_goes_on(
    began: threading.Event, over: threading.Event
) -> None:
    task = asyncio.create_task(Imports(600).run("a", until_ended(began, over)))
    await seen(began)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert over.is_set()


async def test_a_process_that_stops_ends_its_imports(began: threading.Event, over: threading.Event) -> None:
    imports = Imports(600)
    task = asyncio.create_task(imports.run("a", until_ended(began, over)))
    await seen(began)
    imports.close()
    with pytest.raises(Problem) as caught:
        await task
    assert caught.value.code == "import-ended"


async def test_many_imports_of_one_key_leave_a_thread_to_another(began: threading.Event, over: threading.Event) -> None:
    imports = Imports(600)
    greedy = [asyncio.create_task(imports.run("a", until_ended(began, over))) for _ in range(5)]
    await seen(began)
    assert await imports.run("b", lambda watch: "read") == "read"
    assert not any(task.done() for task in greedy)
    over.set()
    await asyncio.gather(*greedy)
    assert await imports.run("a", lambda watch: "read") == "read"
