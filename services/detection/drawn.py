"""Detection and grounding in drawings: a small detector finds things, the image tower that taught it names them.

The head of ``glip-pocket`` reads texts, but what is in a box is named better by ``unicl-pocket`` on what is cut out of
the picture, at the picture's own resolution. Captions go through the head, whose tokens say which of several things a
phrase means; that one thing is left of another is read off the boxes too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.detection.caption_tokens import Relation, Said, phrase_tokens, tokenise
from services.detection.drawn_names import DrawnNames
from services.detection.drawn_scores import Proposals, Weights, named, proposals, related, sigmoid, told
from services.detection.protocol import Array, Box, Caption, Example, Found, Vocabulary, present, suppressed
from services.encoding.class_rows import ClassRows
from services.encoding.images import preprocessor, run_images, unit
from services.media.image import Picture
from services.runtime.problems import model_invalid
from services.runtime.protocol import ModelHandle, Options, as_float32
from services.stages import Stages

LEVELS = ("p3", "p4", "p5")
OUTPUTS = ("token_logits", "deltas", "centerness", "objectness")
TOKENS = 24
"""Most tokens that the head reads at once."""
PROPOSALS = 30
OVERLAP = 0.6
"""Proposals overlap less."""
MARGIN = 0.1
"""By which what is cut out is wider than the box."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one picture is asked: ``names (T, D)`` of labels or phrases, one each; ``tokens`` for the head, where in
    them each of the T is, those whose tokens count, and the relations."""

    names: Array
    tokens: tuple[str, ...]
    phrases: tuple[Said, ...]
    counted: tuple[int, ...]
    relations: tuple[Relation, ...] = ()

    def spans(self) -> list[tuple[int, int]]:
        """Tokens that the head reads together: whole phrases, at most ``TOKENS``; a longer one is cut."""
        spans: list[tuple[int, int]] = []
        for said in sorted(self.phrases, key=lambda said: said.first):
            if spans and said.last - spans[-1][0] <= TOKENS:
                spans[-1] = (spans[-1][0], said.last)
            else:
                spans.append((said.first, min(said.last, said.first + TOKENS)))
        return spans

    def within(self, span: tuple[int, int]) -> list[int]:
        """The phrases that count whose tokens all lie in ``span``."""
        places = [(number, self.phrases[number]) for number in self.counted]
        return [number for number, said in places if span[0] <= said.first and said.last <= span[1]]


class DrawnThings:
    """Parts: ``image`` and ``head`` (the two graphs of ``glip-pocket``), ``naming`` and ``text`` of one space."""

    takes_examples = True

    def __init__(self, model: ModelHandle, rows: ClassRows) -> None:
        card, pipeline = model.card, model.card.pipeline
        assert pipeline is not None
        self._image, self._head, self._naming = (model.parts[role] for role in ("image", "head", "naming"))
        self._names = DrawnNames(model, rows)
        self._presence = None if card.detection is None else card.detection.presence
        if self._image.card.image is None or self._naming.card.embedding is None:
            raise model_invalid(f"{card.name}: its parts take no pictures.", "Pull it again.")
        self._place = preprocessor(self._image.card.image)
        self._weights = Weights.of(card.name, pipeline.parameters)

    async def detect(
        self, pictures: Sequence[Picture], vocabularies: Sequence[Vocabulary], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        """See :class:`services.detection.protocol.OpenVocabulary`."""

        async def see(example: Example) -> Array:
            rows = await self._see(example.picture, [example.box], options, stages)
            return np.asarray(rows[0])

        for picture, vocabulary in zip(pictures, vocabularies, strict=True):
            names = await self._names.of_labels(vocabulary, see, options, stages)
            tokens: list[str] = []
            phrases: list[Said] = []
            for text in (*vocabulary.labels, *vocabulary.negative_labels):
                own = phrase_tokens(text)
                phrases.append(Said(len(tokens), len(tokens) + len(own)))
                tokens += own
            coloured = tuple(number for number, said in enumerate(phrases) if said.last - said.first > 1)
            asked = Asked(names, tuple(tokens), tuple(phrases), coloured)
            found = await self._answer(picture, asked, options, stages)
            scores = suppressed(found.scores, vocabulary)
            yield Found(
                found.boxes, scores, present(scores, self._presence),
                proposals=found.proposals, tokens=found.tokens, chunks=found.chunks,
            )  # fmt: skip

    async def ground(
        self, pictures: Sequence[Picture], captions: Sequence[Caption], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        """See :class:`services.detection.protocol.GroundsCaptions`."""
        for picture, caption in zip(pictures, captions, strict=True):
            said = tokenise(caption)
            names = await self._names.of(caption.phrases, options, stages)
            everything = tuple(range(len(said.phrases)))
            asked = Asked(names, said.tokens, said.phrases, everything, said.relations)
            yield await self._answer(picture, asked, options, stages)

    async def _answer(self, picture: Picture, asked: Asked, options: Options, stages: Stages) -> Found:
        """Boxes of the picture and scores ``(N, T)`` of all that is asked."""
        levels = await run_images(self._image, [picture], LEVELS, options, stages)
        spans = asked.spans()
        first = await self.ask(levels, asked.tokens[slice(*spans[0])], options, stages)
        placed = self._place.placement(picture.width, picture.height)
        deltas, centerness, objectness = (first[name][0] for name in OUTPUTS[1:])
        found = proposals(deltas, centerness, objectness, placed.shape[0], most=PROPOSALS, iou=OVERLAP)
        boxes = placed.boxes_to_picture(found.boxes)
        tokens, chunks = spans[0][1] - spans[0][0], 1

        scores = np.zeros((len(boxes), len(asked.names)), np.float32)
        if len(boxes):
            seen = await self._see(picture, [tuple(box) for box in boxes.tolist()], options, stages)
            fits = np.ones_like(scores)
            for span in spans:
                within = asked.within(span)
                if not within:
                    continue
                said = first
                if span != spans[0]:
                    said = await self.ask(levels, asked.tokens[slice(*span)], options, stages)
                    tokens, chunks = tokens + span[1] - span[0], chunks + 1
                own = [asked.phrases[number].moved(-span[0]) for number in within]
                fits[:, within] = told(sigmoid(said["token_logits"][0][found.places]), own, self._weights)
            begin = time.perf_counter()
            scores = await asyncio.to_thread(self._scores, found, seen, fits, asked)
            stages.encode += time.perf_counter() - begin
        return Found(boxes, scores, present(scores, self._presence), proposals=len(boxes), tokens=tokens, chunks=chunks)

    def _scores(self, found: Proposals, seen: Array, fits: Array, asked: Asked) -> Array:
        scores = named(found.sure, seen, asked.names, self._weights) * fits
        return related(scores, found.boxes, asked.relations, self._weights)

    async def ask(
        self, levels: Mapping[str, Array], tokens: Sequence[str], options: Options, stages: Stages
    ) -> dict[str, Array]:
        """What the head says of all places, with these tokens."""
        rows = as_float32((await self._names.tokens(tokens, options, stages))[None])
        inputs = {name: as_float32(levels[name]) for name in LEVELS}
        mask = np.ones(rows.shape[:2], np.int64)
        answer = await self._head.infer({**inputs, "rows": rows, "mask": mask}, OUTPUTS, options)
        stages.ran(answer)
        return {name: as_float32(answer.outputs[name]) for name in OUTPUTS}

    async def _see(self, picture: Picture, boxes: Sequence[Box], options: Options, stages: Stages) -> Array:
        """Unit rows ``(N, D)`` of what boxes of the picture show."""
        output = self._naming.card.embedding
        assert output is not None
        begin = time.perf_counter()
        cuts = [cut(picture, box) for box in boxes]
        stages.decode += time.perf_counter() - begin
        outputs = await run_images(self._naming, cuts, (output,), options, stages)
        return unit(as_float32(outputs[output]))


def cut(picture: Picture, box: Box) -> Picture:
    """What a box shows, a little wider, inside the picture and at least a pixel a side."""
    left, top, right, bottom = box
    wide, high = (right - left) * MARGIN / 2, (bottom - top) * MARGIN / 2
    x0 = int(min(max(left - wide, 0), picture.width - 1))
    y0 = int(min(max(top - high, 0), picture.height - 1))
    x1 = max(x0 + 1, min(round(right + wide), picture.width))
    y1 = max(y0 + 1, min(round(bottom + high), picture.height))
    return Picture(picture.image.crop((x0, y0, x1, y1)), x1 - x0, y1 - y0, picture.format)
