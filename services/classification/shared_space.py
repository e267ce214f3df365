"""Two towers of one space that know what words mean: :class:`SharedSpace` behind an image and a text tower."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from models.catalog.card import Card
from services.classification.calibration import Calibration
from services.classification.protocol import Array, Scored
from services.encoding.cache import ArrayCache
from services.encoding.class_rows import text_rows
from services.encoding.meanings import read_arrays
from services.encoding.shared_space import SharedSpace
from services.encoding.texts import TextEncoder
from services.errors import Kind, Problem
from services.runtime.protocol import ModelHandle, Options, Tensor
from services.stages import Stages

_INLINE_LABELS = 32
"""More labels are looked up and placed in a thread."""


class KnowingDualEncoder:
    """:class:`SharedSpace` between an image tower and a text tower that the backend runs."""

    def __init__(self, model: ModelHandle, cache: ArrayCache | None = None) -> None:
        card, pipeline = model.card, model.card.pipeline
        assert pipeline is not None
        self.image = model.parts["image"]
        image = self.image.card
        assert image.embedding is not None
        self.image_outputs: tuple[str, ...] = (image.embedding,)
        self.templates = tuple(pipeline.parameters.get("templates", ("{}",)))
        self.text = TextEncoder(model.parts["text"], cache)
        data = read_arrays(card, model.folder)
        self._space = SharedSpace(data, pipeline.parameters)
        self._calibration = Calibration.of(pipeline.parameters)
        for tower in (image, model.parts["text"].card):
            _check_width(card, tower, self._space.dimensions)

    async def rows(self, labels: Sequence[str], templates: Sequence[str], options: Options, stages: Stages) -> Array:
        texts = await text_rows(self.text, labels, templates, options, stages)
        if len(labels) <= _INLINE_LABELS:
            return self._space.rows(labels, texts)
        return await asyncio.to_thread(self._space.rows, labels, texts)

    async def feature_rows(
        self, labels: Sequence[str], templates: Sequence[str], options: Options, stages: Stages
    ) -> Array:
        return (await self.rows(labels, templates, options, stages))[:, :-1]

    def score(self, outputs: Mapping[str, Tensor], rows: Array, sides: Array) -> Scored:
        return self._calibration.scored(self._space.evidence(outputs[self.image_outputs[0]], rows, sides))


def _check_width(card: Card, tower: Card, dimensions: int) -> None:
    """Raises ``model-parts-differ`` where a tower is another one than the arrays belong to."""
    widths = {spec.name: spec.shape[-1] for spec in tower.outputs}
    if widths.get(tower.embedding or "") != dimensions:
        raise Problem(
            Kind.UNAVAILABLE,
            "model-parts-differ",
            "The parts of the model do not fit each other",
            f"{card.name!r} was made for embeddings of {dimensions} numbers, which {tower.name!r} does not give.",
            remedy=f"Pull {card.name} again, so that it is made anew.",
        )
