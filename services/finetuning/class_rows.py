"""Class names as directions in an encoder's feature space: what a language-aware head starts from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import Card
from services.classification.zero_shot import FeatureRows, open_zero_shot
from services.errors import Kind, Problem
from services.runtime.protocol import Backend, ModelHandle, Options
from services.stages import Stages

SECONDS = 600.0
"""A thousand classes take seconds; this is for a machine that is very busy."""


def language_models(cards: Sequence[Card], encoder: str) -> list[Card]:
    """The open-vocabulary models over ``encoder``, which can say where in its features a text lies."""
    return [card for card in cards if card.pipeline is not None and card.pipeline.part("image") == encoder]


async def class_rows(
    backend: Backend, encoder: ModelHandle, classes: Sequence[str], templates: Sequence[str]
) -> NDArray[np.float32]:
    """``(C, D)`` unit rows for ``classes``. Raises ``no-language-model`` when no open model is built on ``encoder``."""
    name = encoder.card.name
    cards = [status.card for status in backend.index() if status.card is not None and status.state == "READY"]
    for card in language_models(cards, name):
        with await backend.resolve(card.name, card.version) as model:
            kind = open_zero_shot(model)
            # One that has another version of the encoder would give directions in another space.
            if isinstance(kind, FeatureRows) and kind.image.card == encoder.card:
                readable = [label.replace("_", " ") for label in classes]
                return await kind.feature_rows(readable, templates, Options.within(SECONDS), Stages())
    raise no_language_model(name)


def no_language_model(encoder: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "no-language-model",
        "The encoder knows no language",
        f"No open-vocabulary model is built on {encoder!r}, so class names say nothing about its features.",
        pointer="/parameters/init",
        remedy='Send "init": "random", or choose an encoder that an open-vocabulary model uses.',
    )
