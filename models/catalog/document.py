"""A card as ``/v1/models`` and the commands show it: what is on it, and the fields that clients read since 0.1."""

from __future__ import annotations

from typing import Any

from models.catalog.card import Card
from models.catalog.old_cards import OUTPUT_FIELDS, PART_FIELDS


def document(card: Card) -> dict[str, Any]:
    """``card`` as JSON, with the old fields beside the new, in their old places.

    ``logits`` and ``embedding`` name the outputs with these roles; ``pipeline.image_model`` and ``text_model`` name
    parts without their versions.
    """
    shown: dict[str, Any] = {}
    for field, value in card.model_dump(mode="json").items():
        if field == "roles":
            shown |= {role: value.get(role) for role in OUTPUT_FIELDS}
        shown[field] = value
    if card.pipeline is not None:
        shown["pipeline"] |= {field: card.pipeline.part(role) or None for field, role in PART_FIELDS.items()}
    return shown
