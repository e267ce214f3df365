"""A card as ``/v1/models`` and the commands show it: what is on it, and the fields that clients read since 0.1."""

from __future__ import annotations

from typing import Any

from models.catalog.card import Card
from models.catalog.old_cards import PART_FIELDS


def document(card: Card) -> dict[str, Any]:
    """``card`` as JSON. ``pipeline.image_model`` and ``text_model`` name parts without their versions."""
    shown = card.model_dump(mode="json")
    if card.pipeline is not None:
        shown["pipeline"] |= {field: card.pipeline.part(role) or None for field, role in PART_FIELDS.items()}
    return shown
