"""Cards as earlier releases wrote them, read as they are written now. The only place that knows the old forms."""

from __future__ import annotations

from collections.abc import Mapping

PART_FIELDS = {"image_model": "image", "text_model": "text"}
"""Fields of a pipeline that named a part each, without its version, and the part's role."""

OUTPUT_FIELDS = ("logits", "embedding")
"""Fields of a card that named an output each; the role is the field's own name."""

MAP = "modulation"
"""The output that was found by its name alone, which is its role now."""


SOFTMAX_NOTE = "is the logarithm of the model's softmax"
"""What imports wrote of a softmax whose logarithm they had appended."""


def upgrade_outputs(document: object) -> object:
    """``logits`` and ``embedding`` of a card as ``roles``, as is the output ``modulation`` of a card that has none.

    >>> upgrade_outputs({"name": "a", "logits": "scores", "embedding": None})
    {'name': 'a', 'roles': {'logits': 'scores'}}
    """
    if not isinstance(document, Mapping):
        return document
    kept = {name: value for name, value in document.items() if name not in OUTPUT_FIELDS}
    named = {role: document[role] for role in OUTPUT_FIELDS if document.get(role) is not None}
    if "roles" not in kept and any(_name(spec) == MAP for spec in kept.get("outputs", ())):
        named[MAP] = MAP
    return {**kept, "roles": {**named, **kept.get("roles", {})}}


def _name(spec: object) -> object:
    return spec.get("name") if isinstance(spec, Mapping) else getattr(spec, "name", None)


def upgrade_output_kind(document: object) -> object:
    """``output_kind`` of a card that says none: imports of earlier releases noted where they had met a softmax.

    >>> upgrade_output_kind({"provenance": [{"note": "logits is the logarithm of the model's softmax"}]})["output_kind"]
    'softmax'
    """
    if not isinstance(document, Mapping) or "output_kind" in document:
        return document
    notes = [str(one["note"]) for one in document.get("provenance") or () if isinstance(one, Mapping) and "note" in one]
    return {**document, "output_kind": "softmax"} if any(SOFTMAX_NOTE in note for note in notes) else document


def upgrade_image(document: object) -> object:
    """``image`` of a card that says no ``mode``: it is cropped, as all were.

    >>> upgrade_image({"size": 224})
    {'size': 224, 'mode': 'shorter-crop'}
    """
    if isinstance(document, Mapping) and "mode" not in document:
        return {**document, "mode": "shorter-crop"}
    return document


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
