"""The lines of a batch: read from where the last attempt stopped, one at a time, however long the file."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from models.text_files import NO_TEXT
from services.batch.kind import ENDPOINT
from services.datasets.package import Package
from services.errors import Kind, Problem

_BLOCK = 1 << 20

_NOT_UTF8 = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
    *NO_TEXT,
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it was read: its number from 1, its bytes, and where the next begins."""

    number: int
    data: bytes
    end: int
    too_long: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A line that can be sent."""

    custom_id: str | None
    url: str
    body: bytes


class LineError(Exception):
    """What is wrong with a line; it fails alone. ``custom_id`` as far as it could be read."""

    def __init__(self, code: str, message: str, custom_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.custom_id = custom_id


def of_file(source: BinaryIO, start: int, number: int, limit: int) -> Iterator[Line]:
    """The lines of ``source`` from byte ``start`` on, where line ``number`` begins. Blank lines are skipped.

    A line of more than ``limit`` bytes is passed over without being held.
    """
    source.seek(start)
    end = start
    while data := source.readline(limit + 1):
        end += len(data)
        too_long = len(data) > limit and not data.endswith(b"\n")
        if too_long:
            data = data[:256]
            while (rest := source.readline(_BLOCK)) and not rest.endswith(b"\n"):
                end += len(rest)
            end += len(rest)

        if too_long or data.strip():
            yield Line(number, data, end, too_long)

        number += 1


def of_list(lines: list[dict[str, Any]], start: int) -> Iterator[Line]:
    """Lines that were sent with the job; ``end`` counts lines, not bytes."""
    for index in range(start, len(lines)):
        yield Line(index + 1, orjson.dumps(lines[index]), index + 1)


def of_package(package: Package, start: int) -> Iterator[Line]:
    """A line for every picture of a data set, from number ``start`` on: its path is the ``custom_id``."""
    for index, stored in enumerate(package.samples[start:], start):
        image = base64.b64encode(package.read(stored)).decode("ascii")
        data = orjson.dumps({"custom_id": stored.sample.path, "body": {"image": image}})
        yield Line(index + 1, data, index + 1)


def begin(source: BinaryIO) -> int:
    """Return where the first line of ``source`` begins: after a UTF-8 byte order mark. Leaves ``source`` there.

    Raises :class:`Problem` ``batch-encoding`` for what is no UTF-8 text at all: every line would fail.
    """
    source.seek(0)
    head = source.read(4)
    found = next((what for mark, what in _NOT_UTF8 if head.startswith(mark)), None)
    if found is not None:
        raise Problem(
            Kind.INVALID,
            "batch-encoding",
            "The lines of the batch cannot be read",
            f"The file is {found}; a batch is JSON lines in UTF-8.",
            pointer="/parameters/input",
            remedy="Unpack it, or save it as UTF-8, upload it again and name the new artifact.",
        )

    start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    source.seek(start)
    return start


def count(source: BinaryIO) -> int:
    """Return how many lines ``source`` has from where it stands, blank ones not counted."""
    total, blank = 0, True
    while block := source.read(_BLOCK):
        *whole, rest = block.split(b"\n")
        for part in whole:
            total += bool(part.strip()) or not blank
            blank = True
        blank = blank and not rest.strip()
    return total + (not blank)


def parse(line: Line, endpoint: str | None, defaults: Mapping[str, Any]) -> Call:
    """Return what a line asks for. Raises :class:`LineError`."""
    if line.too_long:
        raise LineError("line-too-long", f"Line {line.number} is longer than a request body may be.")

    try:
        read = orjson.loads(line.data)
    except orjson.JSONDecodeError as error:
        raise LineError("line-malformed", f"Line {line.number} is not JSON: {error}.") from None

    if not isinstance(read, dict):
        raise LineError("line-malformed", f"Line {line.number} is not a JSON object.")

    custom_id = read.get("custom_id")
    if custom_id is not None and (not isinstance(custom_id, str) or len(custom_id) > 512):
        raise LineError("line-invalid", f"custom_id of line {line.number} is not a string of at most 512 characters.")
    if str(read.get("method", "POST")).upper() != "POST":
        raise LineError("line-invalid", f"method of line {line.number} is not POST.", custom_id)

    url, body = read.get("url", endpoint), read.get("body", {})
    if not isinstance(url, str) or not ENDPOINT.fullmatch(url):
        raise LineError(
            "line-invalid", f"url of line {line.number} is not the path of an endpoint such as /v1/classify.", custom_id
        )

    if not isinstance(body, dict):
        raise LineError("line-invalid", f"body of line {line.number} is not a JSON object.", custom_id)
    if body.get("stream"):
        raise LineError("line-invalid", f"Line {line.number} asks for a stream.", custom_id)

    try:
        return Call(custom_id, url, orjson.dumps({**defaults, **body}))
    except orjson.JSONEncodeError as error:
        raise LineError("line-invalid", f"body of line {line.number} cannot be sent: {error}.", custom_id) from None
