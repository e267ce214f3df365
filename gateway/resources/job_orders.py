"""From the body of a submission to an order: its form is checked here; what it names, by its kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from gateway.request.parsing import parse_json, read_body, unsupported_type
from gateway.request.request_context import RequestContext
from gateway.resources.schemas.jobs import JobBody
from services.errors import Kind, Problem
from services.jobs.kind import JobKind
from services.jobs.records import Order, Webhook

MAX_PARAMETER_BYTES = 8 * 1024 * 1024
B = TypeVar("B", bound=BaseModel)

_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")


@dataclass(frozen=True, slots=True)
class Checked:
    """An order to be recorded, and the kind that checks what its parameters name."""

    kind: JobKind[Any]
    parameters: BaseModel
    record: Order


def order(kinds: Mapping[str, JobKind[Any]], body: JobBody, key: str | None, traceparent: str) -> Checked:
    """The order of a body, its form checked. Long parameters take a while: call it in a thread."""
    kind = kinds.get(body.kind)
    if kind is None:
        raise Problem(
            Kind.INVALID,
            "job-kind-unknown",
            "There is no such kind of job",
            f"No kind is called {body.kind!r}.",
            pointer="/kind",
            remedy=f"Kinds are {', '.join(sorted(kinds))}.",
        )

    sent = orjson.dumps(body.parameters)
    if len(sent) > MAX_PARAMETER_BYTES:
        raise Problem(
            Kind.TOO_LARGE,
            "parameters-too-large",
            "Parameters are too large",
            f"They take {len(sent):,} bytes; the limit is {MAX_PARAMETER_BYTES:,}.",
            pointer="/parameters",
            remedy="Upload what is long with POST /v1/artifacts and name it as artifact:{id}.",
        )

    try:
        parameters = kind.parameters.model_validate_json(sent, strict=True)
    except ValidationError as error:
        raise _invalid(error, "/parameters", body.parameters) from None

    record = Order(
        kind=kind.name,
        queue=kind.queue,
        parameters=parameters.model_dump(mode="json"),
        priority=body.priority,
        webhook=Webhook(body.webhook.url, body.webhook.secret) if body.webhook else None,
        idempotency_key=key,
        traceparent=traceparent or None,
    )
    return Checked(kind, parameters, record)


async def read_as(request: Request, model: type[B]) -> B:
    """The JSON body of a request as ``model``; the first complaint is the problem."""
    kind = RequestContext.of(request.scope).head.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        unsupported_type(kind, "application/json")
    sent = parse_json(await read_body(request.receive))
    try:
        return model.model_validate(sent)
    except ValidationError as error:
        raise _invalid(error, "", sent) from None


def _invalid(error: ValidationError, base: str, sent: object) -> Problem:
    """The first complaint of a validation, with where it is in what was ``sent``.

    A value that may be of several forms has a complaint for each; the one that got furthest into the value tells most.
    """
    found = [(_place(one["loc"], one["type"], sent), one["msg"]) for one in error.errors(include_url=False)]
    first = found[0][0]
    place, message = max((one for one in found if one[0][: len(first)] == first), key=lambda one: len(one[0]))
    escaped = [str(part).replace("~", "~0").replace("/", "~1") for part in place]

    return Problem(
        Kind.INVALID,
        "field-invalid",
        "A field is wrong",
        f"{message}.",
        pointer="/".join([base, *escaped]) or None,
    )


def _place(location: tuple[int | str, ...], kind: str, sent: Any) -> tuple[int | str, ...]:
    """The parts of a location that are in the document, or missing from it; others name one of a value's forms."""
    place: list[int | str] = []
    for position, part in enumerate(location, 1):
        listed = isinstance(sent, list) and isinstance(part, int) and part < len(sent)
        if listed or (isinstance(sent, dict) and part in sent):
            sent = sent[part]
        elif not (kind == "missing" and isinstance(sent, dict) and position == len(location)):
            continue
        place.append(part)
    return tuple(place)


def idempotency_key(request: Request) -> str | None:
    """Return what ``Idempotency-Key`` says. Raises ``idempotency-key-malformed``."""
    raw = RequestContext.of(request.scope).head.get(b"idempotency-key")
    if raw is None:
        return None

    key = raw.decode("latin-1")
    if not _KEY.match(key):
        raise Problem(
            Kind.MALFORMED,
            "idempotency-key-malformed",
            "Idempotency-Key cannot be read",
            "It is not 1 to 255 visible ASCII characters.",
            remedy="A UUID does well.",
        )

    return key
