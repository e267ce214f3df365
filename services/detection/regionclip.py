"""RegionCLIP (arXiv 2112.09106): proposals of a picture, each compared with texts and with example boxes.

The best anchors become proposals, their vectors are cut out of the picture's map, and class rows are what the text
tower says of a name in every template, averaged, or what the regions of example boxes are: regions and texts share one
space. A score is the share of a label among all that is asked for and the background, weighed by how likely the
proposal is a thing at all.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from models.regionclip.detections import ProposalRule, probabilities, proposals, ranking
from services.detection.protocol import MOST_BOXES, Array, Found, Vocabulary, present, suppressed
from services.encoding.class_rows import ClassRows, source_of
from services.encoding.images import INLINE_PIXELS, preprocessor, unit
from services.encoding.templates import fill
from services.encoding.texts import TextEncoder
from services.media.image import Picture
from services.media.preprocess import Placement
from services.runtime.protocol import ModelHandle, Options, Tensor, as_float32
from services.stages import Stages

AT_ONCE = 100
"""Regions that run together: each holds 0.8 MB of its map at first, and several times that later."""

_UNSAID = re.compile(r"[(),]")


@dataclass(frozen=True, slots=True)
class _Map:
    """A picture as regions are cut out of it: its tensor, what the network made of that, and where it lies there."""

    pixels: Tensor
    features: Tensor
    placement: Placement


class RegionCLIP:
    """Parts: ``maps``, ``anchors``, ``regions``, ``text``.

    Parameters: ``templates``, ``multiply_objectness``, ``anchors_per_level``, ``proposal_overlap``, ``most_proposals``.
    """

    takes_examples = True

    def __init__(self, model: ModelHandle, rows: ClassRows) -> None:
        pipeline = model.card.pipeline
        assert pipeline is not None
        told = pipeline.parameters
        self._maps, self._anchors, self._regions = (model.parts[role] for role in ("maps", "anchors", "regions"))
        self._text = TextEncoder(model.parts["text"], rows.texts)
        self._rows, self._source = rows, source_of(model)
        self._templates = tuple(told.get("templates", ("{}",)))
        self._multiply = bool(told.get("multiply_objectness", True))
        self._rule = ProposalRule(
            per_level=int(told.get("anchors_per_level", 1000)),
            overlap=float(told.get("proposal_overlap", 0.9)),
            most=min(int(told.get("most_proposals", MOST_BOXES)), MOST_BOXES),
        )
        self._presence = None if model.card.detection is None else model.card.detection.presence

    async def detect(
        self, pictures: Sequence[Picture], vocabularies: Sequence[Vocabulary], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        """One picture after the other: the proposals of one fill the machine."""
        known: dict[int, Array] = {}
        for picture, vocabulary in zip(pictures, vocabularies, strict=True):
            seen = await self._see(picture, options, stages)
            if id(vocabulary) not in known:
                known[id(vocabulary)] = await self._class_rows(vocabulary, picture, seen, options, stages)
            yield await self._find(seen, vocabulary, known[id(vocabulary)], options, stages)

    async def _see(self, picture: Picture, options: Options, stages: Stages) -> _Map:
        image = self._maps.card.image
        assert image is not None
        prepare = preprocessor(image)
        with stages.decoding():
            if picture.width * picture.height <= INLINE_PIXELS:
                pixels: Tensor = prepare.batch([picture])
            else:
                pixels = await asyncio.to_thread(prepare.batch, [picture])
        answer = await self._maps.infer({image.input: pixels}, ("features",), options)
        stages.ran(answer)
        placement = prepare.placement(picture.image.width, picture.image.height)
        return _Map(pixels, answer.outputs["features"], placement)

    async def _find(
        self, seen: _Map, vocabulary: Vocabulary, classes: Array, options: Options, stages: Stages
    ) -> Found:
        boxes, objectness = await self._propose(seen, options, stages)
        logits, found = [], []
        for start in range(0, len(boxes), AT_ONCE):
            outputs = await self._compare(seen, boxes[start : start + AT_ONCE], classes, options, stages)
            logits.append(outputs["logits"][0])
            found.append(outputs["detected_boxes"][0])

        begin = time.perf_counter()
        labels = len(vocabulary.labels)
        if not logits:
            nothing = np.zeros((0, labels), np.float32)
            return Found(np.zeros((0, 4), np.float32), nothing, present(nothing, self._presence))
        score = partial(self._scores, np.concatenate(logits), objectness, vocabulary)
        scores = score() if len(boxes) * labels <= INLINE_PIXELS else await asyncio.to_thread(score)
        shown = seen.placement.boxes_to_picture(as_float32(np.concatenate(found)))
        stages.encode += time.perf_counter() - begin
        return Found(shown, scores, present(scores, self._presence), proposals=len(boxes))

    def _scores(self, logits: Array, objectness: Array, vocabulary: Vocabulary) -> Array:
        shares = probabilities(as_float32(logits))[:, :-1]
        return suppressed(ranking(shares, objectness, "squash" if self._multiply else "ignore"), vocabulary)

    async def _propose(self, seen: _Map, options: Options, stages: Stages) -> tuple[Array, Array]:
        """Boxes ``(N, 4)`` in pixels of the tensor and objectness logits ``(N,)``, best first."""
        answer = await self._anchors.infer({"image": seen.pixels}, ("anchor_boxes", "objectness", "level"), options)
        stages.ran(answer)
        boxes, objectness, level = (answer.outputs[name][0] for name in ("anchor_boxes", "objectness", "level"))
        chosen = await asyncio.to_thread(proposals, boxes, objectness, level, self._rule)
        return as_float32(boxes[chosen]), as_float32(objectness[chosen])

    async def _compare(
        self, seen: _Map, boxes: Array, classes: Array, options: Options, stages: Stages
    ) -> dict[str, Tensor]:
        inputs = {"features": seen.features, "boxes": boxes[None], "classes": classes[None]}
        answer = await self._regions.infer(inputs, ("logits", "region_features", "detected_boxes"), options)
        stages.ran(answer)
        return answer.outputs

    async def _class_rows(
        self, vocabulary: Vocabulary, picture: Picture, seen: _Map, options: Options, stages: Stages
    ) -> Array:
        """``(L + M, D)`` unit rows: labels told by text, by example or by both, then negative labels.

        ``seen`` is the map of ``picture``, which examples may be of.
        """
        texts = await self._text_rows(vocabulary.texts, options, stages)
        examples = await self._example_rows(vocabulary, picture, seen, options, stages)
        rows = [texts[: vocabulary.named]]
        for label, row in sorted(examples.items()):
            if label < vocabulary.named:
                rows[0] = rows[0].copy()
                rows[0][label] = unit(rows[0][label] + row)
            else:
                rows.append(row[None])
        return np.concatenate([*rows, texts[vocabulary.named :]])

    async def _text_rows(self, texts: tuple[str, ...], options: Options, stages: Stages) -> Array:
        """``(C, D)``: the mean over templates of vectors as they are, made unit, which is the reference's way."""

        async def compute(some: Sequence[str]) -> Array:
            filled = [one for own in fill([_said(text) for text in some], self._templates) for one in own]
            embedded = await self._text.encode(filled, options, stages)
            return unit(embedded.reshape(len(some), len(self._templates), -1).mean(axis=1))

        if not texts:
            return np.zeros((0, self._width), np.float32)
        return await self._rows.get(self._source, texts, self._templates, compute, options.deadline)

    async def _example_rows(
        self, vocabulary: Vocabulary, picture: Picture, seen: _Map, options: Options, stages: Stages
    ) -> dict[int, Array]:
        """By label, the direction ``(D,)`` of the regions of its example boxes."""
        maps = {id(picture): seen}
        vectors: dict[int, list[Array]] = {}
        nothing = np.zeros((1, self._width), np.float32)
        for example in vocabulary.examples:
            if id(example.picture) not in maps:
                maps[id(example.picture)] = await self._see(example.picture, options, stages)
            shown = maps[id(example.picture)]
            box = shown.placement.boxes_to_tensor(np.array([example.box], np.float32))
            outputs = await self._compare(shown, box, nothing, options, stages)
            vectors.setdefault(example.label, []).append(unit(outputs["region_features"][0, 0]))
        return {label: unit(np.mean(some, axis=0)) for label, some in vectors.items()}

    @property
    def _width(self) -> int:
        """Numbers of a class row."""
        (spec,) = (spec for spec in self._regions.card.inputs if spec.name == "classes")
        return spec.shape[-1]


def _said(label: str) -> str:
    """A name as the publication writes it into a template.

    >>> _said("bow_(weapon)")
    'bow weapon'
    """
    return _UNSAID.sub("", label).replace("_", " ").replace("+", " ")
