"""Turns trouble into answers: RFC 9457 with OpenAI's ``error`` object, and the protocol's own form under ``/v2``.

This is the only place that knows which status code a kind of problem has.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Scope

from gateway.request.request_context import RequestContext
from services.errors import Kind, Problem
from services.storage.database import is_transient

TYPE_BASE = "https://sightline.dev/problems/"
MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[Kind, int] = {
    Kind.MALFORMED: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.SLOW: 408,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.UNSUPPORTED_TYPE: 415,
    Kind.INVALID: 422,
    Kind.TOO_MANY: 429,
    Kind.CANCELLED: 499,
    Kind.INTERNAL: 500,
    Kind.UNAVAILABLE: 503,
    Kind.DEADLINE: 504,
}

_OIP_STATUS: Mapping[Kind, int] = {**STATUS, Kind.INVALID: 400, Kind.UNSUPPORTED_TYPE: 400}
"""Triton answers 400 to whatever is wrong with a request that it can parse; its clients expect that."""

_OPENAI_TYPES: Mapping[Kind, str] = {
    Kind.UNAUTHENTICATED: "authentication_error",
    Kind.FORBIDDEN: "permission_error",
    Kind.NOT_FOUND: "not_found_error",
    Kind.TOO_MANY: "rate_limit_error",
    Kind.INTERNAL: "server_error",
    Kind.UNAVAILABLE: "server_error",
    Kind.DEADLINE: "timeout_error",
}

_log = logging.getLogger("sightline.gateway")


def parameter_name(pointer: str) -> str:
    """OpenAI's spelling of a JSON pointer: ``/images/3`` is ``images[3]``, ``/a/b`` is ``a.b``."""
    name = ""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        name += f"[{part}]" if part.isdigit() else f".{part}" if name else part
    return name


def problem_body(problem: Problem, request_id: str) -> dict[str, Any]:
    """The body of one problem, as ``/v1`` answers it."""
    message = problem.detail or problem.title
    body: dict[str, Any] = {
        "type": TYPE_BASE + problem.code,
        "title": problem.title,
        "status": STATUS[problem.kind],
        "detail": message,
    }
    if problem.pointer is not None:
        body["pointer"] = problem.pointer

    if problem.remedy is not None:
        body["remedy"] = problem.remedy

    body["request_id"] = request_id
    body.update(problem.extra)
    body["error"] = {
        "message": message if problem.remedy is None else f"{message} {problem.remedy}",
        "type": _OPENAI_TYPES.get(problem.kind, "invalid_request_error"),
        "param": None if problem.pointer is None else parameter_name(problem.pointer),
        "code": problem.code,
    }
    return body


def problem_response(problem: Problem, scope: Scope) -> Response:
    """The answer to the request of ``scope``; the form depends on its path."""
    request_context = RequestContext.of(scope)
    # The frames that it came through hold the request, maybe megabytes of it, and would until the next collection.
    problem.__traceback__ = problem.__context__ = problem.__cause__ = None
    request_context.problem = problem
    headers: dict[str, str] = {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))

    if problem.kind is Kind.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = 'Bearer realm="sightline"'

    if problem.kind is Kind.SLOW:
        headers["Connection"] = "close"

    path: str = scope["path"]
    if path == "/v2" or path.startswith("/v2/"):
        message = f"{problem.detail or problem.title} {problem.remedy or ''}".rstrip()
        content = orjson.dumps({"error": message})
        return Response(content, _OIP_STATUS[problem.kind], headers, "application/json")

    content = orjson.dumps(problem_body(problem, request_context.request_id))
    return Response(content, STATUS[problem.kind], headers, MEDIA_TYPE)


