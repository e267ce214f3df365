"""Reads the body of an inference: decompressed within bounds, its tensors aligned in memory.

Where the JSON part ends is said in a header, so it is known before the body comes where the first tensor will begin.
The body is read into a buffer laid out so that this falls on a cache line: the tensor is then used where it lies.
Anywhere else, engines would read it a few bytes off its alignment, or it had to be copied.
"""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass

import numpy as np
from starlette.requests import Request
from starlette.types import Receive

from gateway.request.parsing import read_body
from gateway.request.request_context import RequestContext
from services.errors import Kind, Problem

LINE = 64
"""Bytes of a cache line; more than any engine's vector loads need."""

_WINDOWS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_IN_THREAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sent:
    """``head`` is the JSON part; ``raw`` the tensors behind it, ``None`` for a request that is JSON only."""

    head: memoryview
    raw: memoryview | None


async def read(request: Request, limit: int) -> Sent:
    """The body of ``request``, at most ``limit`` bytes once decompressed.

    Raises ``header-length-invalid``, ``encoding-unsupported``, ``encoding-broken`` and ``body-too-large``.
    """
    head = RequestContext.of(request.scope).head
    length = _header_length(head.get(b"inference-header-content-length"))
    encoding = head.get(b"content-encoding", b"").strip().lower()
    size = head.get(b"content-length", b"")
    if encoding in (b"", b"identity"):
        aligned = length is not None and size.isdigit()
        body = await _read_aligned(request.receive, int(size), length or 0) if aligned else await _plain(request)
    else:
        body = memoryview(await _decompressed(await read_body(request.receive), encoding, limit))

    if length is None:
        return Sent(body, None)
    if length > len(body):
        raise _wrong_length(f"it says {length:,}, the body has {len(body):,} bytes")

    return Sent(body[:length], body[length:])


def _header_length(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12:
        raise _wrong_length("it is not a whole number")
    return int(value)


async def _plain(request: Request) -> memoryview:
    return memoryview(await read_body(request.receive))


async def _read_aligned(receive: Receive, size: int, first: int) -> memoryview:
    """``size`` bytes in a buffer of their own whose byte ``first`` begins a cache line."""
    room = np.empty(size + LINE, np.uint8)
    start = -(room.ctypes.data + first) % LINE
    body = room[start : start + size].data
    position, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(Kind.CANCELLED, "client-left", "The client left", "The connection closed too early.")
        chunk = message.get("body", b"")
        if position + len(chunk) > size:
            raise _wrong_length("the body is longer than Content-Length")
        body[position : position + len(chunk)] = chunk
        position += len(chunk)
        more = message.get("more_body", False)

    return body[:position]


async def _decompressed(data: bytes | bytearray, encoding: bytes, limit: int) -> bytes:
    window = _WINDOWS.get(encoding)
    if window is None:
        raise Problem(
            Kind.UNSUPPORTED_TYPE,
            "encoding-unsupported",
            "The content encoding is not supported",
            f"Content-Encoding is {encoding[:40].decode('latin-1')!r}.",
            remedy="Send gzip, deflate or plain.",
        )
    if len(data) < _IN_THREAD:
        return _inflate(data, window, limit)
    return await asyncio.to_thread(_inflate, data, window, limit)


def _inflate(data: bytes | bytearray, window: int, limit: int) -> bytes:
    """Never more than ``limit`` bytes, whatever the data claims to hold."""
    inflater = zlib.decompressobj(window)
    try:
        body = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise _broken(str(error)) from None

    if len(body) > limit:
        raise Problem(
            Kind.TOO_LARGE,
            "body-too-large",
            "The body is too large",
            f"Decompressed, it has more than {limit:,} bytes.",
            remedy="Send fewer rows in one request.",
        )

    if not inflater.eof:
        raise _broken("it ends early")
    if inflater.unused_data:
        raise _broken("something follows its end")

    return body


def _broken(what: str) -> Problem:
    return Problem(
        Kind.MALFORMED,
        "encoding-broken",
        "The compressed body cannot be read",
        f"{what[:120]}.",
        remedy="Compress the whole body once.",
    )


def _wrong_length(why: str) -> Problem:
    return Problem(
        Kind.MALFORMED,
        "header-length-invalid",
        "The header Inference-Header-Content-Length is wrong",
        f"Inference-Header-Content-Length: {why}.",
        remedy="Set it to the length in bytes of the JSON that the body begins with.",
    )
