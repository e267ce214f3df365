"""Bodies are bounded before they are read, while they come, and in time."""

from __future__ import annotations

import time

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.middleware.body_guard import BodyGuard
from gateway.problems import problem_response
from gateway.request.parsing import read_body
from gateway.request.request_context import RequestContext
from services.errors import Problem
from tests.support.asgi import Answered, call


class Reader:
    """Reads the body and answers its length; ``read`` counts what it was given."""

    def __init__(self) -> None:
        self.called = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.called = True
        try:
            response: Response = PlainTextResponse(str(len(await read_body(receive))))
        except Problem as problem:
            response = problem_response(problem, scope)
        await response(scope, receive, send)


def guarded(app: ASGIApp, **options: object) -> ASGIApp:
    guard = BodyGuard(app, **({"limit": 1000, "timeout": 5.0, "held": 10_000} | options))  # type: ignore[arg-type]

    async def begin(scope: Scope, receive: Receive, send: Send) -> None:
        RequestContext.begin(scope, 30)
        await guard(scope, receive, send)

    return begin


def code(answered: Answered) -> str:
    return str(answered.json()["error"]["code"])


async def test_a_body_within_the_limit_passes() -> None:
    app = guarded(Reader())
    assert (await call(app, headers={"content-length": "1000"}, chunks=[b"x" * 600, b"x" * 400])).body == b"1000"
    assert (await call(app, headers={"transfer-encoding": "chunked"}, chunks=[b"x" * 10, b""])).body == b"10"
    assert (await call(app, headers={"content-length": "0"}, chunks=[b""])).body == b"0"


async def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    reader = Reader()
    answered = await call(guarded(reader), headers={"content-length": "1001"}, chunks=[b"x"] * 3)
    assert (answered.status, code(answered), reader.called) == (413, "body-too-large", False)


async def test_a_much_larger_body_is_answered_at_once_and_then_thrown_away() -> None:
    begin = time.monotonic()
    answered = await call(guarded(Reader()), headers={"content-length": "99999999"}, chunks=[b"x" * 9999, b"y", b"z"])
    assert time.monotonic() - begin < 5
    assert answered.status == 413
    assert answered.headers["connection"] == "close"
    # The whole answer goes out before the rest is read; only then does the last, empty piece close the connection.
    assert [event.get("more_body") for event in answered.events[1:]] == [True, False]


async def test_a_body_of_unknown_length_is_counted_as_it_comes() -> None:
    answered = await call(guarded(Reader()), headers={"transfer-encoding": "chunked"}, chunks=[b"x" * 400] * 9)
    assert (answered.status, code(answered)) == (413, "body-too-large")
    assert answered.headers["connection"] == "close"


async def test_a_body_that_lies_about_its_length_is_counted_too() -> None:
    answered = await call(guarded(Reader()), headers={"content-length": "10"}, chunks=[b"x" * 400] * 9)
    assert (answered.status, code(answered)) == (413, "body-too-large")


async def test_a_slow_body_is_refused_in_time_however_many_drops_come() -> None:
    app = guarded(Reader(), timeout=0.2)
    begin = time.monotonic()
    answered = await call(app, headers={"content-length": "100"}, chunks=[b"x", 0.08] * 20)
    assert (answered.status, code(answered)) == (408, "body-timeout")
    assert 0.15 < time.monotonic() - begin < 0.6 + 2
    assert answered.headers["connection"] == "close"


async def test_a_streamed_body_may_take_long_but_not_pause() -> None:
    app = guarded(Reader(), timeout=0.2, streams=(("/v1/x", 10_000),))
    assert (await call(app, headers={"content-length": "20"}, chunks=[b"xy", 0.05] * 9 + [b"xy"])).body == b"20"
    answered = await call(app, headers={"content-length": "20"}, chunks=[b"xy", 0.5, b"z"])
    assert code(answered) == "body-timeout"


async def test_bodies_in_memory_are_bounded_together_and_given_back() -> None:
    app = guarded(Reader(), limit=9_000, held=10_000)
    for _ in range(3):
        assert (await call(app, headers={"content-length": "9000"}, chunks=[b"x" * 9000])).status == 200
    tight = guarded(Reader(), limit=9_000, held=5_000)
    answered = await call(tight, headers={"content-length": "9000"}, chunks=[b"x" * 9000])
    assert (answered.status, code(answered)) == (503, "bodies-full")
    assert answered.headers["retry-after"] == "1"


async def test_a_compressed_body_is_not_unpacked() -> None:
    headers = {"content-length": "3", "content-encoding": "gzip"}
    answered = await call(guarded(Reader()), headers=headers, chunks=[b"abc"])
    assert (answered.status, code(answered)) == (415, "encoding-unsupported")


async def test_a_client_that_leaves_is_told_apart_from_one_that_is_done() -> None:
    answered = await call(guarded(Reader()), headers={"content-length": "100"}, chunks=[b"x"], leave=True)
    assert code(answered) == "client-left"
