"""Cards as earlier releases wrote them, read as they are written now. The only place that knows the old forms."""

from __future__ import annotations

from collections.abc import Mapping

PART_FIELDS = {"image_model": "image", "text_model": "text"}
"""Fields of a pipeline that named a part each, without its version, and the part's role."""


def upgrade_pipeline(document: object) -> object:
    """``image_model`` and ``text_model`` of a pipeline as its ``parts``; anything else unchanged.

    >>> upgrade_pipeline({"kind": "dual-encoder", "image_model": "a", "text_model": None})
    {'kind': 'dual-encoder', 'parts': {'image': 'a'}}
    """
    if not isinstance(document, Mapping) or not document.keys() & PART_FIELDS.keys():
        return document
    kept = {name: value for name, value in document.items() if name not in PART_FIELDS}
    named = {role: document[field] for field, role in PART_FIELDS.items() if document.get(field) is not None}
    return {**kept, "parts": {**named, **kept.get("parts", {})}}
