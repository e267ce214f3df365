"""Takes a ``multipart/form-data`` body that lies in memory apart: images as files, everything else as one JSON part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.errors import Kind, Problem

_MAX_HEADERS, _MAX_HEADER_BYTES = 8, 2048


@dataclass(slots=True)
class Part:
    """One part: its field name and its bytes."""

    name: str
    chunks: list[bytes] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)


def read_parts(body: bytes, content_type: str, most: int) -> list[Part]:
    """The parts of a body in order; raises ``multipart-malformed`` (400) and ``too-many-parts`` (422)."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        _malformed("Content-Type names no boundary.")

    collector = _Collector(most)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.part_begin,
                "on_header_field": collector.header_name,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_headers_finished": collector.headers_finished,
                "on_part_data": collector.part_data,
                "on_end": collector.end,
            },
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )
        parser.write(body)
    except FormParserError as error:
        _malformed(f"{error}.")

    if not collector.ended:
        _malformed("The body ends before its last boundary.")

    return collector.parts


class _Collector:
    """Receives the parser's callbacks."""

    def __init__(self, most: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._most = most
        self._name = b""
        self._value = b""
        self._field: str | None = None

    def part_begin(self) -> None:
        self._field = None
        if len(self.parts) >= self._most:
            raise Problem(
                Kind.INVALID,
                "too-many-parts",
                "The form has too many parts",
                f"The limit is {self._most}: the images, and one part `request`.",
                remedy="Send several requests.",
            )

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            kind, options = parse_options_header(self._value)
            name = options.get(b"name")
            if kind == b"form-data" and name is not None:
                self._field = name.decode("utf-8", "replace")
        self._name = self._value = b""

    def headers_finished(self) -> None:
        if self._field is None:
            _malformed("A part has no Content-Disposition with a name.")
        self.parts.append(Part(self._field))

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].chunks.append(data[start:end])

    def end(self) -> None:
        self.ended = True


def _malformed(detail: str) -> NoReturn:
    raise Problem(
        Kind.MALFORMED,
        "multipart-malformed",
        "The form cannot be read",
        detail,
        remedy="Let the HTTP library build the form: file parts `image`, the other fields as one JSON part `request`.",
    )
