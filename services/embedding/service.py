"""Embeddings as the gateway asks for them: texts or pictures to unit vectors, cut to fewer dimensions if asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.encoding.images import run_images
from services.encoding.opened import OpenedModels
from services.encoding.reading import WHOLE, Reading, read_texts
from services.encoding.texts import TextEncoder
from services.errors import Kind, Problem
from services.media.image import Picture
from services.runtime.protocol import ModelHandle, Options
from services.stages import Stages

ONE_SPACE = ("dual-encoder", "knowing-dual-encoder")
"""The kinds of pipelines whose texts and pictures may be compared with each other."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """``vectors`` ``(N, D) float32`` of unit length in the order asked, by which model, and how many tokens it read.

    ``reading`` tells of texts that it did not read whole.
    """

    model: str
    version: str
    vectors: NDArray[np.float32]
    tokens: int = 0
    reading: Reading = WHOLE


class Embedding:
    """Of texts and pictures by models that are handed to it, for one event loop."""

    def __init__(self) -> None:
        self._encoders = OpenedModels(TextEncoder)

    async def texts(
        self,
        model: ModelHandle,
        texts: Sequence[str],
        dimensions: int | None,
        options: Options,
        stages: Stages,
        *,
        truncate: bool = True,
    ) -> Embedded:
        """By the model itself, or the text tower of a pipeline. Raises ``model-*``, ``text-*``, ``dimensions-*``.

        Without ``truncate`` a text that is longer than the model reads is refused, at its place in ``/input``.
        """
        pipeline = model.card.pipeline
        one_space = pipeline is not None and pipeline.kind in ONE_SPACE
        encoder = await self._encoders.get(model.parts.get("text", model) if one_space else model)
        with stages.decoding():
            tokens = await encoder.tokenize(texts)
        reading = read_texts(tokens)
        if not truncate:
            reading.refuse_cuts("/input", within=True)

        rows = await encoder.embed(tokens, options, stages)
        return Embedded(model.card.name, model.card.version, _cut(rows, dimensions), tokens.count, reading)

    async def images(
        self, model: ModelHandle, pictures: Sequence[Picture], dimensions: int | None, options: Options, stages: Stages
    ) -> Embedded:
        """By the model itself, or the image tower of a pipeline. Raises ``model-embeds-no-image``, ``dimensions-*``."""
        tower = model.parts.get("image", model)
        card = tower.card
        if card.image is None or card.embedding is None:
            raise Problem(
                Kind.INVALID,
                "model-embeds-no-image",
                "The model does not embed images",
                f"{model.card.name!r} takes no image or puts out no embedding.",
                pointer="/model",
                remedy="GET /v1/models lists the models with their tasks.",
            )

        outputs = await run_images(tower, pictures, (card.embedding,), options, stages)
        return Embedded(model.card.name, card.version, _cut(outputs[card.embedding], dimensions))


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
