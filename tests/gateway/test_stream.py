"""Answers in parts: events arrive as they are made, failures are told, and who leaves ends the work."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
import orjson
import pytest
from starlette.types import Message, Receive, Scope

from gateway import stream
from gateway.request.request_context import RequestContext
from gateway.stream import DONE, Event, Events, EventStream, OpenStreams
from services.errors import Kind, Problem
from tests.support import virtual_time

MISSING = Problem(Kind.UNAVAILABLE, "model-not-ready", "The model is not ready", "It is loading.", retry_after=1)


def scope() -> Scope:
    found: Scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": [(b"x-request-id", b"mine")]}
    RequestContext.begin(found, 10)
    return found


class Client:
    """Receives what a stream sends; ``leave`` ends its connection."""

    def __init__(self, pause: float = 0.0) -> None:
        self.messages: list[Message] = []
        self.left = asyncio.Event()
        self._more = asyncio.Event()
        self._pause = pause

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        self._more.set()
        await asyncio.sleep(self._pause)

    @property
    def parts(self) -> list[bytes]:
        return [message["body"] for message in self.messages[1:] if message["body"]]

    async def has(self, count: int) -> None:
        """Return when so many parts have come."""
        while len(self.parts) < count:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 5)

    async def read(self, answer: EventStream, asked: Scope) -> list[bytes]:
        receive: Receive = self.receive
        await asyncio.wait_for(answer(asked, receive, self.send), 5)
        return self.parts


async def counting(last: int) -> Events:
    for number in range(last):
        yield Event({"n": number}, name="count", number=number)


def test_an_event_is_written_as_browsers_read_it() -> None:
    assert Event({"a": "b\nc"}, name="token", number=7).encoded() == b'id: 7\nevent: token\ndata: {"a":"b\\nc"}\n\n'
    assert Event([1]).encoded() == b"data: [1]\n\n"
    assert Event({"row": np.array([1, 2], np.float32)}).encoded() == b'data: {"row":[1.0,2.0]}\n\n'


async def test_events_come_in_order_and_the_end_is_marked() -> None:
    asked, client = scope(), Client()
    parts = await client.read(EventStream(counting(3), asked, end=DONE), asked)
    assert parts == [b'id: %d\nevent: count\ndata: {"n":%d}\n\n' % (n, n) for n in range(3)] + [b"data: [DONE]\n\n"]
    start, *_, last = client.messages
    headers = dict(start["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"x-accel-buffering"] == b"no" and b"content-length" not in headers
    assert last == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_what_fails_before_the_first_event_is_an_ordinary_refusal() -> None:
    async def refusing() -> Events:
        raise MISSING
        yield b""

    held, closed = ExitStack(), []
    held.callback(closed.append, True)
    with pytest.raises(Problem) as caught:
        await EventStream(refusing(), scope(), held=held).begin()
    assert (caught.value.code, closed) == ("model-not-ready", [True])


@pytest.mark.parametrize(
    ("error", "status", "code"), [(MISSING, 503, "model-not-ready"), (ValueError(), 500, "internal")]
)
async def test_what_fails_half_way_is_told_and_the_stream_ends_without_its_mark(
    error: Exception, status: int, code: str
) -> None:
    async def failing() -> Events:
        yield Event({"n": 0})
        raise error

    asked, client = scope(), Client()
    answer = await EventStream(failing(), asked, end=DONE).begin()
    first, told = await client.read(answer, asked)
    assert first == b'data: {"n":0}\n\n'
    assert told.startswith(b"event: error\ndata: {")
    document = orjson.loads(told.split(b"data: ")[1])
    assert (document["status"], document["error"]["code"], document["request_id"]) == (status, code, "mine")
    problem = RequestContext.of(asked).problem
    assert problem is not None and problem.code == code


async def pausing(after: int, ended: list[str]) -> Events:
    """Parts that come at once, and then none for a minute."""
    try:
        for number in range(after):
            yield Event(number)
        await asyncio.sleep(60)
    finally:
        ended.append("producer")


def holding(ended: list[str]) -> ExitStack:
    held = ExitStack()
    held.callback(ended.append, "held")
    return held


def test_a_stream_ends_at_its_deadline_however_many_parts_came_in_time() -> None:
    async def read() -> None:
        asked, client, deadline = scope(), Client(), time.perf_counter() + 4
        answer = EventStream(pausing(2, ended), asked, end=DONE, held=holding(ended), deadline=deadline)
        *parts, told = await client.read(await answer.begin(), asked)
        assert parts == [b"data: 0\n\n", b"data: 1\n\n"] and told.startswith(b"event: error\ndata: {")
        document = orjson.loads(told.split(b"data: ")[1])
        assert (document["status"], document["error"]["code"]) == (504, "deadline-exceeded")
        assert ended == ["producer", "held"]

    ended: list[str] = []
    virtual_time.run(read())


def test_a_stream_without_a_part_at_its_deadline_is_an_ordinary_refusal() -> None:
    async def read() -> None:
        deadline = time.perf_counter() + 4
        with pytest.raises(Problem) as caught:
            await EventStream(pausing(0, ended), scope(), held=holding(ended), deadline=deadline).begin()
        assert (caught.value.code, ended) == ("deadline-exceeded", ["producer", "held"])

    ended: list[str] = []
    virtual_time.run(read())


def test_a_client_that_reads_nothing_holds_a_place_no_longer_than_the_deadline() -> None:
    async def read() -> None:
        asked, client, deadline = scope(), Client(pause=60), time.perf_counter() + 4
        answer = EventStream(pausing(9, ended), asked, held=holding(ended), deadline=deadline)
        answering = asyncio.create_task(client.read(await answer.begin(), asked))
        await asyncio.sleep(4.5)
        assert ended == ["producer", "held"] and not answering.done()
        answering.cancel()
        await asyncio.wait({answering})

    ended: list[str] = []
    virtual_time.run(read())


async def test_a_client_that_leaves_ends_the_work_and_what_it_held() -> None:
    told: list[str] = []

    async def endless() -> Events:
        try:
            yield Event(1)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        finally:
            told.append("ended")

    held = ExitStack()
    held.callback(told.append, "released")
    asked, client = scope(), Client()
    answering = asyncio.create_task(client.read(EventStream(endless(), asked, held=held), asked))
    await client.has(1)
    client.left.set()
    await asyncio.wait_for(answering, 2)
    assert told == ["cancelled", "ended", "released"]


async def test_a_client_that_left_is_sent_nothing_more_of_a_busy_producer() -> None:
    asked, client = scope(), Client(pause=0.001)
    answering = asyncio.create_task(client.read(EventStream(counting(10_000), asked), asked))
    await client.has(3)
    client.left.set()
    await asyncio.wait_for(answering, 2)
    assert len(client.parts) < 100


async def test_a_slow_client_slows_the_producer() -> None:
    made = 0

    async def eager() -> Events:
        nonlocal made
        for number in range(20):
            made += 1
            yield Event(number)

    asked, client = scope(), Client(pause=0.02)
    answering = asyncio.create_task(client.read(EventStream(eager(), asked), asked))
    await client.has(1)
    assert made <= len(client.parts) + 3
    assert len(await answering) == 20


async def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "AWAKE_SECONDS", 0.05)

    async def slow() -> Events:
        yield Event(1)
        await asyncio.sleep(0.18)
        yield Event(2)

    asked, client = scope(), Client()
    parts = await client.read(EventStream(slow(), asked), asked)
    assert parts[0] == b"data: 1\n\n" and parts[-1] == b"data: 2\n\n"
    assert 1 <= parts.count(b": alive\n\n") <= 4


def test_a_key_has_only_so_many_streams_open() -> None:
    streams = OpenStreams(most=2)
    with streams.one_of("a"), streams.one_of("a"):
        with pytest.raises(Problem) as caught, streams.one_of("a"):
            pass
        assert (caught.value.kind, caught.value.code) == (Kind.TOO_MANY, "streams-too-many")
        with streams.one_of("b"):
            pass
    with streams.one_of("a"):
        pass


async def test_the_work_ends_even_where_the_server_stops_the_answer() -> None:
    ended: list[Any] = []

    async def endless() -> Events:
        try:
            while True:
                yield Event(1)
        finally:
            ended.append(True)

    asked, client = scope(), Client(pause=0.001)
    answering = asyncio.create_task(client.read(EventStream(endless(), asked), asked))
    await client.has(1)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert ended == [True]
