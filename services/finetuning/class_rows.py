"""Class names as directions in an encoder's feature space: what a language-aware head starts from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import Card
from services.classification.zero_shot import FeatureRows, open_zero_shot
from services.errors import Kind, Problem
from services.runtime.protocol import Backend, Options
from services.stages import Stages

SECONDS = 600.0
"""A thousand classes take seconds; this is for a machine that is very busy."""


def language_models(cards: Sequence[Card], encoder: str) -> list[Card]:
    """The open-vocabulary models over ``encoder``, which can say where in its features a text lies."""
    return [card for card in cards if card.pipeline is not None and card.pipeline.image_model == encoder]


async def class_rows(
    backend: Backend, encoder: str, classes: Sequence[str], templates: Sequence[str]
) -> NDArray[np.float32]:
    """``(C, D)`` unit rows for ``classes``. Raises ``no-language-model`` when no open model is built on ``encoder``."""
    cards = [status.card for status in backend.index() if status.card is not None and status.state == "READY"]
    for card in language_models(cards, encoder):
        kind = open_zero_shot(backend, card, backend.folder(card.name, card.version))
        if isinstance(kind, FeatureRows):
            readable = [name.replace("_", " ") for name in classes]
            return await kind.feature_rows(readable, templates, Options.within(SECONDS), Stages())
    raise no_language_model(encoder)


def no_language_model(encoder: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "no-language-model",
        "The encoder knows no language",
        f"No open-vocabulary model is built on {encoder!r}, so class names say nothing about its features.",
        pointer="/parameters/init",
        remedy='Send "init": "random", or choose an encoder that an open-vocabulary model uses.',
    )
