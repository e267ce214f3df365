"""Schemas with rows that come with Sightline, to begin from: restaurant, hotel, movie, train."""

from __future__ import annotations

from importlib.resources import files

import orjson

from services.dialog.database import Table, read_rows
from services.dialog.schema import Schema

READY = ("hotel", "movie", "restaurant", "train")


def ready_document(name: str) -> tuple[dict[str, object], bytes]:
    """A ready schema as JSON and its rows as CSV; raises ``KeyError`` for a name that is not of :data:`READY`.

    >>> document, rows = ready_document("restaurant")
    >>> document["task"]["id"], rows.count(b"\\n")
    ('restaurant', 111)
    """
    if name not in READY:
        raise KeyError(name)
    folder = files(__package__)
    document: dict[str, object] = orjson.loads((folder / f"{name}.json").read_bytes())
    return document, (folder / f"{name}.csv").read_bytes()


def ready_bot(name: str) -> tuple[Schema, Table]:
    """The same, read."""
    document, data = ready_document(name)
    schema = Schema.model_validate(document)
    assert schema.database is not None, "every ready schema has rows"
    return schema, Table(schema.database, read_rows(data)[1])