def internal_problem(error: BaseException, scope: Scope) -> Problem:
    """A bug, told to the log with its trace and to the client without; or the database being away, which is none."""
    request_id = RequestContext.of(scope).request_id
    if isinstance(error, Exception) and is_transient(error):
        _log.warning("Database is not available: %s", error, extra={"request_id": request_id, "path": scope["path"]})
        return Problem(
            Kind.UNAVAILABLE,
            "database-unavailable",
            "The database is not available",
            "It is locked, full or away.",
            remedy="Try again as Retry-After says.",
            retry_after=2,
        )

    _log.error("Unhandled error", exc_info=error, extra={"request_id": request_id, "path": scope["path"]})
    return Problem(
        Kind.INTERNAL,
        "internal",
        "The server failed",
        "This is a bug of the server, not of the request.",
        remedy=f"Report it with the request id {request_id}.",
    )


def from_http_exception(error: HTTPException, scope: Scope, routes: Sequence[Route]) -> Response:
    """Starlette's own refusals (no such path, wrong method) in our form, with their headers and status kept.

    ``routes`` are all there are: Starlette itself names only the methods of the first that has the path.
    """
    code, kind = _HTTP_KINDS.get(error.status_code, ("request-refused", Kind.MALFORMED))
    phrase = HTTPStatus(error.status_code).phrase
    remedy = "GET /openapi.json lists every path and method."
    if error.status_code == 404 and (meant := _meant(scope["path"], routes)) is not None:
        remedy = f"The path is {meant}, without the extra slash."

    detail = f"{scope['method']} {scope['path']}: {phrase.lower()}." if error.detail == phrase else str(error.detail)
    problem = Problem(kind, code, phrase, detail, remedy=remedy)
    response = problem_response(problem, scope)
    if response.status_code != error.status_code:
        response = _restated(response, error.status_code)

    response.headers.update(error.headers or {})
    matching = [route for route in routes if route.path_regex.match(scope["path"])]
    if error.status_code == 405 and matching:
        response.headers["Allow"] = ", ".join(sorted({name for route in matching for name in route.methods or ()}))

    return response


def _meant(path: str, routes: Sequence[Route]) -> str | None:
    """The path of a route that ``path`` is but for a trailing or a doubled slash."""
    plain = re.sub(r"/{2,}", "/", path).rstrip("/")
    if plain == path or not any(route.path_regex.match(plain) for route in routes):
        return None
    return plain[:200]


_HTTP_KINDS: Mapping[int, tuple[str, Kind]] = {
    400: ("malformed", Kind.MALFORMED),
    404: ("path-not-found", Kind.NOT_FOUND),
    405: ("method-not-allowed", Kind.MALFORMED),
    413: ("body-too-large", Kind.TOO_LARGE),
}


def _restated(response: Response, status: int) -> Response:
    """The same answer with another status, in the line and in the body."""
    body = orjson.loads(response.body)
    if "status" in body:
        body["status"] = status
    return Response(orjson.dumps(body), status, media_type=response.media_type)


def from_validation_error(error: RequestValidationError) -> Problem:
    """FastAPI's own validation (path and query parameters), the first complaint told."""
    first = error.errors()[0]
    place = [str(part).replace("~", "~0").replace("/", "~1") for part in first["loc"]]
    pointer = "/" + "/".join(place[1:] if place and place[0] in ("body", "query", "path", "header") else place)
    return Problem(
        Kind.INVALID,
        "field-invalid",
        "A field is wrong",
        f"{place[0]} parameter: {first['msg']}." if place else f"{first['msg']}.",
        pointer=pointer,
    )


def install(app: FastAPI, routes: Sequence[Route] = ()) -> None:
    """Register the handlers; ``routes`` are those of ``app``.

    Errors that nobody expected are caught further out, by ``gateway.middleware.request``.
    """

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        if error.kind is Kind.INTERNAL:
            _log.error("%s: %s", error.code, error, exc_info=error, extra={"path": request.url.path})
        return problem_response(error, request.scope)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return from_http_exception(error, request.scope, routes)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(from_validation_error(error), request.scope)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
