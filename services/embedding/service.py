"""Embeddings as the gateway asks for them: texts or pictures to unit vectors, cut to fewer dimensions if asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import Card
from services.encoding.texts import TextEncoder
from services.errors import Kind, Problem
from services.media.image import Picture
from services.media.preprocess import Preprocessor
from services.runtime.protocol import Backend, Options
from services.settings import Settings
from services.stages import Stages

ONE_SPACE = ("dual-encoder", "knowing-dual-encoder")
"""The kinds of pipelines whose texts and pictures may be compared with each other."""

INLINE_PIXELS = 600_000
"""Pictures of more pixels together are resized in a thread."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """``vectors`` ``(N, D) float32`` of unit length in the order asked, by which model, and how many tokens it read."""

    model: str
    version: str
    vectors: NDArray[np.float32]
    tokens: int = 0


class Embedding:
    """Over one backend, for one event loop."""

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self._backend = backend
        self._settings = settings
        self._encoders: dict[str, TextEncoder] = {}

    async def texts(
        self, model: str | None, texts: Sequence[str], dimensions: int | None, options: Options, stages: Stages
    ) -> Embedded:
        """``model`` ``None`` is the default text encoder. Raises ``model-*``, ``text-*``, ``dimensions-*``."""
        name = model or self._settings.default_text_encoder
        card = self._backend.card(name)
        tower = self._text_tower(card)
        encoder = self._encoders.setdefault(tower, TextEncoder(self._backend, tower))
        rows = await encoder.encode(texts, options, stages)
        return Embedded(name, card.version, _cut(rows, dimensions), await encoder.count(texts))

    async def images(
        self, model: str | None, pictures: Sequence[Picture], dimensions: int | None, options: Options, stages: Stages
    ) -> Embedded:
        """Raises ``model-embeds-no-image``, what the backend raises, ``dimensions-*``."""
        card = self._image_card(model or self._settings.default_classifier)
        assert card.image is not None and card.embedding is not None
        prepare = Preprocessor(card.image)
        step = card.batching.max_batch_size
        rows = []
        for start in range(0, len(pictures), step):
            part = pictures[start : start + step]
            begin = time.perf_counter()
            if sum(picture.width * picture.height for picture in part) <= INLINE_PIXELS:
                pixels = prepare.batch(part)
            else:
                pixels = await asyncio.to_thread(prepare.batch, part)
            stages.decode += time.perf_counter() - begin
            answer = await self._backend.infer(
                card.name,
                {card.image.input: pixels},
                version=card.version,
                outputs=(card.embedding,),
                options=options,
            )
            stages.ran(answer)
            rows.append(answer.outputs[card.embedding])
        return Embedded(model or card.name, card.version, _cut(np.concatenate(rows), dimensions))

    @staticmethod
    def _text_tower(card: Card) -> str:
        """The model itself, or the text tower of a pipeline whose two towers share one space."""
        if card.pipeline is not None and card.pipeline.kind in ONE_SPACE and card.pipeline.text_model is not None:
            return card.pipeline.text_model
        return card.name

    def _image_card(self, name: str) -> Card:
        """The card of the image tower: the model's own, or that of the pipeline's image model."""
        card = self._backend.card(name)
        if card.pipeline is not None and card.pipeline.image_model is not None:
            card = self._backend.card(card.pipeline.image_model)
        if card.image is None or card.embedding is None:
            raise Problem(
                Kind.INVALID,
                "model-embeds-no-image",
                "The model does not embed images",
                f"{name!r} takes no image or puts out no embedding.",
                pointer="/model",
                remedy="GET /v1/models lists the models with their tasks.",
            )
        return card


def _cut(rows: NDArray[np.float32], dimensions: int | None) -> NDArray[np.float32]:
    """The first ``dimensions`` of every row, made unit length."""
    width = rows.shape[1]
    if dimensions is not None:
        if dimensions > width:
            raise Problem(
                Kind.INVALID,
                "dimensions-too-many",
                "The model has fewer dimensions",
                f"{dimensions} were asked for; the model has {width}.",
                pointer="/dimensions",
                remedy=f"Ask for at most {width}, or leave dimensions out.",
            )
        rows = rows[:, :dimensions]
    if not np.isfinite(rows).all():
        raise Problem(
            Kind.INTERNAL, "model-not-finite", "The model's answer is not a number", "It gave NaN or infinity."
        )
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12), np.float32)
