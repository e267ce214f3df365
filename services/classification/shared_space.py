"""Two towers of one space that also know what words mean: texts are joined with the definitions of what they name.

Knowledge beside the label text is K-LITE's idea (arXiv 2204.09222); here it is looked up in WordNet, as an embedding
that was made beforehand, and goes through a head of its own. The classes that the image model was trained on are points
of the space as well: they vote for labels that subsume them, and say when a picture shows something else. The arrays
are made by ``models/unicl/lite2/export.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import Card
from services.classification.meanings import Calibration, Evidence, Meanings, read_arrays
from services.classification.protocol import Array, Scored
from services.encoding.cache import ArrayCache
from services.encoding.class_rows import text_rows
from services.encoding.images import unit
from services.encoding.texts import TextEncoder
from services.errors import Kind, Problem
from services.runtime.protocol import ModelHandle, Options, Tensor
from services.stages import Stages

_INLINE_LABELS = 32
"""More labels are looked up and placed in a thread."""
_LABELS_AT_ONCE = 1024
"""Labels whose kernel is held at once."""


class SharedSpace:
    """The arithmetic: D dimensions, A anchors of meanings (V numbers each, M in their metric), N classes.

    ``parameters``: ``class_share`` (how much the best subsumed class counts), ``rank_penalty`` (see
    :class:`~services.classification.lexicon.Lexicon`), ``scale``, ``none``, ``alone``.
    """

    def __init__(self, data: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> None:
        self._metric: Array = data["meaning_metric"].astype(np.float32)  # (V, M)
        self._anchors: Array = data["meaning_anchors"].astype(np.float32)  # (A, M), unit
        self._coefficients: Array = data["meaning_coefficients"].astype(np.float32)  # (A, D)
        self._width, self._share = (np.float32(value) for value in data["meaning_scales"])
        self._classes: Array = data["classes"].astype(np.float32)  # (N, D), unit
        self._shifts: Array = data["shifts"].astype(np.float32)  # (K, D)
        self._class_share = float(parameters["class_share"])
        self._calibration = Calibration.of(parameters)
        self._meanings = Meanings(data, float(parameters["rank_penalty"]))
        self.lexicon = self._meanings.lexicon
        self.dimensions = self._classes.shape[1]

    def rows(self, labels: Sequence[str], texts: Array) -> Array:
        """``texts (C, D)``, unit, to ``(C, D + 1)``: the unit row, and the synset whose classes count too, or -1."""
        meant, voting = self._meanings.find(labels)
        joined = texts.copy()
        known = np.flatnonzero(meant >= 0)
        for begin in range(0, len(known), _LABELS_AT_ONCE):
            part = known[begin : begin + _LABELS_AT_ONCE]
            joined[part] += self._share * self._placed(self._meanings.vectors(meant[part]))
        return np.concatenate([unit(joined), voting[:, None].astype(np.float32)], axis=1)

    def _placed(self, meanings: Array) -> Array:
        """``(C, V)`` to unit rows ``(C, D)``: kernel regression."""
        cosines = unit(meanings @ self._metric) @ self._anchors.T
        return unit(np.exp(self._width * (cosines - 1)) @ self._coefficients)

    def evidence(self, embeddings: Array, rows: Array, sides: Array) -> Evidence:
        """Of pictures ``(B, D)`` whose shorter sides had ``sides (B,)`` pixels."""
        seen = unit(embeddings - self._meanings.side_weights(sides) @ self._shifts)
        voting = rows[:, -1].astype(np.int64)
        return self._meanings.vote(seen @ rows[:, :-1].T, seen @ self._classes.T, voting, self._class_share)

    def score(self, embeddings: Array, rows: Array, sides: Array) -> Scored:
        return self._calibration.scored(self.evidence(embeddings, rows, sides))


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
        return self._space.score(outputs[self.image_outputs[0]], rows, sides)


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
