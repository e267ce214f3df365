"""The kinds of open-vocabulary models: label texts become one row each, pictures are scored against the rows.

A *kind* turns texts into rows and image outputs into logits; the pipeline on a model's card names it. Rows are kept by
the service, so that a repeated label set costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.catalog.card import Card
from services.classification.dual_encoder import DualEncoder
from services.classification.protocol import FeatureRows, Scored, ZeroShot
from services.classification.shared_space import KnowingDualEncoder
from services.classification.weight_prediction import WeightPrediction
from services.encoding.cache import ArrayCache
from services.errors import Kind, Problem
from services.runtime.protocol import Backend

__all__ = ["KINDS", "FeatureRows", "Scored", "ZeroShot", "does_not_classify", "open_zero_shot"]

Opener = Callable[[Backend, Card, Path, ArrayCache | None], ZeroShot]

KINDS: dict[str, Opener] = {
    "dual-encoder": DualEncoder,
    "knowing-dual-encoder": KnowingDualEncoder,
    "weight-prediction": WeightPrediction,
}
"""How a card's ``pipeline.kind`` is done."""


def open_zero_shot(backend: Backend, card: Card, folder: Path, cache: ArrayCache | None = None) -> ZeroShot:
    """The kind of ``card``; reads its files. ``cache`` keeps embeddings of label texts.

    Raises ``model-does-not-classify`` where none fits.
    """
    kind = KINDS.get(card.pipeline.kind) if card.pipeline is not None else None
    if kind is None:
        raise does_not_classify(card.name)
    return kind(backend, card, folder, cache)


def does_not_classify(model: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "model-does-not-classify",
        "The model does not classify",
        f"{model!r} has neither class logits nor a way to compare pictures with texts.",
        pointer="/model",
        remedy="GET /v1/models lists the models with their tasks.",
    )
