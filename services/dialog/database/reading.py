"""Rows out of CSV, JSON and SQLite files, within limits that are looked at before anything is kept."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import orjson

from services.errors import Kind, Problem

MOST_BYTES = 64 << 20
MOST_CELLS = 2_000_000
MOST_TEXT = 4_000
"""Characters in one cell."""

_MOST_ROW = 4 << 20
_MOST_STEPS = 200_000_000
"""Of SQLite's virtual machine: a table of two million cells takes a tenth."""

_SQLITE = b"SQLite format 3\x00"


def read_rows(data: bytes, table: str = "") -> tuple[list[str], list[dict[str, str]]]:
    """Columns, and rows as texts, of a file in any of the forms; ``table`` names the one of an SQLite file.

    CSV may be separated by comma, semicolon or tab and begin with a byte order mark. JSON is a list of objects.
    Raises ``database-too-large``, ``database-form``, ``database-row``.
    """
    if len(data) > MOST_BYTES:
        raise _too_large(f"The file has {len(data):,} bytes of at most {MOST_BYTES:,}.")
    if data.startswith(_SQLITE):
        return _sqlite(data, table)

    text = _decoded(data)
    if text.lstrip()[:1] in ("[", "{"):
        return _bounded(*_json(text))
    return _bounded(*_csv(text))


def _decoded(data: bytes) -> str:
    for encoding in ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig",):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            raise _form(
                f"Byte {error.start:,} is no {encoding.removesuffix('-sig').upper()}.",
                "Save the file as UTF-8.",
            ) from None
    raise AssertionError("one encoding was tried")


def _csv(text: str) -> tuple[list[str], Iterator[Mapping[str, Any]]]:
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)

    try:
        columns = [column.strip() for column in next(reader, [])]
    except csv.Error as error:
        raise _form(f"Line 1: {error}.", "Quote values that hold quotes or line breaks.") from None
    _check_columns(columns)

    def rows() -> Iterator[Mapping[str, Any]]:
        try:
            for values in reader:
                if not values:
                    continue  # an empty line
                if len(values) != len(columns):
                    raise Problem(
                        Kind.INVALID,
                        "database-row",
                        "A line has another number of values",
                        f"Line {reader.line_num} has {len(values)} values, the head has {len(columns)} columns.",
                        pointer=f"/database/line/{reader.line_num}",
                        remedy=f"Quote values that hold {separator!r}, or fill in what is missing.",
                    )
                yield dict(zip(columns, values, strict=True))
        except csv.Error as error:
            raise _form(f"Line {reader.line_num}: {error}.", "Quote values that hold quotes or line breaks.") from None

    return columns, rows()


def _json(text: str) -> tuple[list[str], Iterator[Mapping[str, Any]]]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _form(f"No JSON: {error}.", "Send a list of objects, or CSV.") from None
    if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
        raise _form("The JSON is no list of objects.", 'Send `[{"column": "value"}, ...]`.')

    columns = list(dict.fromkeys(str(column) for row in document for column in row))
    _check_columns(columns)
    return columns, iter(document)


def _sqlite(data: bytes, table: str) -> tuple[list[str], list[dict[str, str]]]:
    """One table; the file is opened in memory, without extensions, and only that table is read.

    A column may be computed by an expression of the file's: no value may be longer than a row's worth of text, and all
    of them together get so many steps.
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.deserialize(data)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(_MOST_ROW, len(data)))
            connection.set_progress_handler(lambda: 1, _MOST_STEPS)
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            if table not in tables:
                raise _form(
                    f"The file has no table {table!r}; it has {', '.join(tables[:10]) or 'none'}.",
                    "Name the table in the schema's `database.table`.",
                )

            quoted = table.replace('"', '""')
            cursor = connection.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608 - quoted
            columns = [str(column[0]) for column in cursor.description]
            _check_columns(columns)
            return _bounded(columns, (dict(zip(columns, values, strict=True)) for values in cursor))
        except sqlite3.Error as error:
            raise _form(f"The SQLite file cannot be read: {error}.", "Check it with `sqlite3 FILE .schema`.") from None


def _bounded(columns: list[str], rows: Iterator[Mapping[str, Any]]) -> tuple[list[str], list[dict[str, str]]]:
    found: list[dict[str, str]] = []
    for row in rows:
        if (len(found) + 1) * len(columns) > MOST_CELLS:
            raise _too_large(f"It has more than {MOST_CELLS:,} cells.")
        found.append({column: _text(row.get(column), len(found) + 1, column) for column in columns})
    return columns, found


def _text(value: object, number: int, column: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, str | int):
        value = orjson.dumps(value).decode() if isinstance(value, dict | list) else repr(value)

    text = str(value).strip()
    if len(text) > MOST_TEXT:
        raise Problem(
            Kind.INVALID,
            "database-row",
            "A value is too long",
            f"Row {number}: {column!r} has {len(text):,} characters of at most {MOST_TEXT:,}.",
            pointer=f"/database/{number - 1}/{column}",
            remedy="Leave the column out: a bot cannot say that much.",
        )
    return text


def _check_columns(columns: list[str]) -> None:
    twice = sorted({column for column in columns if columns.count(column) > 1}) if len(columns) <= 1_000 else []
    if not columns or len(columns) > 200 or "" in columns or twice:
        said = (
            "There are no columns."
            if not columns
            else f"There are {len(columns)} columns of at most 200."
            if len(columns) > 200
            else f"The column {twice[0]!r} is there twice."
            if twice
            else "A column has no name."
        )
        raise _form(said, "The first line names the columns, each once.")


def _form(detail: str, remedy: str) -> Problem:
    return Problem(
        Kind.INVALID, "database-form", "The database file cannot be read", detail, pointer="/database", remedy=remedy
    )


def _too_large(detail: str) -> Problem:
    return Problem(
        Kind.TOO_LARGE,
        "database-too-large",
        "The database is too large",
        detail,
        pointer="/database",
        remedy="Leave out columns and rows that the bot does not speak of.",
    )
