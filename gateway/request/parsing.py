"""Reads a request in any of the three ways that images arrive: JSON, a form with files, or the image itself."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import Receive

from gateway.request.body import Body
from gateway.request.fields import wrong
from gateway.request.multipart import read_parts
from gateway.request.nested import Form, below, images_in
from gateway.request.request_context import RequestContext
from services.errors import Kind, Problem

B = TypeVar("B", bound=Body)

MAX_VALUES = 200_000
"""Commas and brackets in a JSON body. Parsed, a small value takes 20 times its text: `{},{},{}` fills the memory."""

_UNCOUNTED_BYTES = 256 * 1024
_MARKS = frozenset({0xEF, 0xFE, 0xFF})
"""First bytes of byte order marks. JSON begins with none of them."""

_MAX_QUERY_FIELDS = 10_000
_INLINE_FORM = 1024 * 1024
"""Bytes of a form that is taken apart on the event loop: about a millisecond."""


@dataclass(slots=True)
class Sent(Generic[B]):
    """What a request holds: its checked fields, and where each image stands in it.

    An image is text (a JSON string: base64, data URI, address) or the bytes of a file. ``images`` are those of the
    fields ``image`` and ``images``; ``others`` those of any other field.
    """

    body: B
    images: list[tuple[str, str | bytes]]
    others: list[tuple[str, str | bytes]]


async def read_request(request: Request, form: Form[B], most: int, turn: Callable[[], Awaitable[None]]) -> Sent[B]:
    """The request as its content type says; ``image`` and ``images`` are taken out of the fields.

    ``turn`` is awaited between receiving and parsing. Where the form has no images, the request is JSON. Raises 400 for
    what cannot be parsed, 415 for another type, 422 for wrong fields.
    """
    kind = _kind(request)
    is_json, is_form = is_json_type(kind), kind == b"multipart/form-data"
    if not is_json:
        _refuse_type(kind, form)
    body = await read_body(request.receive)
    await turn()

    if is_json:
        _no_query(request, form)
        fields = form.read(parse_image_json(body))
        return _sent(form, fields, _images_of(fields))
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
    return _sent(form, fields, [("/image", bytes(body))])


def _refuse_type(kind: bytes, form: Form[B]) -> None:
    """Raise the 415 of a body that is not JSON, unless it may be images."""
    if not form.takes_images:
        unsupported_type(kind, "application/json")
    if kind != b"multipart/form-data" and not kind.startswith(b"image/") and kind != b"application/octet-stream":
        unsupported_type(kind, "application/json, multipart/form-data or image/*")


def _sent(form: Form[B], fields: dict[str, Any], images: list[tuple[str, str | bytes]]) -> Sent[B]:
    body = form.made(fields)
    return Sent(body, images, list(images_in(form, body, "")) if form.holding_images else [])


async def read_body(receive: Receive) -> bytes | bytearray:
    """The whole body, which :class:`BodyGuard` around the routes bounds; raises ``client-left`` when it breaks off."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        whole: bytes = message.get("body", b"")
        return whole
    # Grown in place: a list of chunks that is joined at the end needs the memory twice.
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body
        message = await receive()
    raise Problem(Kind.CANCELLED, "client-left", "The client left", "The connection closed before the body ended.")


def _kind(request: Request) -> bytes:
    """The media type of the body, without its parameters."""
    return RequestContext.of(request.scope).head.get(b"content-type", b"").partition(b";")[0].strip().lower()


def is_json_type(kind: bytes) -> bool:
    """Return whether a media type is JSON's or of a kind of JSON."""
    return kind == b"application/json" or kind.endswith(b"+json")


def parse_json(body: bytes | bytearray, most_values: int = MAX_VALUES) -> object:
    """A JSON body, whatever it holds; raises ``body-empty``, ``json-malformed``, ``json-too-many-values``."""
    _check_json(body, most_values)
    try:
        value: object = orjson.loads(_unmarked(body))
    except orjson.JSONDecodeError as error:
        raise _malformed(f"{error.msg} (byte {error.pos:,} of {len(body):,})") from None
    return value


def parse_image_json(body: bytes | bytearray) -> object:
    """As :func:`parse_json`, in a quarter of its time where the body is one long string: no copy in between.

    Numbers too large for a float become infinite, and fail the range check of their field.
    """
    _check_json(body, MAX_VALUES)
    try:
        value: object = from_json(_unmarked(body), allow_inf_nan=False, cache_strings="keys")
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


def _unmarked(body: bytes | bytearray) -> bytes | bytearray:
    """``body`` without a UTF-8 byte order mark, which RFC 8259 lets a parser ignore.

    Raises ``json-malformed`` for UTF-16 and UTF-32, whose first byte is otherwise all that a parser would name.
    """
    if body[0] not in _MARKS:
        return body
    if body.startswith(codecs.BOM_UTF8):
        return body[len(codecs.BOM_UTF8) :]
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _malformed("It begins with the byte order mark (BOM) of UTF-16 or UTF-32; send JSON in UTF-8")
    return body


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


def _form_parts(body: bytes | bytearray, content_type: str, form: Form[B], most: int) -> Sent[B]:
    images: list[tuple[str, str | bytes]] = []
    others: list[tuple[str, str | bytes]] = []
    fields: dict[str, Any] | None = None
    for part in read_parts(bytes(body), content_type, most + 1 + len(form.files)):
        if part.name == "image":
            images.append((f"/image/{len(images)}", part.data))
        elif part.name in form.files and f"/{part.name}" not in dict(others):
            others.append((f"/{part.name}", part.data))
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
                below("", part.name[:100]),
                "Send file parts `image`, and the other fields as one JSON part `request`.",
            )

    if len(images) > most:
        wrong("array-too-long", "Too many images", f"There are {len(images)} images; the limit is {most}.", "/image")

    if len(images) == 1:
        images = [("/image", images[0][1])]

    sent = _sent(form, form.read({}) if fields is None else fields, images)
    for pointer, _ in others:
        if any(named == pointer for named, _ in sent.others):
            wrong("field-conflict", "An image is sent twice", "Send it as a file or in the fields.", pointer)

    sent.others.extend(others)
    return sent


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


def _no_query(request: Request, form: Form[B]) -> None:
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
