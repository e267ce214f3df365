"""Classification as the gateway asks for it: finds the model, the labels, the scores, the best few."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import orjson

from models.catalog.card import Card
from services.classification import explain
from services.classification.answers import ClassifiedImage, ClassifyAnswer, ClassifyRequest
from services.classification.scores import Array, best, sigmoid, softmax
from services.classification.zero_shot import Scored, ZeroShot, does_not_classify, open_zero_shot
from services.encoding.cache import ArrayCache
from services.encoding.disk_cache import DiskCache
from services.encoding.images import run_images
from services.encoding.labels import check_labels, named_set, own_labels, positions
from services.encoding.templates import named
from services.errors import Kind, Problem
from services.media.image import Picture
from services.runtime.protocol import Backend, Options, Tensor
from services.settings import Settings
from services.stages import Stages

INLINE_SCORES = 50_000
"""Pictures times labels that are scored on the event loop; more go to a thread."""

KEPT_ON_DISK = 256
"""Texts (labels times templates) from which on class rows are kept on disk: fewer are sooner computed than worth it."""

PART_TEXTS = 256
"""Texts whose rows are kept while the others of a label set are still to come, a few seconds of a large text tower: a
request that runs out of time leaves the parts it had finished to the next."""


class Classification:
    """Over one backend, for one event loop.

    Class rows of label sets, and their texts, are kept in memory within ``settings.text_cache_bytes``; rows of many
    texts also on disk within ``settings.text_disk_cache_bytes``, for the other processes and the next start.
    """

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self._backend = backend
        self._settings = settings
        self._rows = ArrayCache(settings.text_cache_bytes)
        self._disk = DiskCache(settings.cache_dir / "class-rows", settings.text_disk_cache_bytes)
        self._opened: dict[str, tuple[Card, ZeroShot]] = {}
        self._opening = asyncio.Lock()

    async def classify(self, request: ClassifyRequest, options: Options, stages: Stages) -> ClassifyAnswer:
        """Raises :class:`Problem` ``model-*``, ``label-*``, ``labels-*``, ``template-*``, ``explain-unsupported``."""
        card = self._backend.card(request.model or self._settings.default_classifier, request.version)
        if request.explain:
            explain.explaining(self._backend, card)
        if card.pipeline is not None:
            return await self._open(request, card, options, stages)
        if card.logits is None or card.label_set is None:
            raise does_not_classify(card.name)
        return await self._closed(request, card, options, stages)

    async def _closed(self, request: ClassifyRequest, card: Card, options: Options, stages: Stages) -> ClassifyAnswer:
        assert card.logits is not None
        labels = own_labels(card, self._backend.folder(card.name, card.version))
        chosen = self._labels(request, required=False)
        places = None if chosen is None else positions(chosen, labels, card.name)
        wanted = (card.logits, explain.OUTPUT) if request.explain else (card.logits,)
        outputs = await run_images(self._backend, card, request.pictures, wanted, options, stages)
        begin = time.perf_counter()
        logits: Array = outputs[card.logits]
        if places is not None and chosen is not None:
            logits, labels = logits[:, places], chosen
        answer = await self._answer(request, card, Scored(logits), labels)
        if request.explain:
            answer = await self._explained(answer, card, request.pictures, outputs)
        stages.encode += time.perf_counter() - begin
        return answer

    async def _open(self, request: ClassifyRequest, card: Card, options: Options, stages: Stages) -> ClassifyAnswer:
        labels = self._labels(request, required=True)
        assert labels is not None
        model = await self._zero_shot(card)
        templates = _templates(request) or model.templates
        rows = await self._class_rows(card, model, labels, templates, options, stages)
        image_card = self._backend.card(model.image_model)
        wanted = (*model.image_outputs, explain.OUTPUT) if request.explain else model.image_outputs
        outputs = await run_images(self._backend, image_card, request.pictures, wanted, options, stages)
        begin = time.perf_counter()
        sides = np.array([min(picture.width, picture.height) for picture in request.pictures], np.float32)
        if len(request.pictures) * len(labels) <= INLINE_SCORES:
            scored = model.score(outputs, rows, sides)
        else:
            scored = await asyncio.to_thread(model.score, outputs, rows, sides)
        answer = await self._answer(request, card, scored, labels)
        if request.explain:
            answer = await self._explained(answer, image_card, request.pictures, outputs)
        stages.encode += time.perf_counter() - begin
        return answer

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

    async def _zero_shot(self, card: Card) -> ZeroShot:
        """Opened once for each version that is served, in a thread: its files may be megabytes."""
        known = self._opened.get(card.name)
        if known is None or known[0] != card:
            async with self._opening:
                known = self._opened.get(card.name)
                if known is None or known[0] != card:
                    folder = self._backend.folder(card.name, card.version)
                    opened = await asyncio.to_thread(open_zero_shot, self._backend, card, folder, self._rows)
                    known = self._opened[card.name] = (card, opened)
        return known[1]

    async def _class_rows(
        self,
        card: Card,
        model: ZeroShot,
        labels: tuple[str, ...],
        templates: tuple[str, ...],
        options: Options,
        stages: Stages,
    ) -> Array:
        """``(C, K)``: of the texts of few labels from memory, of many also from disk, part by part."""
        assert card.pipeline is not None
        makers = [card]  # the card of a pair of towers has no files of its own: a new text tower means new rows
        if card.pipeline.text_model is not None:
            makers.append(self._backend.card(card.pipeline.text_model))
        versions = [[maker.name, maker.version, sorted(maker.files.items())] for maker in makers]

        async def compute() -> Array:
            if len(labels) * len(templates) < KEPT_ON_DISK:
                return await model.rows(labels, templates, options, stages)
            whole = _digest(versions, labels, templates)
            rows = await asyncio.to_thread(self._disk.load, whole)
            if rows is None or len(rows) != len(labels):
                rows = await built(whole)
            return rows

        async def built(whole: str) -> Array:
            step = max(1, PART_TEXTS // len(templates))
            parts = {_digest(versions, some, templates): some for some in _pieces(labels, step)}
            rows = np.concatenate([await part(key, some) for key, some in parts.items()])
            await asyncio.to_thread(self._disk.join, whole, rows, parts)
            return rows

        async def part(key: str, some: tuple[str, ...]) -> Array:
            rows = await asyncio.to_thread(self._disk.load, key)
            if rows is None or len(rows) != len(some):
                rows = await model.rows(some, templates, options, stages)
                await asyncio.to_thread(self._disk.keep, key, rows)
            return rows

        try:
            return await self._rows.get(_digest(versions, labels, templates), compute, deadline=options.deadline)
        except Problem as problem:
            # Out of time, or refused because the rest would take longer than there is.
            if problem.kind in (Kind.DEADLINE, Kind.TOO_MANY) and len(labels) * len(templates) > PART_TEXTS:
                problem.remedy = "Ask again: what was embedded of the label set so far is kept, and the rest is less."
            raise

    async def _answer(
        self, request: ClassifyRequest, card: Card, scored: Scored, labels: Sequence[str]
    ) -> ClassifyAnswer:
        parts = (scored.logits, scored.none, scored.independent)
        if not all(np.isfinite(part).all() for part in parts if part is not None):
            raise Problem(
                Kind.INTERNAL, "model-not-finite", "The model's answer is not a number", f"{card.name} gave NaN."
            )
        if scored.logits.size <= INLINE_SCORES:
            results = _results(request, scored, labels)
        else:
            results = await asyncio.to_thread(_results, request, scored, labels)
        return ClassifyAnswer(card.name, card.version, results)

    @staticmethod
    async def _explained(
        answer: ClassifyAnswer, image_card: Card, pictures: Sequence[Picture], outputs: Mapping[str, Tensor]
    ) -> ClassifyAnswer:
        maps = await asyncio.to_thread(explain.explanations, image_card, pictures, outputs[explain.OUTPUT])
        results = [replace(result, explanation=one) for result, one in zip(answer.results, maps, strict=True)]
        return replace(answer, results=results)


def _pieces(labels: tuple[str, ...], step: int) -> list[tuple[str, ...]]:
    return [labels[start : start + step] for start in range(0, len(labels), step)]


def _templates(request: ClassifyRequest) -> tuple[str, ...] | None:
    if request.template_set is not None:
        return named(request.template_set)
    return None if request.templates is None else tuple(request.templates)


def _digest(versions: Sequence[object], labels: tuple[str, ...], templates: tuple[str, ...]) -> str:
    return hashlib.blake2b(orjson.dumps([versions, labels, templates]), digest_size=16).hexdigest()


def _results(request: ClassifyRequest, scored: Scored, labels: Sequence[str]) -> list[ClassifiedImage]:
    if request.multi_label:
        scores = sigmoid(scored.logits if scored.independent is None else scored.independent)
    else:
        scores = softmax(scored.logits)
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
