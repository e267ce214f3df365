"""Reads a request in any of the three ways that images arrive: JSON, a form with files, or the image itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import orjson
from pydantic_core import from_json
from starlette.requests import Request

from gateway.middleware.body_guard import read_body
from gateway.request.fields import Form, wrong
from gateway.request.multipart import read_parts
from gateway.request.request_context import RequestContext
from services.errors import Kind, Problem

MAX_VALUES = 200_000
"""Commas and brackets in a JSON body. Parsed, a small value takes 20 times its text: `{},{},{}` fills the memory."""

_UNCOUNTED_BYTES = 256 * 1024
_MAX_QUERY_FIELDS = 10_000
_INLINE_FORM = 1024 * 1024
"""Bytes of a form that is taken apart on the event loop: about a millisecond."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a request holds: checked fields, and where each image stands in it.

    An image is text (a JSON string: base64, data URI, address) or the bytes of a file.
    """

    fields: dict[str, Any]
    images: list[tuple[str, str | bytes]]


async def read_images(request: Request, form: Form, most: int, turn: Callable[[], Awaitable[None]]) -> Sent:
    """The request as its content type says; ``image`` and ``images`` are taken out of the fields.

    ``turn`` is awaited between receiving and parsing. Raises 400 for what cannot be parsed, 415 for another type,
    422 for wrong fields.
    """
    kind = _kind(request)
    is_json, is_form = _is_json(kind), kind == b"multipart/form-data"
    if not is_json and not is_form and not kind.startswith(b"image/") and kind != b"application/octet-stream":
        unsupported_type(kind, "application/json, multipart/form-data or image/*")
    body = await read_body(request.receive)
    await turn()
    if is_json:
        _no_query(request, form)
        fields = form.read(parse_image_json(body))
        return Sent(fields, _images_of(fields))
    if is_form:
        _no_query(request, form)
        content_type = RequestContext.of(request.scope).head[b"content-type"].decode("latin-1")
        if len(body) <= _INLINE_FORM:
            return _form_parts(body, content_type, form, most)
        return await asyncio.to_thread(_form_parts, body, content_type, form, most)
    fields = form.query(_query(request))
    if "image" in fields or "images" in fields:
        name = "image" if "image" in fields else "images"
        wrong("field-conflict", "The image is sent twice", "The body is the image already.", f"/{name}")
    return Sent(fields, [("/image", bytes(body))])


def _kind(request: Request) -> bytes:
    """The media type of the body, without its parameters."""
    return RequestContext.of(request.scope).head.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _is_json(kind: bytes) -> bool:
    return kind == b"application/json" or kind.endswith(b"+json")


async def read_fields(request: Request, form: Form) -> dict[str, Any]:
    """The checked fields of a request that is JSON only."""
    kind = _kind(request)
    if not _is_json(kind):
        unsupported_type(kind, "application/json")
    _no_query(request, form)
    return form.read(parse_json(await read_body(request.receive)))


def parse_json(body: bytes | bytearray, most_values: int = MAX_VALUES) -> object:
    """A JSON body, whatever it holds; raises ``body-empty``, ``json-malformed``, ``json-too-many-values``."""
    _check_json(body, most_values)
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(f"{error.msg} (byte {error.pos:,} of {len(body):,})") from None
    return value


def parse_image_json(body: bytes | bytearray) -> object:
    """As :func:`parse_json`, in a quarter of its time where the body is one long string: no copy in between.

    Numbers too large for a float become infinite, and fail the range check of their field.
    """
    _check_json(body, MAX_VALUES)
    try:
        value: object = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise _malformed(f"{error} of {len(body):,} bytes") from None
    return value


def _check_json(body: bytes | bytearray, most_values: int) -> None:
    if not body:
        raise Problem(Kind.MALFORMED, "body-empty", "The body is empty", "A JSON object is expected.")
    if len(body) > _UNCOUNTED_BYTES and body.count(b",") + body.count(b"[") + body.count(b"{") > most_values:
        raise Problem(
            Kind.TOO_LARGE,
            "json-too-many-values",
            "The body holds too many values",
            f"There are more than {most_values:,} commas and brackets in it.",
            remedy="Send several requests.",
        )


def _malformed(detail: str) -> Problem:
    return Problem(Kind.MALFORMED, "json-malformed", "The body is not JSON", f"{detail}.")


def unsupported_type(kind: bytes, wanted: str) -> NoReturn:
    """Raise the 415 of a request with content type ``kind``."""
    got = f"Content-Type is {kind.decode('latin-1')!r}" if kind else "Content-Type is missing"
    raise Problem(
        Kind.UNSUPPORTED_TYPE,
        "content-type-unsupported",
        "The content type is not supported",
        f"{got}.",
        remedy=f"Send {wanted}.",
    )


def _images_of(fields: dict[str, Any]) -> list[tuple[str, str | bytes]]:
    image, images = fields.pop("image", None), fields.pop("images", None)
    if image is not None and images is not None:
        wrong("field-conflict", "The images are sent twice", "Send either `image` or `images`.", "/images")
    if image is not None:
        return [("/image", image)]
    if images is not None:
        return [(f"/images/{index}", item) for index, item in enumerate(images)]
    return []


def _form_parts(body: bytes | bytearray, content_type: str, form: Form, most: int) -> Sent:
    images: list[tuple[str, str | bytes]] = []
    fields: dict[str, Any] | None = None
    for part in read_parts(bytes(body), content_type, most + 1):
        if part.name == "image":
            images.append((f"/image/{len(images)}", part.data))
        elif part.name == "request" and fields is None:
            fields = form.read(parse_json(part.data))
            if "image" in fields or "images" in fields:
                name = "image" if "image" in fields else "images"
                wrong("field-conflict", "The images are sent twice", "Images come as file parts here.", f"/{name}")
        else:
            wrong(
                "part-unknown",
                "A part of the form is not known",
                f"There is {'more than one' if part.name == 'request' else 'no'} part {part.name[:100]!r}.",
                "/" + part.name[:100].replace("~", "~0").replace("/", "~1"),
                "Send file parts `image`, and the other fields as one JSON part `request`.",
            )
    if len(images) > most:
        wrong("array-too-long", "Too many images", f"There are {len(images)} images; the limit is {most}.", "/image")
    if len(images) == 1:
        images = [("/image", images[0][1])]
    return Sent(fields or {}, images)


def _query(request: Request) -> list[tuple[str, str]]:
    raw: bytes = request.scope["query_string"]
    if not raw:
        return []
    try:
        return parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_QUERY_FIELDS,
        )
    except ValueError:
        raise Problem(
            Kind.MALFORMED,
            "query-malformed",
            "The query parameters cannot be read",
            "They are not name=value pairs joined by `&`, percent-encoded UTF-8.",
        ) from None


def _no_query(request: Request, form: Form) -> None:
    """A field that stands in the address of a JSON request would be overlooked: say so."""
    if not request.scope["query_string"]:
        return
    for name, _ in _query(request):
        if name in form.fields:
            wrong(
                "field-misplaced",
                "A field is in the wrong place",
                f"`{name}` is a query parameter; with this content type it belongs into the body.",
                f"/{name}",
            )
