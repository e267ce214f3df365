"""Open-vocabulary classification by predicting the weight row that a closed classifier would have for a label.

A classifier's rows for known classes are regressed on what their names mean (kernel ridge over two kernels: sentence
embeddings of the names, and of WordNet's definitions). The same regression gives a row for any other label. A label
that WordNet knows to be, or to subsume, known classes is also scored by the best of those classes' own rows. The
arrays are made by ``models/zero_shot/fit.py``, which says where each formula comes from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import Card
from services.classification.calibration import Calibration
from services.classification.protocol import Array, Scored
from services.encoding.cache import ArrayCache
from services.encoding.class_rows import text_rows
from services.encoding.images import unit
from services.encoding.meanings import Evidence, Meanings, read_arrays
from services.encoding.texts import TextEncoder
from services.errors import Kind, Problem
from services.runtime.protocol import ModelHandle, Options, Tensor
from services.stages import Stages

_ROWS_AT_ONCE = 1024
"""Labels whose kernel is held at once: (1024, 1000) float32 is 4 MiB."""
_INLINE_LABELS = 32
"""More labels are looked up and predicted in a thread."""


class Predictor:
    """The arithmetic, on arrays of ``fit.py``; N classes, F features, R axes of the rows.

    ``parameters``: ``text_width``, ``knowledge_width``, ``text_weight`` (kernels), ``class_share`` (how much the best
    subsumed class counts), ``rank_penalty`` (see :class:`Lexicon`), ``scale``, ``none``, ``alone``.
    """

    def __init__(self, data: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> None:
        self._parameters = dict(parameters)
        self._texts: Array = data["class_texts"].astype(np.float32)  # (N, D)
        self._class_meanings: Array = data["class_meanings"].astype(np.float32)  # (N, V)
        self._coefficients: Array = data["coefficients"]  # (N, R)
        self._basis: Array = data["basis"]  # (F, R)
        self._class_rows: Array = data["class_rows"].astype(np.float32)  # (N, R), unit
        self._bias: Array = data["bias"]  # (N,)
        self._norms: Array = data["norms"]  # (N,)
        self._shifts: Array = data["shifts"].astype(np.float32)  # (K, F)
        self._shift_logits: Array = data["shift_logits"].astype(np.float32)  # (K, N)
        self._meanings = Meanings(data, float(parameters["rank_penalty"]))
        self.lexicon = self._meanings.lexicon
        self._class_places = {name: place for place, name in enumerate(self._meanings.class_names)}
        self._calibration = Calibration.of(parameters)

    def known_texts(self, labels: Sequence[str]) -> tuple[Array, list[int]]:
        """``(C, D)`` with the embeddings of labels that are names of classes; where the others stand."""
        places = [self._class_places.get(label, -1) for label in labels]
        texts = self._texts[places]
        return texts, [index for index, place in enumerate(places) if place < 0]

    def rows(self, labels: Sequence[str], texts: Array) -> Array:
        """``texts (C, D)``, unit, to ``(C, R + 1)``: the unit row, and the synset whose classes count too, or -1."""
        rows = np.empty((len(labels), self._coefficients.shape[1] + 1), np.float32)
        for begin in range(0, len(labels), _ROWS_AT_ONCE):
            part = slice(begin, begin + _ROWS_AT_ONCE)
            kernel, synsets = self._kernel(labels[part], texts[part])
            rows[part, :-1] = unit(kernel @ self._coefficients)
            rows[part, -1] = synsets
        return rows

    def _kernel(self, labels: Sequence[str], texts: Array) -> tuple[Array, NDArray[np.int64]]:
        parameters = self._parameters
        kernel = float(parameters["text_weight"]) * _bell(texts @ self._texts.T, float(parameters["text_width"]))
        meant, voting = self._meanings.find(labels)
        known = np.flatnonzero(meant >= 0)
        if len(known):
            meanings = self._meanings.vectors(meant[known])
            kernel[known] += _bell(meanings @ self._class_meanings.T, float(parameters["knowledge_width"]))
        return kernel, voting

    def feature_rows(self, rows: Array) -> Array:
        """Rows of :meth:`rows` as ``(C, F)`` unit directions; a label that subsumes classes leans towards them."""
        directions = rows[:, :-1].copy()
        share = float(self._parameters["class_share"])
        for index, synset in enumerate(rows[:, -1].astype(np.int64)):
            if synset >= 0:
                own, _ = self._meanings.members(np.array([synset]))
                directions[index] *= 1 - share
                directions[index] += share * unit(self._class_rows[own].mean(axis=0))
        return unit(directions @ self._basis.T)

    def score(self, features: Array, logits: Array, rows: Array, sides: Array) -> Scored:
        """``features (B, F)`` and ``logits (B, N)`` of pictures whose shorter sides had ``sides (B,)`` pixels."""
        return self._calibration.scored(self.evidence(features, logits, rows, sides))

    def evidence(self, features: Array, logits: Array, rows: Array, sides: Array) -> Evidence:
        """Return what the calibrated scores are computed from."""
        weights = self._meanings.side_weights(sides)  # (B, K)
        features = features - weights @ self._shifts
        length = np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
        raw = logits - self._bias - weights @ self._shift_logits
        centred = raw - raw.mean(axis=1, keepdims=True)
        classes: Array = np.divide(centred, length * self._norms)  # cosines (B, N)
        cosines = (features @ self._basis) @ rows[:, :-1].T / length  # (B, C)
        share = float(self._parameters["class_share"])
        return self._meanings.vote(cosines, classes, rows[:, -1].astype(np.int64), share)


def _bell(cosines: Array, width: float) -> Array:
    """The Gaussian kernel of unit vectors, from their cosines."""
    kernel: Array = np.exp(np.float32(width) * (cosines - 1))
    return kernel


class WeightPrediction:
    """:class:`Predictor` between an image classifier and a text encoder that the backend runs."""

    def __init__(self, model: ModelHandle, cache: ArrayCache | None = None) -> None:
        card, pipeline = model.card, model.card.pipeline
        assert pipeline is not None
        self.image = model.parts["image"]
        image = self.image.card
        assert image.embedding is not None and image.logits is not None
        self.image_outputs: tuple[str, ...] = (image.embedding, image.logits)
        self.templates = tuple(pipeline.parameters.get("templates", ("{}",)))
        self.text = TextEncoder(model.parts["text"], cache)
        data = read_arrays(card, model.folder)
        _check_parts(card, image, data)
        self._predictor = Predictor(data, pipeline.parameters)

    async def rows(self, labels: Sequence[str], templates: Sequence[str], options: Options, stages: Stages) -> Array:
        texts = await self._texts(labels, templates, options, stages)
        if len(labels) <= _INLINE_LABELS:
            return self._predictor.rows(labels, texts)
        return await asyncio.to_thread(self._predictor.rows, labels, texts)

    async def _texts(self, labels: Sequence[str], templates: Sequence[str], options: Options, stages: Stages) -> Array:
        """``(C, D)``; names of classes were embedded when the model was made."""
        if tuple(templates) != ("{}",):
            return await text_rows(self.text, labels, templates, options, stages)
        texts, missing = self._predictor.known_texts(labels)
        if missing:
            fresh = [labels[index] for index in missing]
            texts[missing] = await text_rows(self.text, fresh, templates, options, stages)
        return texts

    async def feature_rows(
        self, labels: Sequence[str], templates: Sequence[str], options: Options, stages: Stages
    ) -> Array:
        return self._predictor.feature_rows(await self.rows(labels, templates, options, stages))

    def score(self, outputs: Mapping[str, Tensor], rows: Array, sides: Array) -> Scored:
        features, logits = (outputs[name] for name in self.image_outputs)
        return self._predictor.score(features, logits, rows, sides)


def _check_parts(card: Card, image: Card, data: Mapping[str, NDArray[Any]]) -> None:
    """Raises ``model-parts-differ`` where the image model is another one than the arrays were fitted on."""
    widths = {spec.name: spec.shape[-1] for spec in image.outputs}
    features, classes = data["basis"].shape[0], data["bias"].shape[0]
    if (widths.get(image.embedding or ""), widths.get(image.logits or "")) != (features, classes):
        raise Problem(
            Kind.UNAVAILABLE,
            "model-parts-differ",
            "The parts of the model do not fit each other",
            f"{card.name!r} was made for {features} features and {classes} classes, which {image.name!r} has not.",
            remedy=f"Pull {card.name} again, so that it is made anew.",
        )
