"""Open-vocabulary detection in photos: a detector of known classes proposes boxes, a region tower names them.

The proposals of a detector that knows 80 classes hold other things too, under wrong names and with low scores; what
they show is told by where they lie in a space of pictures and labels (RegionCLIP's way, arXiv 2112.09106). A label that
is a class of the detector is answered by the detector itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.catalog.labels import label_set
from services.detection.boxes import Indices, nms
from services.detection.photo_names import Columns
from services.detection.photo_scores import Array, Regions, Weights, features, named, shown
from services.detection.protocol import Found, Vocabulary, present, suppressed
from services.encoding.class_rows import ClassRows, source_of, text_rows
from services.encoding.images import preprocessor, run_images, unit
from services.encoding.meanings import read_arrays
from services.encoding.shared_space import SharedSpace
from services.encoding.texts import TextEncoder
from services.media.image import Picture
from services.runtime.problems import model_invalid
from services.runtime.protocol import ModelHandle, Options, as_float32
from services.stages import Stages

TEMPLATES = ("{}",)
CANDIDATES = 1000
"""Cells of the detector, the surest, that proposals are chosen of."""
PROPOSALS = 300
"""Boxes of a picture that are answered from."""
REGIONS = 100
"""The surest of them, which are named by the region tower; the rest has the detector's own classes alone."""
OVERLAP = 0.7
"""Proposals overlap less."""
SMALLEST_SIDE = 16.0
"""Of a region, in pixels of the tower's picture, when blur is corrected: smaller ones are taken for this."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """``boxes (N, 4)`` in pixels of the picture, the surest first, and class probabilities ``scores (N, C)``."""

    boxes: Array
    scores: Array


@dataclass(frozen=True, slots=True)
class Seen:
    """Regions of one picture in the space of labels: ``places (N, D)``, not unit, and ``sides (N,)``."""

    places: Array
    sides: Array


class PhotoDetector:
    """Parts: ``proposals``, a closed-set detector; ``regions``, whose inputs are ``image`` and ``boxes``; ``text``."""

    takes_examples = True

    def __init__(self, model: ModelHandle, rows: ClassRows) -> None:
        card, pipeline = model.card, model.card.pipeline
        assert pipeline is not None
        self._card = card
        self._proposer, self._tower = model.parts["proposals"], model.parts["regions"]
        self._rows, self._source = rows, source_of(model)
        self._text = TextEncoder(model.parts["text"], rows.texts)
        self._space = SharedSpace(read_arrays(card, model.folder), pipeline.parameters)
        names = self._proposer.card.label_set
        if names is None or self._tower.card.image is None:
            raise model_invalid(f"{card.name}: its parts are no detector and no region tower.", "Pull it again.")
        self.classes = tuple(label_set(names))
        self.columns = Columns(self.classes, self._space.lexicon)
        try:
            self._weights = Weights.of(pipeline.parameters)
        except (KeyError, ValueError) as error:
            raise model_invalid(f"{card.name}: pipeline: parameters: {error}.", "Pull it again.") from error

    async def detect(
        self, pictures: Sequence[Picture], vocabularies: Sequence[Vocabulary], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        """See :class:`services.detection.protocol.OpenVocabulary`."""
        for picture, vocabulary in zip(pictures, vocabularies, strict=True):
            proposals = await self.propose(picture, options, stages)
            columns = self.columns.of(vocabulary.texts)
            seen = None
            if (columns < 0).any() or vocabulary.examples:
                seen = await self.look(picture, proposals.boxes[:REGIONS], options, stages)

            rows, names = await self._class_rows(vocabulary.texts, columns, options, stages)
            taught = await self._examples(vocabulary, options, stages)
            begin = time.perf_counter()
            found = await asyncio.to_thread(self._found, vocabulary, proposals, seen, columns, rows, names, taught)
            stages.encode += time.perf_counter() - begin
            yield found

    async def propose(self, picture: Picture, options: Options, stages: Stages) -> Proposals:
        """The surest boxes, whatever they show, without those that show the same place."""
        card = self._proposer.card
        wanted = (card.roles["boxes"], card.roles["scores"])
        outputs = await run_images(self._proposer, [picture], wanted, options, stages)
        boxes, scores = (as_float32(outputs[name][0]) for name in wanted)
        assert card.image is not None
        placed = preprocessor(card.image).placement(picture.width, picture.height)
        return await asyncio.to_thread(_distinct, placed.boxes_to_picture(boxes), scores)

    async def look(self, picture: Picture, boxes: Array, options: Options, stages: Stages) -> Seen:
        """Where ``boxes (N, 4)`` of a picture lie in the space of labels."""
        spec = self._tower.card.image
        assert spec is not None
        if len(boxes) == 0:
            return Seen(np.zeros((0, self._space.dimensions), np.float32), np.zeros(0, np.float32))
        prepare = preprocessor(spec)
        begin = time.perf_counter()
        pixels = await asyncio.to_thread(prepare.batch, [picture])
        stages.decode += time.perf_counter() - begin
        placed = prepare.placement(picture.width, picture.height).boxes_to_tensor(boxes)
        answer = await self._tower.infer({spec.input: pixels, "boxes": placed[None]}, ("region_features",), options)
        stages.ran(answer)
        sides = np.sqrt((placed[:, 2:] - placed[:, :2]).clip(0).prod(axis=1))
        return Seen(as_float32(answer.outputs["region_features"][0]), np.asarray(sides, np.float32))

    async def label_rows(self, labels: Sequence[str], options: Options, stages: Stages) -> Array:
        """``(L, D + 1)``: see :class:`SharedSpace`; kept."""

        async def compute(part: Sequence[str]) -> Array:
            texts = await text_rows(self._text, part, TEMPLATES, options, stages)
            return await asyncio.to_thread(self._space.rows, part, texts)

        return await self._rows.get(self._source, tuple(labels), TEMPLATES, compute, options.deadline)

    def score(self, proposals: Proposals, seen: Seen, rows: Array, names: Array, hidden: Indices) -> Array:
        """Probabilities ``(N, L)`` of labels with ``rows (L, D + 1)``; ``names (C, D + 1)`` are the detector's classes.

        ``hidden (L,)``: a class of the detector that is not used for a label, or -1.
        """
        return named(self.table(proposals, seen, rows, names, hidden), self._weights)

    def table(self, proposals: Proposals, seen: Seen, rows: Array, names: Array, hidden: Indices) -> Array:
        """What :meth:`score` weighs: see :func:`services.detection.photo_scores.features`."""
        regions = Regions(proposals.scores[: len(seen.places)], seen.sides)
        evidence = self._space.evidence(seen.places, np.concatenate([rows, names]), seen.sides.clip(SMALLEST_SIDE))
        alike = unit(rows[:, :-1]) @ unit(names[:, :-1]).T
        # What is asked for does not compete with itself under the detector's name for it.
        twins = np.flatnonzero((alike > 1 - 1e-4).any(axis=0))
        evidence.cosines[:, len(rows) + twins] = -1
        return features(regions, evidence, alike, self._weights.scale, slice(0, len(rows)), hidden)

    async def _class_rows(
        self, texts: Sequence[str], columns: NDArray[np.int64], options: Options, stages: Stages
    ) -> tuple[Array, Array]:
        """Rows of the texts that the detector has no class for, and of its classes; none where all are classes."""
        unknown = [text for text, column in zip(texts, columns.tolist(), strict=True) if column < 0]
        width = self._space.dimensions + 1
        rows = await self.label_rows(unknown, options, stages) if unknown else np.zeros((0, width), np.float32)
        names = await self.label_rows(self.classes, options, stages) if unknown else np.zeros((0, width), np.float32)
        return rows, names

    async def _examples(self, vocabulary: Vocabulary, options: Options, stages: Stages) -> dict[int, Array]:
        """Unit places ``(E, D)`` of each label's examples, by the label's number."""
        taught: dict[int, list[Array]] = {}
        for example in vocabulary.examples:
            box = np.array([example.box], np.float32)
            seen = await self.look(example.picture, box, options, stages)
            taught.setdefault(example.label, []).append(unit(seen.places))
        return {label: np.concatenate(places) for label, places in taught.items()}

    def _found(
        self,
        vocabulary: Vocabulary,
        proposals: Proposals,
        seen: Seen | None,
        columns: NDArray[np.int64],
        rows: Array,
        names: Array,
        taught: dict[int, Array],
    ) -> Found:
        count, told = len(proposals.boxes), len(vocabulary.texts)
        scores = np.zeros((count, told), np.float32)
        own = np.flatnonzero(columns >= 0)
        scores[:, own] = proposals.scores[:, columns[own]]
        unknown = np.flatnonzero(columns < 0)
        if len(unknown) and seen is not None and len(seen.places):
            scores[: len(seen.places), unknown] = self.score(
                proposals, seen, rows, names, np.full(len(rows), -1, np.int64)
            )

        # Texts are named labels, then negative ones; labels told by examples alone stand between them.
        whole = np.zeros((count, len(vocabulary.labels) + len(vocabulary.negative_labels)), np.float32)
        whole[:, : vocabulary.named] = scores[:, : vocabulary.named]
        whole[:, len(vocabulary.labels) :] = scores[:, vocabulary.named :]
        if taught and seen is not None and len(seen.places):
            regions = Regions(proposals.scores[: len(seen.places)], seen.sides)
            places = unit(seen.places)
            nearest = self._space.nearest(places)
            for label, examples in taught.items():
                likeness = shown(regions, places @ examples.T, nearest, self._weights).max(axis=1)
                part = whole[: len(places), label]
                whole[: len(places), label] = np.maximum(part, likeness)

        wanted = suppressed(whole, vocabulary)
        calibration = None if self._card.detection is None else self._card.detection.presence
        return Found(proposals.boxes, wanted, present(wanted, calibration), proposals=count)


def _distinct(boxes: Array, scores: Array) -> Proposals:
    """Boxes of some area that overlap no surer one by more than :data:`OVERLAP`."""
    objectness = scores.max(axis=1)
    order = np.argsort(-objectness, kind="stable")[:CANDIDATES]
    order = order[((boxes[order, 2:] - boxes[order, :2]) > 1).all(axis=1)]
    kept = nms(boxes[order], objectness[order], np.zeros(len(order), np.int64), OVERLAP, most=PROPOSALS)
    chosen = order[kept]
    return Proposals(boxes[chosen], scores[chosen])
