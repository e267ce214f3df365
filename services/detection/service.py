"""Detection and grounding as the gateway asks for them: finds the detector, what it looks for, and the best boxes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

import numpy as np

from services.detection.answers import (
    DetectAnswer,
    DetectedImage,
    Detection,
    DetectRequest,
    GroundAnswer,
    GroundedImage,
    GroundedPhrase,
    GroundRequest,
    PhraseBox,
    Presence,
    Usage,
)
from services.detection.captions import captions_of, phrases_as_labels
from services.detection.closed_detector import ClosedSetDetector, is_closed_set
from services.detection.kinds import open_kind
from services.detection.protocol import Array, Box, Caption, Found, GroundsCaptions, OpenVocabulary, Vocabulary
from services.detection.rendering import Drawn, render
from services.detection.selection import Rule, Selection
from services.detection.vocabularies import check_examples, vocabularies_of
from services.encoding.class_rows import ClassRows
from services.encoding.opened import OpenedModels
from services.errors import Kind, Problem
from services.media.image import Picture
from services.runtime.protocol import Backend, ModelHandle, Options
from services.settings import Settings
from services.stages import Stages

MOST_PRESENCE = 200_000
"""Labels times pictures whose presence is answered; of more, the most likely of each picture."""

INLINE_SCORES = 50_000
"""Boxes times labels that are looked through on the event loop; more go to a thread."""


class Detecting:
    """Over one backend, for one event loop. Rows of label sets are kept: see :class:`ClassRows`."""

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self._settings = settings
        self._rows = ClassRows(settings)
        self._opened = OpenedModels(self._open)

    async def detect(
        self, model: ModelHandle, request: DetectRequest, options: Options, stages: Stages
    ) -> DetectAnswer:
        """Raises :class:`Problem` ``model-*``, ``label-*``, ``labels-*``, ``example-*``."""
        card = model.card
        detector = await self._opened.get(model)
        check_examples(request, self._settings, card.name, taken=detector.takes_examples)
        own = detector.labels if isinstance(detector, ClosedSetDetector) else None
        asked = vocabularies_of(request, self._settings, own)
        rule, usage = Rule.of(card, request.limits), Usage()

        results: list[DetectedImage] = []
        async with aclosing(detector.detect(request.pictures, asked, options, stages)) as finding:
            async for found in finding:
                index = len(results)
                vocabulary, picture = asked[index], request.pictures[index]
                begin = time.perf_counter()
                selection = await _select(rule, found, card.name)
                results.append(_detected(index, picture, vocabulary, selection, found.presence, len(request.pictures)))
                _use(usage, found, selection)
                stages.encode += time.perf_counter() - begin

        if request.render:
            await _render(request.pictures, results, [_drawn(result) for result in results], stages)
        stages.count(usage.counts())
        return DetectAnswer(card.name, card.version, results, usage)

    async def ground(
        self, model: ModelHandle, request: GroundRequest, options: Options, stages: Stages
    ) -> GroundAnswer:
        """Raises :class:`Problem` ``model-*``, ``caption-*``, ``phrase-*``."""
        card = model.card
        detector = await self._opened.get(model)
        if isinstance(detector, ClosedSetDetector):
            raise Problem(
                Kind.INVALID,
                "model-does-not-ground",
                "The model does not read captions",
                f"{card.name!r} finds the {len(detector.labels):,} classes of its own and nothing else.",
                pointer="/model",
                remedy="Use a model of task zero-shot-detect, or ask /v1/detect.",
            )
        captions = await captions_of(request, self._settings)
        if isinstance(detector, GroundsCaptions):
            grounding = detector.ground(request.pictures, captions, options, stages)
        else:
            grounding = phrases_as_labels(detector, request.pictures, captions, options, stages)
        rule, usage = Rule.of(card, request.limits), Usage()

        results: list[GroundedImage] = []
        async with aclosing(grounding) as finding:
            async for found in finding:
                index = len(results)
                begin = time.perf_counter()
                selection = await _select(rule, found, card.name)
                results.append(_grounded(index, request.pictures[index], captions[index], selection, found.presence))
                _use(usage, found, selection)
                stages.encode += time.perf_counter() - begin

        if request.render:
            await _render(request.pictures, results, [_drawn_phrases(result) for result in results], stages)
        stages.count(usage.counts())
        return GroundAnswer(card.name, card.version, results, usage)

    def _open(self, model: ModelHandle) -> OpenVocabulary:
        """The detector of a version. Its files may be megabytes."""
        if is_closed_set(model.card):
            return ClosedSetDetector(model)
        return open_kind(model, self._rows)


async def _select(rule: Rule, found: Found, model: str) -> Selection:
    if found.scores.size <= INLINE_SCORES:
        return rule.select(found, model)
    return await asyncio.to_thread(rule.select, found, model)


def _use(usage: Usage, found: Found, selection: Selection) -> None:
    usage.labels += len(found.presence)
    usage.prompt_tokens += found.tokens
    usage.chunks = max(usage.chunks, found.chunks)
    usage.proposals += found.proposals
    usage.boxes += len(selection.scores)


def _boxes(selection: Selection) -> list[Box]:
    return [(left, top, right, bottom) for left, top, right, bottom in selection.boxes.tolist()]


def _detected(
    index: int, picture: Picture, vocabulary: Vocabulary, selection: Selection, presence: Array, pictures: int
) -> DetectedImage:
    labels = vocabulary.labels
    rows = zip(selection.labels.tolist(), selection.scores.tolist(), _boxes(selection), strict=True)
    detections = [Detection(labels[label], score, box) for label, score, box in rows]
    return DetectedImage(
        index, picture.width, picture.height, detections, _presence(labels, presence, MOST_PRESENCE // pictures)
    )


def _presence(labels: Sequence[str], presence: Array, most: int) -> list[Presence]:
    told = list(range(len(labels)))
    if len(labels) > most:
        told = sorted(np.argsort(-presence, kind="stable")[:most].tolist())
    values = presence.tolist()
    return [Presence(labels[place], values[place]) for place in told]


def _grounded(index: int, picture: Picture, caption: Caption, selection: Selection, presence: Array) -> GroundedImage:
    found: list[list[PhraseBox]] = [[] for _ in caption.spans]
    rows = zip(selection.labels.tolist(), selection.scores.tolist(), _boxes(selection), strict=True)
    for phrase, score, box in rows:
        found[phrase].append(PhraseBox(box, score))
    phrases = [
        GroundedPhrase(text, span, boxes, share)
        for text, span, boxes, share in zip(caption.phrases, caption.spans, found, presence.tolist(), strict=True)
    ]
    return GroundedImage(index, picture.width, picture.height, caption.text, phrases)


async def _render(
    pictures: Sequence[Picture],
    results: Sequence[DetectedImage | GroundedImage],
    drawings: Sequence[Sequence[Drawn]],
    stages: Stages,
) -> None:
    begin = time.perf_counter()
    for picture, result, drawn in zip(pictures, results, drawings, strict=True):
        result.rendered = await asyncio.to_thread(render, picture, drawn)
    stages.encode += time.perf_counter() - begin


def _drawn(result: DetectedImage) -> list[Drawn]:
    colours = {label: place for place, label in enumerate(dict.fromkeys(one.label for one in result.detections))}
    return [Drawn(one.box, f"{one.label} {one.score:.2f}", colours[one.label]) for one in result.detections]


def _drawn_phrases(result: GroundedImage) -> list[Drawn]:
    drawn = [
        (one.score, Drawn(one.box, f"{phrase.text} {one.score:.2f}", place))
        for place, phrase in enumerate(result.phrases)
        for one in phrase.boxes
    ]
    return [one for _, one in sorted(drawn, key=lambda pair: -pair[0])]
