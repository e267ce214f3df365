"""A closed-set detector as one kind among the others: it looks for labels of its own set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

import numpy as np

from models.catalog.card import Card
from services.detection.closed_set import ClosedSet
from services.detection.kinds import does_not_detect
from services.detection.protocol import MOST_BOXES, Found, Vocabulary, present, suppressed
from services.encoding.images import preprocessor, run_images
from services.encoding.labels import own_labels, positions
from services.errors import Problem
from services.media.image import Picture
from services.runtime.protocol import ModelHandle, Options, Tensor
from services.stages import Stages

INLINE_SCORES = 50_000
"""Boxes times classes that are decoded on the event loop; more go to a thread."""


def is_closed_set(card: Card) -> bool:
    """Return whether a card is that of a detector with classes of its own, and says how it is read."""
    return card.task == "detect" and card.detection is not None and card.detection.decode is not None


class ClosedSetDetector:
    """Over one version whose card has ``detection.decode`` and ``label_set``. Raises ``model-does-not-detect``."""

    takes_examples = False

    def __init__(self, model: ModelHandle) -> None:
        if model.card.label_set is None or model.card.image is None or model.card.detection is None:
            raise does_not_detect(model.card.name)
        self._model = model
        self._presence = model.card.detection.presence
        self.labels = own_labels(model.card, model.folder)
        self._reader = ClosedSet(model.card, model.folder, len(self.labels))
        self._place = preprocessor(model.card.image).placement

    def columns(self, vocabulary: Vocabulary) -> list[int]:
        """Where the texts of ``vocabulary`` stand in the model's own set. Raises ``label-not-in-set``."""
        count = vocabulary.named
        try:
            return positions(vocabulary.texts, self.labels, self._model.card.name)
        except Problem as problem:
            index = int((problem.pointer or "/0").rpartition("/")[2])
            raise (problem if index < count else problem.at(f"/negative_labels/{index - count}")) from None

    async def detect(
        self, pictures: Sequence[Picture], vocabularies: Sequence[Vocabulary], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        """See :class:`~services.detection.protocol.OpenVocabulary`; labels must be of the model's own set."""
        chosen = [None if one.texts == self.labels else self.columns(one) for one in vocabularies]
        step = len(pictures) if self._reader.batched else 1
        for start in range(0, len(pictures), step):
            part = pictures[start : start + step]
            outputs = await run_images(self._model, part, self._reader.outputs, options, stages)
            size = sum(np.size(output) for output in outputs.values()) // len(part)
            for index, picture in enumerate(part):
                asked = (vocabularies[start + index], chosen[start + index])
                if size <= INLINE_SCORES:
                    yield self._found(outputs, index, picture, *asked)
                else:
                    yield await asyncio.to_thread(self._found, outputs, index, picture, *asked)

    def _found(
        self,
        outputs: Mapping[str, Tensor],
        index: int,
        picture: Picture,
        vocabulary: Vocabulary,
        columns: list[int] | None,
    ) -> Found:
        placed = self._place(picture.image.width, picture.image.height)
        boxes, scores = self._reader.read(outputs, index, placed.shape)
        proposals = len(boxes)
        if columns is not None:
            scores = suppressed(scores[:, columns], vocabulary)
        if proposals > MOST_BOXES:
            best = scores.max(axis=1, initial=0)
            likely = np.sort(np.argpartition(-best, MOST_BOXES)[:MOST_BOXES])
            boxes, scores = boxes[likely], scores[likely]
        return Found(placed.boxes_to_picture(boxes), scores, present(scores, self._presence), proposals=proposals)
