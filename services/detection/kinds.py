"""The kinds of open-vocabulary detectors: how a card's ``pipeline.kind`` is done."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from services.detection.protocol import OpenVocabulary
from services.encoding.class_rows import ClassRows
from services.errors import Kind, Problem
from services.runtime.problems import model_invalid
from services.runtime.protocol import ModelHandle

KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "drawn-things": ("services.detection.drawn", "DrawnThings", ("image", "head", "naming", "text")),
    "drawn-regions": ("services.detection.drawn_regions", "DrawnRegions", ("proposals", "regions", "text")),
    "glip": ("services.detection.glip", "Glip", ("text", "image", "head")),
    "photo-regions": ("services.detection.photo", "PhotoDetector", ("proposals", "regions", "text")),
    "regionclip": ("services.detection.regionclip", "RegionCLIP", ("maps", "anchors", "regions", "text")),
}
"""By ``pipeline.kind``: the module, its class, and the parts that a card of this kind names.

A row is ``"proposal-text": ("services.detection.proposal_text", "ProposalText", ("image", "text"))``. A module is
imported when a model of its kind is first asked; the class is called with the model's handle and the rows that are
kept (:class:`~services.encoding.class_rows.ClassRows`), in a thread.
"""


def open_kind(
    model: ModelHandle, rows: ClassRows, kinds: Mapping[str, tuple[str, str, tuple[str, ...]]] = KINDS
) -> OpenVocabulary:
    """The kind of ``model``; reads its files. Raises ``model-does-not-detect`` and ``model-invalid``."""
    pipeline = model.card.pipeline
    row = kinds.get(pipeline.kind) if pipeline is not None else None
    if row is None:
        raise does_not_detect(model.card.name)
    module, name, parts = row
    for role in parts:
        if role not in model.parts:
            card = f"{model.card.name}/{model.card.version}/card.json"
            raise model_invalid(f"{card}: pipeline: parts: there is no {role}.", "Pull or import the model again.")
    kind: OpenVocabulary = getattr(importlib.import_module(module), name)(model, rows)
    return kind


def does_not_detect(model: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "model-does-not-detect",
        "The model does not detect",
        f"{model!r} finds no boxes.",
        pointer="/model",
        remedy="GET /v1/models lists the models with their tasks: detect and zero-shot-detect.",
    )
