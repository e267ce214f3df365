"""What an open-vocabulary detector can do, whatever it is made of: pictures and a vocabulary each to boxes with scores.

A *kind* is a class of one module of this room and a row of ``services.detection.kinds.KINDS``; the pipeline on a card
names it. It gets the handle of its model, whose ``parts`` are open, and the class rows that are kept. What is left out
of an answer (threshold, suppression, the best few) is the service's business, as is everything about HTTP.

A kind that cuts proposals out of pictures and compares them with texts::

    class ProposalText:
        takes_examples = True

        def __init__(self, model: ModelHandle, rows: ClassRows) -> None:
            pipeline = model.card.pipeline
            assert pipeline is not None
            self._model, self._rows, self._source = model, rows, source_of(model)
            self._text = TextEncoder(model.parts["text"], rows.texts)
            self._presence = None if model.card.detection is None else model.card.detection.presence

        async def detect(self, pictures, vocabularies, options, stages):
            for picture, vocabulary in zip(pictures, vocabularies, strict=True):
                rows = await self._rows.get(self._source, vocabulary.texts, TEMPLATES, compute, options.deadline)
                boxes, features = await self._regions(picture, options, stages)       # (N, 4), (N, D)
                scores = suppressed(sigmoid(features @ rows.T), vocabulary)           # (N, C) -> (N, L)
                yield Found(boxes, scores, present(scores, self._presence), proposals=len(boxes))
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.catalog.detection import Presence
from services.media.image import Picture
from services.runtime.protocol import Options
from services.stages import Stages

Array = NDArray[np.float32]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the picture as displayed."""

MOST_BOXES = 1000
"""A kind gives at most so many boxes a picture: with 10,000 labels their scores are 40 MB."""


@dataclass(frozen=True, slots=True)
class Example:
    """A part of a picture that shows what is looked for: ``box`` of ``picture``, for the label of that number."""

    label: int
    picture: Picture
    box: Box


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What to look for in one picture. Pictures of a request that are asked the same share one object.

    ``labels`` are the columns of the answer. The first ``named`` of them are told by their text, and by their examples
    too where they have some; those after are told by their examples alone, whatever they are called.
    ``negative_labels`` are things that must not be taken for one of the labels.

    >>> asked = Vocabulary(("person", "my part"), named=1, negative_labels=("statue",))
    >>> asked.texts
    ('person', 'statue')
    """

    labels: tuple[str, ...]
    named: int
    negative_labels: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()

    @staticmethod
    def of(labels: Sequence[str]) -> Vocabulary:
        """Labels alone."""
        return Vocabulary(tuple(labels), len(labels))

    @property
    def texts(self) -> tuple[str, ...]:
        """What is encoded as text: the named labels, then the negative ones."""
        return self.labels[: self.named] + self.negative_labels


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence about one picture, and the phrases in it that are looked for: ``spans`` of characters, in order."""

    text: str
    spans: tuple[tuple[int, int], ...]

    @property
    def phrases(self) -> tuple[str, ...]:
        return tuple(self.text[begin:end] for begin, end in self.spans)


@dataclass(frozen=True, slots=True)
class Found:
    """What one picture shows, nothing left out yet.

    ``boxes`` ``(N, 4) float32``: left, top, right, bottom in pixels of the picture, inside it, at most ``MOST_BOXES``.
    ``scores`` ``(N, L) float32``: the probability that a box shows a label (or a phrase), each by itself: they do not
    add up to 1 over the labels that happen to be asked for, and a picture of something else scores low in all.
    ``presence`` ``(L,) float32``: how likely a label is in the picture at all.

    ``proposals``: boxes that were looked at; ``tokens`` of text that were read for this picture, in ``chunks`` runs of
    the network: for usage figures, 0 and 1 where texts are encoded apart from pictures.
    """

    boxes: Array
    scores: Array
    presence: Array
    proposals: int = 0
    tokens: int = 0
    chunks: int = 1


class OpenVocabulary(Protocol):
    """One open-vocabulary detector. ``takes_examples``: it knows what to do with ``Vocabulary.examples``."""

    takes_examples: bool

    def detect(
        self, pictures: Sequence[Picture], vocabularies: Sequence[Vocabulary], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        """One :class:`Found` a picture, in order; its columns are the picture's ``labels``.

        A generator, so that the scores of one picture are dropped before those of the next are made; how many pictures
        run together is the kind's choice. Raises what the backend and the text encoder raise.
        """
        ...


@runtime_checkable
class GroundsCaptions(Protocol):
    """A kind that reads whole sentences (GLIP). To others a phrase is a label."""

    def ground(
        self, pictures: Sequence[Picture], captions: Sequence[Caption], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        """As :meth:`OpenVocabulary.detect`; columns are the ``spans`` of the picture's caption."""
        ...


def suppressed(scores: Array, vocabulary: Vocabulary) -> Array:
    """Scores ``(N, L)`` of the labels, from ``scores`` ``(N, L + M)`` of labels and then negative labels.

    A box that shows a negative label better than a label scores 0 for that label.
    """
    count = len(vocabulary.labels)
    wanted = scores[:, :count]
    if not vocabulary.negative_labels:
        return wanted
    against = scores[:, count:].max(axis=1, keepdims=True, initial=0)
    return np.where(wanted > against, wanted, np.float32(0))


def present(scores: Array, calibration: Presence | None) -> Array:
    """Presence ``(L,)`` of each label by its best box in ``scores`` ``(N, L)``; see :class:`Presence`."""
    best: Array = scores.max(axis=0, initial=0)
    if calibration is None:
        return best
    share = best.astype(np.float64).clip(1e-9, 1 - 1e-9)
    logits = calibration.slope * (np.log(share) - np.log1p(-share)) + calibration.offset
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)
