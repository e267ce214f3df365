"""The kinds of open-vocabulary models: label texts become one row each, pictures are scored against the rows.

A *kind* turns texts into rows and image outputs into logits; the pipeline on a model's card names it. Rows are kept by
the service, so that a repeated label set costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from services.classification.dual_encoder import DualEncoder
from services.classification.protocol import FeatureRows, Scored, ZeroShot
from services.classification.shared_space import KnowingDualEncoder
from services.classification.weight_prediction import WeightPrediction
from services.encoding.cache import ArrayCache
from services.errors import Kind, Problem
from services.runtime.problems import model_invalid
from services.runtime.protocol import ModelHandle

__all__ = ["KINDS", "FeatureRows", "Scored", "ZeroShot", "does_not_classify", "open_zero_shot"]

Opener = Callable[[ModelHandle, ArrayCache | None], ZeroShot]

KINDS: dict[str, Opener] = {
    "dual-encoder": DualEncoder,
    "knowing-dual-encoder": KnowingDualEncoder,
    "weight-prediction": WeightPrediction,
}
"""How a card's ``pipeline.kind`` is done."""


def open_zero_shot(model: ModelHandle, cache: ArrayCache | None = None) -> ZeroShot:
    """The kind of ``model``; reads its files. ``cache`` keeps embeddings of label texts.

    Raises ``model-does-not-classify`` where none fits.
    """
    pipeline = model.card.pipeline
    kind = KINDS.get(pipeline.kind) if pipeline is not None else None
    if kind is None:
        raise does_not_classify(model.card.name)
    for role in ("image", "text"):
        if role not in model.parts:
            card = f"{model.card.name}/{model.card.version}/card.json"
            raise model_invalid(f"{card}: pipeline: parts: there is no {role}.", "Pull or import the model again.")
    return kind(model, cache)


def does_not_classify(model: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "model-does-not-classify",
        "The model does not classify",
        f"{model!r} has neither class logits nor a way to compare pictures with texts.",
        pointer="/model",
        remedy="GET /v1/models lists the models with their tasks.",
    )
