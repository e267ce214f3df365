"""Whatever goes wrong, the client reads the same form, and nothing of the server's inside."""

from __future__ import annotations

import logging

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel

from gateway import problems
from gateway.lifecycle import Lifecycle
from gateway.logs import RequestLog
from gateway.middleware.request import RequestMiddleware
from gateway.problems import STATUS, parameter_name
from gateway.telemetry import Telemetry
from services.errors import Kind, Problem
from tests.support.asgi import Answered, call


class Body(BaseModel):
    """A body that FastAPI itself validates."""

    n: int


def application(lifecycle: Lifecycle | None = None) -> FastAPI:
    app = FastAPI()
    problems.install(app)

    @app.get("/v1/raise/{kind}")
    async def fail(request: Request, kind: str) -> Response:
        raise Problem(Kind(kind), "some-code", "Some title", "Some detail.", pointer="/images/3", remedy="Do this.")

    @app.get("/v2/raise/{kind}")
    async def fail_protocol(request: Request, kind: str) -> Response:
        raise Problem(Kind(kind), "some-code", "Some title", "Some detail.", remedy="Do this.")

    @app.get("/v1/bug")
    async def bug(request: Request) -> Response:
        raise RuntimeError("secret of the inside")

    @app.get("/v1/retry")
    async def retry(request: Request) -> Response:
        raise Problem(Kind.TOO_MANY, "busy", "Busy", retry_after=0.2)

    @app.post("/v1/validated/{number}")
    async def validated(number: int, body: Body) -> Response:
        return Response(str(body.n + number))

    @app.get("/v1/good")
    async def good(request: Request) -> Response:
        return Response("good")

    log = RequestLog("error", "json")
    app.add_middleware(
        RequestMiddleware, deadline=30, lifecycle=lifecycle or Lifecycle(), telemetry=Telemetry(), log=log
    )
    return app


async def get(path: str, **headers: str) -> Answered:
    return await call(
        application(), "GET", path, headers={key.replace("_", "-"): text for key, text in headers.items()}
    )


@pytest.mark.parametrize("kind", list(Kind))
async def test_every_kind_has_its_status_and_the_whole_body(kind: Kind) -> None:
    answered = await get(f"/v1/raise/{kind}", x_request_id="abc")
    assert answered.status == STATUS[kind]
    assert answered.headers["content-type"] == "application/problem+json"
    body = answered.json()
    assert body | {"error": None} == {
        "type": "https://sightline.dev/problems/some-code",
        "title": "Some title",
        "status": STATUS[kind],
        "detail": "Some detail.",
        "pointer": "/images/3",
        "remedy": "Do this.",
        "request_id": "abc",
        "error": None,
    }
    assert body["error"]["param"] == "images[3]"
    assert body["error"]["code"] == "some-code"
    assert body["error"]["message"] == "Some detail. Do this."


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("invalid", 400),
        ("malformed", 400),
        ("not-found", 404),
        ("too-many", 429),
        ("unavailable", 503),
        ("deadline", 504),
    ],
)
async def test_the_inference_protocol_has_its_own_form(kind: str, status: int) -> None:
    answered = await get(f"/v2/raise/{kind}")
    assert (answered.status, answered.json()) == (status, {"error": "Some detail. Do this."})
    assert answered.headers["content-type"] == "application/json"


async def test_a_bug_is_told_to_the_log_and_not_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answered = await get("/v1/bug", x_request_id="find-me")
    assert answered.status == 500
    assert answered.json()["error"]["code"] == "internal"
    assert b"secret" not in answered.body and b"Traceback" not in answered.body
    record = next(record for record in caplog.records if record.exc_info)
    assert record.__dict__["request_id"] == "find-me"
    assert "secret of the inside" in str(record.exc_info)


async def test_unknown_paths_and_wrong_methods_are_problems_too() -> None:
    missing = await get("/v1/nowhere")
    assert (missing.status, missing.json()["error"]["code"]) == (404, "path-not-found")
    wrong = await call(application(), "DELETE", "/v1/good")
    assert (wrong.status, wrong.json()["status"], wrong.headers["allow"]) == (405, 405, "GET")
    assert wrong.json()["error"]["code"] == "method-not-allowed"
    assert (await get("/v2/nowhere")).json() == {"error": "GET /v2/nowhere: not found. " + HINT}


HINT = "GET /openapi.json lists every path and method."


async def test_what_fastapi_validates_itself_points_at_the_field() -> None:
    headers = {"content-type": "application/json"}
    answered = await call(application(), path="/v1/validated/1", headers=headers, chunks=[b'{"n": "x"}'])
    assert (answered.status, answered.json()["pointer"]) == (422, "/n")
    answered = await call(application(), path="/v1/validated/one", headers=headers, chunks=[b'{"n": 1}'])
    assert (answered.status, answered.json()["pointer"]) == (422, "/number")
    answered = await call(application(), path="/v1/validated/1", headers=headers, chunks=[b'{"n": '])
    assert answered.status in (400, 422)


async def test_retry_after_is_in_whole_seconds() -> None:
    assert (await get("/v1/retry")).headers["retry-after"] == "1"


async def test_every_answer_carries_its_headers() -> None:
    answered = await get("/v1/good")
    assert answered.headers["x-request-id"].startswith("req_")
    assert answered.headers["x-content-type-options"] == "nosniff"
    for stage in ("decode", "queue", "infer", "encode"):
        assert f"{stage};dur=" in answered.headers["server-timing"]
    assert "connection" not in answered.headers
    closing = await call(application(Lifecycle(draining=True)), "GET", "/v1/good")
    assert closing.headers["connection"] == "close"


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "a\x01", "ä", '"'])
async def test_a_request_id_that_is_not_plain_is_replaced(given: str) -> None:
    assert (await get("/v1/good", x_request_id=given)).headers["x-request-id"].startswith("req_")


def test_pointers_are_spelled_as_openai_does() -> None:
    spelled = {"/images/3": "images[3]", "/a/b": "a.b", "/labels": "labels", "": "", "/a~1b/0/c": "a/b[0].c"}
    assert {pointer: parameter_name(pointer) for pointer in spelled} == spelled
