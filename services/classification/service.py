"""Classification as the gateway asks for it: finds the model, the labels, the scores, the best few."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.catalog.card import Card, OutputKind
from services.classification import explain
from services.classification.answers import ClassifiedImage, ClassifyAnswer, ClassifyRequest
from services.classification.scores import Array, best, scores_of
from services.classification.zero_shot import Scored, ZeroShot, does_not_classify, open_zero_shot
from services.encoding.class_rows import ClassRows, source_of
from services.encoding.images import run_images
from services.encoding.labels import check_labels, named_set, own_labels, positions
from services.encoding.opened import OpenedModels
from services.encoding.reading import LabelReadings
from services.encoding.templates import named
from services.errors import Kind, Problem
from services.media.image import Picture
from services.runtime.protocol import Backend, ModelHandle, Options, Tensor
from services.settings import Settings
from services.stages import Stages

INLINE_SCORES = 50_000
"""Pictures times labels that are scored on the event loop; more go to a thread."""


class Classification:
    """Over one backend, for one event loop. Class rows of label sets are kept: see :class:`ClassRows`."""

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self._backend = backend
        self._settings = settings
        self._rows = ClassRows(settings)
        self._readings = LabelReadings()
        self._opened = OpenedModels(self._open_kind)

    async def classify(
        self, model: ModelHandle, request: ClassifyRequest, options: Options, stages: Stages
    ) -> ClassifyAnswer:
        """Raises :class:`Problem` ``model-*``, ``label-*``, ``labels-*``, ``template-*``, ``explain-unsupported``.

        And ``text-too-long`` where the request forbids to cut.
        """
        card = model.card
        if request.explain:
            explain.explaining(self._backend, model)
        if card.pipeline is not None:
            return await self._open(model, request, options, stages)
        if "logits" not in card.roles or card.label_set is None:
            raise does_not_classify(card.name)
        return await self._closed(model, request, options, stages)

    async def _closed(
        self, model: ModelHandle, request: ClassifyRequest, options: Options, stages: Stages
    ) -> ClassifyAnswer:
        card = model.card
        output = card.roles["logits"]
        labels = own_labels(card, model.folder)
        chosen = self._labels(request, required=False)
        places = None if chosen is None else positions(chosen, labels, card.name)

        looked = card.modulation if request.explain else None
        wanted = (output,) if looked is None else (output, looked)
        outputs = await run_images(model, request.pictures, wanted, options, stages)

        begin = time.perf_counter()
        logits: Array = outputs[output]
        if places is not None and chosen is not None:
            logits, labels = logits[:, places], chosen
        answer = await self._answer(request, card, Scored(logits), labels)
        if looked is not None:
            answer = await self._explained(answer, card, request.pictures, outputs[looked])
        stages.encode += time.perf_counter() - begin
        return answer

    async def _open(
        self, model: ModelHandle, request: ClassifyRequest, options: Options, stages: Stages
    ) -> ClassifyAnswer:
        labels = self._labels(request, required=True)
        assert labels is not None
        kind, source = await self._opened.get(model)
        templates = _templates(request) or kind.templates
        reading = await self._readings.get(kind.text, source, labels, templates)
        if not request.truncate:
            sent = request.labels is not None
            reading.refuse_cuts("/labels" if sent else "/label_set", within=sent)

        async def compute(some: Sequence[str]) -> Array:
            return await kind.rows(some, templates, options, stages)

        rows = await self._rows.get(source, labels, templates, compute, options.deadline)
        looked = kind.image.card.modulation if request.explain else None
        wanted = kind.image_outputs if looked is None else (*kind.image_outputs, looked)
        outputs = await run_images(kind.image, request.pictures, wanted, options, stages)

        begin = time.perf_counter()
        sides = np.array([min(picture.width, picture.height) for picture in request.pictures], np.float32)
        if len(request.pictures) * len(labels) <= INLINE_SCORES:
            scored = kind.score(outputs, rows, sides)
        else:
            scored = await asyncio.to_thread(kind.score, outputs, rows, sides)
        answer = await self._answer(request, model.card, scored, labels)
        if looked is not None:
            answer = await self._explained(answer, kind.image.card, request.pictures, outputs[looked])
        stages.encode += time.perf_counter() - begin
        return replace(answer, reading=reading)

    def _open_kind(self, model: ModelHandle) -> tuple[ZeroShot, str]:
        """The kind of a version, and what its class rows are computed from. Its files may be megabytes."""
        return open_zero_shot(model, self._rows.texts), source_of(model)

    def _labels(self, request: ClassifyRequest, *, required: bool) -> tuple[str, ...] | None:
        if request.labels is not None:
            return check_labels(request.labels, self._settings.max_labels, self._settings.max_text_chars)
        if request.label_set is not None:
            return named_set(request.label_set)
        if required:
            raise Problem(
                Kind.INVALID,
                "labels-missing",
                "The model needs labels",
                "An open-vocabulary model is told what to look for.",
                pointer="/labels",
                remedy='Send labels, for instance ["a cat", "a dog"], or name a label_set.',
            )

        return None

    async def _answer(
        self, request: ClassifyRequest, card: Card, scored: Scored, labels: Sequence[str]
    ) -> ClassifyAnswer:
        parts = (scored.logits, scored.none, scored.independent)
        if not all(np.isfinite(part).all() for part in parts if part is not None):
            raise Problem(
                Kind.INTERNAL, "model-not-finite", "The model's answer is not a number", f"{card.name} gave NaN."
            )
        if scored.logits.size <= INLINE_SCORES:
            results = _results(request, card.output_kind, scored, labels)
        else:
            results = await asyncio.to_thread(_results, request, card.output_kind, scored, labels)
        return ClassifyAnswer(card.name, card.version, results)

    @staticmethod
    async def _explained(
        answer: ClassifyAnswer, image_card: Card, pictures: Sequence[Picture], looked: Tensor
    ) -> ClassifyAnswer:
        maps = await asyncio.to_thread(explain.explanations, image_card, pictures, looked)
        results = [replace(result, explanation=one) for result, one in zip(answer.results, maps, strict=True)]
        return replace(answer, results=results)


def _templates(request: ClassifyRequest) -> tuple[str, ...] | None:
    if request.template_set is not None:
        return named(request.template_set)
    return None if request.templates is None else tuple(request.templates)


def _results(
    request: ClassifyRequest, kind: OutputKind, scored: Scored, labels: Sequence[str]
) -> list[ClassifiedImage]:
    logits = scored.independent if request.multi_label and scored.independent is not None else scored.logits
    scores = scores_of(logits, kind, multi_label=request.multi_label)

    return [
        ClassifiedImage(
            index,
            picture.width,
            picture.height,
            best(scores[index], labels, request.top_k, request.threshold),
            None if scored.none is None else float(scored.none[index]),
        )
        for index, picture in enumerate(request.pictures)
    ]
