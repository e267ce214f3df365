"""Takes a body of any length straight to the disk: the file itself, or a form with one file part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from gateway.request.request_context import RequestContext
from services.errors import Kind, Problem

FORM_BYTES = 64 * 1024
"""What a form adds to its file, at most."""

_BLOCK = 1 << 20  # written at a time, in a thread
_MAX_HEADERS, _MAX_HEADER_BYTES = 8, 2048
_MAX_FIELD_BYTES, _MAX_FIELDS = 64 * 1024, 32


@dataclass(slots=True)
class Upload:
    """What came besides the content: the file's own name and type, and the other fields of the form."""

    filename: str | None = None
    media_type: str = "application/octet-stream"
    fields: dict[str, str] = field(default_factory=dict)


def declared_length(request: Request) -> int | None:
    """Bytes of the body as the client announced them."""
    length = RequestContext.of(request.scope).head.get(b"content-length")
    return int(length) if length is not None and length.isdigit() else None


async def receive(request: Request, write: Callable[[bytes], object]) -> Upload:
    """Hand the file's content to ``write``, block by block, in a thread; returns what was said about it.

    A form has one part ``file``; other parts are short fields. Raises ``multipart-malformed``, ``upload-empty``,
    ``client-left``, and what ``write`` raises.
    """
    content_type = RequestContext.of(request.scope).head.get(b"content-type", b"").decode("latin-1")
    kind = content_type.partition(";")[0].strip().lower()
    upload = Upload(media_type=kind or "application/octet-stream")
    parser = _FormReader(content_type, upload) if kind == "multipart/form-data" else None
    pending, size = bytearray(), 0
    async for chunk in _chunks(request):
        content = chunk if parser is None else parser.feed(chunk)
        pending += content
        size += len(content)
        if len(pending) >= _BLOCK:
            await asyncio.to_thread(write, bytes(pending))
            pending.clear()

    if parser is not None:
        parser.finish()

    if not size:
        raise Problem(Kind.MALFORMED, "upload-empty", "The upload is empty", "No byte of content came.")

    if pending:
        await asyncio.to_thread(write, bytes(pending))

    return upload


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise Problem(
                Kind.CANCELLED, "client-left", "The client left", "The connection closed before the body ended."
            )
        if body := message.get("body", b""):
            yield body
        if not message.get("more_body", False):
            return


class _FormReader:
    """Finds the file in a form as it arrives; keeps the short fields."""

    def __init__(self, content_type: str, upload: Upload) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            _malformed("Content-Type names no boundary.")

        self._upload = upload
        self._content = bytearray()
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._text = bytearray()
        self._file_seen = self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )

    def feed(self, data: bytes) -> bytes:
        """The bytes of the file that ``data`` holds."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            _malformed(f"{error}.")
        content = bytes(self._content)
        self._content.clear()
        return content

    def finish(self) -> None:
        if not self._ended:
            _malformed("The body ends before its last boundary.")
        if not self._file_seen:
            _malformed("The form has no part `file`.")

    def _part_begin(self) -> None:
        self._headers, self._field = {}, None
        self._text.clear()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            _malformed("A part has no Content-Disposition with a name.")

        self._field = name.decode("utf-8", "replace")
        if self._field != "file":
            if len(self._upload.fields) >= _MAX_FIELDS:
                _malformed(f"The form has more than {_MAX_FIELDS} fields.")
            return

        if self._file_seen:
            _malformed("The form has more than one part `file`.")

        self._file_seen = True
        if (filename := options.get(b"filename")) is not None:
            self._upload.filename = filename.decode("utf-8", "replace")

        media_type = self._headers.get(b"content-type", b"application/octet-stream")
        self._upload.media_type = media_type.decode("latin-1").partition(";")[0].strip().lower()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == "file":
            self._content += data[start:end]
            return
        self._text += data[start:end]
        if len(self._text) > _MAX_FIELD_BYTES:
            _malformed(f"The field {self._field!r} is longer than {_MAX_FIELD_BYTES:,} bytes.")

    def _part_end(self) -> None:
        if self._field is not None and self._field != "file":
            self._upload.fields[self._field] = self._text.decode("utf-8", "replace")

    def _end(self) -> None:
        self._ended = True


def _malformed(detail: str) -> NoReturn:
    raise Problem(
        Kind.MALFORMED,
        "multipart-malformed",
        "The form cannot be read",
        detail,
        remedy="Send the file itself as the body, or a form with one part `file`.",
    )
